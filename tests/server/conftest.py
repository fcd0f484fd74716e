import stat
import subprocess
import sys
from pathlib import Path

import pytest

from server.embedded.postgres import running_postgres

PASSWORD = "a-password"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "postgres"
    with running_postgres(folder, PASSWORD, durable=False):
        return folder


@pytest.fixture
def cluster(made_once: Path, tmp_path: Path) -> Path:
    """A copy of a cluster that was stopped in good order."""
    subprocess.run(["cp", "-a", made_once, tmp_path / "postgres"], check=True)
    return tmp_path / "postgres"


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program to run in place of fewbitsd."""
    program = tmp_path_factory.mktemp("bin") / "fewbitsd"
    program.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("stand_in.py").read_text())
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program
