"""A process that cannot work says which variable is at fault, before it does anything."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

DATABASE = {"FEWBITS_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}
STORE = {"FEWBITS_STORE_URL": "file:///tmp/store"}


@pytest.mark.parametrize(
    ("command", "environment", "names"),
    [
        (["dispatch"], {}, "FEWBITS_DATABASE_URL"),
        (["dispatch"], DATABASE, "FEWBITS_BROKER_URL"),
        (["worker", "--pool", "cpu"], DATABASE | STORE, "FEWBITS_BROKER_URL"),
        (["rescue"], DATABASE, "FEWBITS_STORE_URL"),
        (["rescue"], DATABASE | {"FEWBITS_STORE_URL": "ftp://x"}, "FEWBITS_STORE_URL"),
        (["rescue"], DATABASE | {"FEWBITS_STORE_URL": "s3:///no-bucket"}, "FEWBITS_STORE_URL"),
        (["rescue"], DATABASE | STORE | {"FEWBITS_S3_ACCESS_KEY_ID": "x"}, "FEWBITS_S3_SECRET_ACCESS_KEY"),
        (["rescue"], DATABASE | STORE | {"FEWBITS_S3_SECRET_ACCESS_KEY": "x"}, "FEWBITS_S3_ACCESS_KEY_ID"),
        (["rescue"], DATABASE | STORE | {"FEWBITS_S3_ENDPOINT_URL": "minio:9000"}, "FEWBITS_S3_ENDPOINT_URL"),
        (["rescue"], DATABASE | STORE | {"FEWBITS_LEASE_SECONDS": "0"}, "FEWBITS_LEASE_SECONDS"),
        (["rescue"], DATABASE | STORE | {"FEWBITS_SOURCE_ROOTS": "models"}, "FEWBITS_SOURCE_ROOTS"),
        (["migrate"], {"FEWBITS_DATABASE_URL": "mysql://x"}, "FEWBITS_DATABASE_URL"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(command: list[str], environment: dict[str, str], names: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEWBITS_")}
    program = [sys.executable, "-c", "from server.cli import main; main()", *command]
    ended = subprocess.run(
        program, env=clean | environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("fewbits cannot start:")
    assert names in ended.stderr
    assert "Traceback" not in ended.stderr
