"""The set-up's own parts: what it says when it cannot go on, and when it knows that it is done. Nothing is built."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup import stamp
from setup.exclusive import exclusive
from setup.install import CHECKOUT, pip_environment
from setup.llama_wheel import BUILD_PINS, REQUIREMENT, cache_folder, require_wheel_or_means, wheel_key
from setup.pins import pins_of
from setup.problems import SetupError, require_compiler, require_room, require_writable
from setup.steps import Steps
from setup.supported import problem_of


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "client").mkdir()
    for name in stamp.INPUTS:
        (tmp_path / name).write_text(f"contents of {name}")
    return tmp_path


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "python3.11").touch()
    (programs / "python").symlink_to(tmp_path / "python3.11")
    return programs.parent


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(1, tmp_path / "build" / "setup.log")


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_python_is_no_problem(version: tuple[int, int]) -> None:
    assert problem_of("linux", *version) == ""


@pytest.mark.parametrize(
    ("platform", "version", "words"),
    [
        ("linux", (2, 7), "Python 2.7 is too old"),
        ("linux", (3, 10), "Python 3.10 is too old"),
        ("darwin", (3, 14), "Python 3.14 is too new"),
        ("win32", (3, 11), "inside WSL"),
    ],
)
def test_other_python_says_what_to_do(platform: str, version: tuple[int, int], words: str) -> None:
    assert words in problem_of(platform, *version)


def test_supported_python_agrees_with_the_package() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py", "supported.py"])
def test_what_an_old_python_reads_has_no_newer_syntax(name: str) -> None:
    tree = ast.parse((CHECKOUT / "setup" / name).read_text(), feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]


def test_no_compiler_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"No C compiler found.*\n.*apt install g"):
        require_compiler({"PATH": str(tmp_path)})


def test_chosen_compiler_that_is_missing_is_named() -> None:
    with pytest.raises(SetupError, match="looked for no-such-cc"):
        require_compiler({"PATH": os.environ["PATH"], "CC": "no-such-cc -m64"})


def test_compiler_that_cannot_compile_shows_why(tmp_path: Path) -> None:
    for name in ("cc", "c++"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'fatal: no headers' >&2\nexit 1\n")
        program.chmod(0o755)
    with pytest.raises(SetupError, match="no headers"):
        require_compiler({"PATH": str(tmp_path)})


def test_wheel_in_the_cache_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setup.llama_wheel.this_key", lambda: "key")
    with pytest.raises(SetupError, match="compiler"):
        require_wheel_or_means(tmp_path, {"PATH": ""})
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "llama.whl").touch()
    require_wheel_or_means(tmp_path, {"PATH": ""})


def test_full_disk_says_how_much_is_needed(tmp_path: Path) -> None:
    require_room(tmp_path, 1, "This")
    with pytest.raises(SetupError, match=r"This needs 1048576\.0 GiB, but .* GiB free"):
        require_room(tmp_path, 1 << 50, "This")


def test_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"cannot be created.*\nUse another"):
        require_writable(tmp_path / "file" / "folder", "Use another.")


def test_cache_folder_follows_the_environment(tmp_path: Path) -> None:
    home = Path.home() / ".cache" / "fewbits"
    assert cache_folder({}) == home
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == home
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "fewbits"
    assert cache_folder({"XDG_CACHE_HOME": "/x", "FEWBITS_CACHE_DIR": str(tmp_path)}) == tmp_path


def test_wheel_key_changes_with_all_that_shapes_the_wheel() -> None:
    keys = {wheel_key("a", "linux x86_64"), wheel_key("b", "linux x86_64"), wheel_key("a", "linux aarch64")}
    assert len(keys) == 3
    assert wheel_key("# a better comment\na", "linux x86_64") in keys


def test_llama_cpp_has_one_version_and_a_hash() -> None:
    requirement = REQUIREMENT.read_text()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = next(name for name in project["optional-dependencies"]["cpu"] if name.startswith("llama"))
    assert f"\n{wanted} " in requirement
    assert "--hash=sha256:" in requirement
    assert all("==" in line for line in BUILD_PINS.read_text().splitlines() if not line.startswith("#"))


def test_stamp_survives_being_written(checkout: Path, venv: Path) -> None:
    wanted = stamp.wanted(checkout, "3.11", "key")
    assert stamp.read(venv) is None
    stamp.write(venv, wanted)
    assert stamp.read(venv) == wanted
    stamp.remove(venv)
    assert stamp.read(venv) is None


def test_stamp_of_a_replaced_python_does_not_count(checkout: Path, venv: Path) -> None:
    stamp.write(venv, stamp.wanted(checkout, "3.11", "key"))
    (checkout / "python3.11").rename(checkout / "python3.13")
    assert stamp.read(venv) is None
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to(checkout / "python3.13")
    assert stamp.read(venv) is None


def test_damaged_stamp_does_not_count(venv: Path) -> None:
    for damage in ("", "[]", "{}", '{"interpreter": 1}'):
        (venv / stamp.NAME).write_text(damage)
        assert stamp.read(venv) is None


@pytest.mark.parametrize("name", stamp.INPUTS)
def test_changed_input_asks_for_installing_again(checkout: Path, name: str) -> None:
    before = stamp.wanted(checkout, "3.11", "key")
    (checkout / name).write_text("changed")
    after = stamp.wanted(checkout, "3.11", "key")
    assert after.place == before.place
    assert after.contents != before.contents


def test_moved_checkout_or_other_python_asks_for_a_new_environment(checkout: Path) -> None:
    before = stamp.wanted(checkout, "3.11", "key")
    assert stamp.wanted(checkout, "3.12", "key").place != before.place
    moved = checkout.with_name("moved")
    shutil.copytree(checkout, moved)
    assert stamp.wanted(moved, "3.11", "key").place != before.place
    assert stamp.wanted(moved, "3.11", "key").contents == before.contents


def test_pip_keeps_the_registries_and_loses_what_misleads() -> None:
    kept = pip_environment({"PIP_INDEX_URL": "x", "PIP_TARGET": "y", "PYTHONPATH": "z", "PIP_USER": "1"})
    assert kept["PIP_INDEX_URL"] == "x"
    assert kept["PIP_USER"] == "0"
    assert kept["PATH"]
    assert not {"PIP_TARGET", "PYTHONPATH"} & set(kept)


def test_pins_leave_out_our_own_packages_and_local_versions() -> None:
    assert pins_of("fewbits==0.1.0\ntorch==2.13.0+cpu\npip==1\nx==2\nnote\n") == ["torch==2.13.0", "x==2"]


def test_constraints_pin_what_the_project_asks_for() -> None:
    pins = {line.lower().replace("_", "-") for line in (CHECKOUT / "constraints.txt").read_text().splitlines()}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(name for group in project["optional-dependencies"].values() for name in group)]
    exact = {re.sub(r"\[.*\]", "", name).lower() for name in asked if "==" in name}
    assert exact <= pins


def test_failed_command_shows_its_last_lines_and_the_log(steps: Steps, capfd: pytest.CaptureFixture[str]) -> None:
    steps.begin("failing", "at once")
    program = "print('first'); print('the reason'); raise SystemExit(3)"
    with pytest.raises(SetupError, match=r"exit status 3(.|\n)*the reason\n.*setup\.log"):
        steps.run([sys.executable, "-c", program], os.environ)
    assert capfd.readouterr().out == "[1/1] failing (at once)\n"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    program = (
        "import sys; from pathlib import Path; from setup.exclusive import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def test_second_set_up_waits_for_the_first(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said: list[str] = []

    def let_go(message: str, **_options: object) -> None:
        said.append(message)
        assert holder.stdin is not None
        holder.stdin.close()

    monkeypatch.setattr("setup.exclusive.print", let_go, raising=False)
    with exclusive(tmp_path):
        assert holder.wait() == 0
    assert len(said) == 1
