"""A real S3 server: rclone's, with keys, over a folder in which each bucket is a folder."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from core.settings import Settings
from server.embedded.ports import free_port
from store.s3_access import S3Access, make_client
from tests.waiting import wait_until

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/x"
RCLONE = Path(sys.executable).parent / "rclone"


class S3Server:
    """One server, which a test may stop and start again."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "s3"
        self.root.mkdir()
        self._log = folder / "s3.log"
        self._port = free_port()
        self.access = S3Access(
            endpoint_url=f"http://127.0.0.1:{self._port}",
            region="us-east-1",
            access_key_id=secrets.token_hex(10),
            secret_access_key=secrets.token_hex(20),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        keys = f'"{self.access.access_key_id},{self.access.secret_access_key}"'
        command = [RCLONE, "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{self._port}", self.root]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | {"RCLONE_AUTH_KEY": keys}, stdout=log, stderr=log
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> "S3Client":
        """Return a client of its own, to look at what others have done and to do harm."""
        return make_client(self.access, self.access.endpoint_url)

    def environment(self, bucket: str) -> dict[str, str]:
        """What a process must be told to use a bucket as its store."""
        return {
            "FEWBITS_STORE_URL": f"s3://{bucket}/some/prefix",
            "FEWBITS_S3_ENDPOINT_URL": self.access.endpoint_url,
            "FEWBITS_S3_REGION": self.access.region,
            "FEWBITS_S3_ACCESS_KEY_ID": self.access.access_key_id,
            "FEWBITS_S3_SECRET_ACCESS_KEY": self.access.secret_access_key,
        }

    def settings(self, store_url: str, folder: Path, database_url: str = NO_DATABASE) -> Settings:
        """What a process that has a store here is told; its cache is in ``folder``."""
        return Settings(
            database_url=SecretStr(database_url),
            store_url=store_url,
            s3_endpoint_url=self.access.endpoint_url,
            s3_region=self.access.region,
            s3_access_key_id=SecretStr(self.access.access_key_id),
            s3_secret_access_key=SecretStr(self.access.secret_access_key),
            cache_root=folder / "cache",
        )
