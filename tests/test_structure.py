"""The shape of the project: what loads what, and that the documents know every setting, command and test."""

import re
import subprocess
import sys
import tomllib

import click
import pytest

from core.settings import Settings
from engines import gptqmodel, llama_cpp, llmcompressor, runtimes
from server.cli import main
from tests.conftest import REPOSITORY

LIGHT = [
    "api.app",
    "server.cli",
    "server.up",
    "workers.celery_app",
    "workers.dispatch",
    "workers.rescue",
    "workers.supervisor",
]
HEAVY = {
    "torch",
    "transformers",
    "numpy",
    "llama_cpp",
    "gguf",
    "conversion",
    "gptqmodel",
    "llmcompressor",
    "compressed_tensors",
}


@pytest.mark.parametrize("module", LIGHT)
def test_no_tensors_behind_the_light_processes(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert not HEAVY.intersection(output.split())


@pytest.mark.parametrize(
    ("engine", "package"),
    [
        (llama_cpp.VERSION, "llama-cpp-python"),
        (gptqmodel.VERSION, "gptqmodel"),
        (llmcompressor.VERSION, "llmcompressor"),
        (llmcompressor.VERSION, "compressed-tensors"),
        (runtimes.ENGINES["safetensors"], "transformers"),
        (runtimes.ENGINES["safetensors"], "torch"),
    ],
)
def test_the_versions_in_content_keys_are_those_that_are_pinned(engine: str, package: str) -> None:
    """A new version of an engine must not reuse the results of the old one."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pins = [*extras["cpu"], *extras["gpu"]]
    version = next(pin.removeprefix(f"{package}==") for pin in pins if pin.startswith(f"{package}=="))
    assert f"{package} {version}" in engine


def test_every_setting_is_documented() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    assert [name for name in Settings.model_fields if f"`FEWBITS_{name.upper()}`" not in text] == []


def test_every_command_is_documented() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    groups = [(name, command) for name, command in main.commands.items() if isinstance(command, click.Group)]
    names = [name for name, command in main.commands.items() if not isinstance(command, click.Group)]
    names += [f"{group} {name}" for group, command in groups for name in command.commands]
    assert [name for name in names if f"`{name}`" not in text and f"`fewbitsd {name}`" not in text] == []


def test_only_settings_read_the_environment() -> None:
    """One reader; the others build a child's environment, and are named here."""
    allowed = {"core/settings.py", "workers/process.py", "server/cli.py"}
    found = set()
    for folder in ("api", "core", "db", "engines", "pipeline", "server", "store", "workers"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            if "os.environ" in path.read_text() or "os.getenv" in path.read_text():
                found.add(str(path.relative_to(REPOSITORY)))
    assert found <= allowed


@pytest.mark.parametrize("page", ["trust.md", "reliability.md"])
def test_the_tests_that_a_page_names_are_there(page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text()
    named = re.findall(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?[^`]*`", text)
    assert named
    for path, test in named:
        assert (REPOSITORY / path).exists(), path
        assert not test or f"def {test}(" in (REPOSITORY / path).read_text(), test
