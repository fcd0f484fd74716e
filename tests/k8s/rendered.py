"""The manifests as kustomize renders them, and what is looked up in them."""

import base64
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

K8S = REPOSITORY / "k8s"
BASE, DEV, PRODUCTION = "base", "overlays/dev", "overlays/production"
ALL = (BASE, DEV, PRODUCTION)
COMPONENT = "app.kubernetes.io/component"
OURS = {"app.kubernetes.io/name": "fewbits"}
WORKLOADS = ("Deployment", "StatefulSet", "Job")
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

Object = dict[str, Any]


@functools.cache
def objects(folder: str) -> tuple[Object, ...]:
    """Return what ``kubectl kustomize`` makes of a folder of ``k8s/``."""
    kubectl = Path(sys.executable).parent / "kubectl"
    rendered = subprocess.run([kubectl, "kustomize", K8S / folder], capture_output=True, text=True, check=True)
    assert rendered.stderr == ""
    return tuple(yaml.safe_load_all(rendered.stdout))


def of_kind(folder: str, *kinds: str) -> list[Object]:
    return [found for found in objects(folder) if found["kind"] in kinds]


def named(folder: str, kind: str, name: str) -> Object:
    (found,) = [candidate for candidate in of_kind(folder, kind) if candidate["metadata"]["name"] == name]
    return found


@dataclass(frozen=True)
class Pod:
    """The pods of one workload."""

    folder: str
    workload: Object

    def __str__(self) -> str:
        return f"{self.folder} {self.name}"

    @property
    def name(self) -> str:
        return str(self.workload["metadata"]["name"])

    @property
    def labels(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.workload["spec"]["template"]["metadata"]["labels"]
        return found

    @property
    def ours(self) -> bool:
        return self.labels.items() >= OURS.items()

    @property
    def spec(self) -> Object:
        found: Object = self.workload["spec"]["template"]["spec"]
        return found

    @property
    def main(self) -> Object:
        (container,) = self.spec["containers"]
        return dict(container)

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def secrets(self) -> set[str]:
        """The Secrets that its container takes its environment from, without the hash of a generated one."""
        references = [source["secretRef"]["name"] for source in self.main["envFrom"] if "secretRef" in source]
        return {name.partition("-")[0] for name in references}

    def volume_at(self, path: str) -> Object:
        (mount,) = [mount for mount in self.main["volumeMounts"] if path.startswith(mount["mountPath"])]
        (volume,) = [volume for volume in self.spec["volumes"] if volume["name"] == mount["name"]]
        return dict(volume)


def pods(*folders: str) -> list[Pod]:
    return [Pod(folder, workload) for folder in folders for workload in of_kind(folder, *WORKLOADS)]


def our_pods(*folders: str) -> list[Pod]:
    return [pod for pod in pods(*folders) if pod.ours]


def environment(folder: str, container: Object) -> dict[str, str]:
    """Return the variables of a container as far as the manifests know them."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        ((kind, reference),) = source.items()
        if kind == "configMapRef":
            found |= named(folder, "ConfigMap", reference["name"])["data"]
        elif of_kind(folder, "Secret"):
            data = named(folder, "Secret", reference["name"])["data"]
            found |= {name: base64.b64decode(value).decode() for name, value in data.items()}
    for variable in container.get("env", []):
        found[variable["name"]] = variable.get("value", "1")  # a number that the cluster knows
    return found


def bytes_of(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a label selector selects a pod."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def policies_on(pod: Pod) -> list[Object]:
    policies = of_kind(pod.folder, "NetworkPolicy")
    return [policy for policy in policies if matches(policy["spec"]["podSelector"], pod.labels)]


def values(node: Any) -> Iterator[Any]:
    """Yield every value in a document that holds no others."""
    if isinstance(node, dict):
        for value in node.values():
            yield from values(value)
    elif isinstance(node, list):
        for value in node:
            yield from values(value)
    else:
        yield node
