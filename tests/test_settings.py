"""A process that cannot work says which variable is at fault, before it does anything."""

import os
import re
import subprocess
import sys

import pytest

from core.settings import Settings
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
    assert names in refusal(command, environment)


@pytest.mark.parametrize("value", [str(10**18), "inf", "nan"])
def test_a_time_that_postgres_could_not_reckon_with_is_named(value: str) -> None:
    """Else only its use would show it, long after the start: at each submit, at each look for garbage."""
    variables = [f"FEWBITS_{name.upper()}" for name in Settings.model_fields if name.endswith("_seconds")]
    refused = refusal(["rescue"], DATABASE | STORE | dict.fromkeys(variables, value)).splitlines()[1:]
    assert [line.partition(":")[0].strip() for line in refused] == variables
    if value.isdecimal():
        assert [line for line in refused if not re.search(r"should be less than or equal to \d+$", line)] == []


def refusal(command: list[str], environment: dict[str, str]) -> str:
    """Return what a process says that cannot start."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEWBITS_")}
    program = [sys.executable, "-c", "from server.cli import main; main()", *command]
    ended = subprocess.run(
        program, env=clean | environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("fewbits cannot start:")
    assert "Traceback" not in ended.stderr
    return ended.stderr
