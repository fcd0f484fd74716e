"""What kustomize renders is what Kubernetes accepts, and runs what `fewbitsd up` runs. No cluster is asked."""

import copy
from typing import Any

import click
import kubernetes_validate
import pytest
from click.testing import CliRunner

from core.settings import Settings
from server import processes
from server.cli import main
from tests.k8s.rendered import (
    ALL,
    BASE,
    DEV,
    PRODUCTION,
    Object,
    Pod,
    environment,
    named,
    objects,
    of_kind,
    our_pods,
    pods,
    values,
)

NEWEST = "1.37"
OLDEST = "1.33"  # as k8s/README.md says


@pytest.fixture(scope="module", autouse=True)
def _read_schemas_once() -> Any:
    """The validator reads five megabytes of definitions for each object."""
    with pytest.MonkeyPatch.context() as patch:
        read: dict[tuple[str, str], Any] = {}
        load = kubernetes_validate.utils.schema_contents

        def cached(filename: str, version: str) -> Any:
            if (filename, version) not in read:
                read[filename, version] = load(filename, version)
            return read[filename, version]

        patch.setattr(kubernetes_validate.utils, "schema_contents", cached)
        yield


def check(document: Object, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("folder", ALL)
def test_every_object_is_one_that_kubernetes_knows(folder: str, version: str) -> None:
    for found in objects(folder):
        check(found, version)
        assert None not in list(values(found)), found["metadata"]["name"]


@pytest.mark.parametrize("where", ["object", "spec", "pod", "container", "probe", "policy"])
def test_an_unknown_field_is_refused(where: str) -> None:
    api, policy = (copy.deepcopy(named(BASE, *of)) for of in [("Deployment", "api"), ("NetworkPolicy", "to-api")])
    pod = api["spec"]["template"]["spec"]
    container = pod["containers"][0]
    nodes = {
        "object": api,
        "spec": api["spec"],
        "pod": pod,
        "container": container,
        "probe": container["livenessProbe"]["httpGet"],
        "policy": policy["spec"]["ingress"][0],
    }
    document = policy if where == "policy" else api
    check(document, NEWEST)
    nodes[where]["resourcez"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="resourcez"):
        check(document, NEWEST)


@pytest.mark.parametrize("folder", ALL)
def test_a_cluster_runs_what_up_runs(folder: str) -> None:
    commands = {pod.name: tuple(pod.main["command"]) for pod in our_pods(folder)}
    assert commands == {**processes.COMMANDS, "migrate": processes.MIGRATE}
    assert not [pod for pod in our_pods(folder) if "args" in pod.main]


@pytest.mark.parametrize("folder", ALL)
def test_every_pool_has_a_worker(folder: str) -> None:
    (pool,) = [parameter for parameter in main.commands["worker"].params if parameter.name == "pool"]
    assert isinstance(pool.type, click.Choice)
    commands = [pod.main["command"] for pod in our_pods(folder)]
    assert {command[-1] for command in commands if "--pool" in command} == set(pool.type.choices)


def commands(pod: Pod) -> list[list[str]]:
    probes = [pod.main[name] for name in ("startupProbe", "livenessProbe") if name in pod.main]
    asked = [probe["exec"]["command"] for probe in probes if "exec" in probe]
    return [*(container["command"] for container in pod.containers), *asked]


@pytest.mark.parametrize("pod", our_pods(PRODUCTION), ids=str)
def test_every_command_is_one_of_ours(pod: Pod) -> None:
    for program, *arguments in commands(pod):
        assert program == processes.PROGRAM
        answer = CliRunner().invoke(main, [*arguments, "--help"])
        assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize("pod", our_pods(*ALL), ids=str)
def test_every_variable_is_a_setting(pod: Pod) -> None:
    known = {f"FEWBITS_{name.upper()}" for name in Settings.model_fields}
    for container in pod.containers:
        assert set(environment(pod.folder, container)) <= known


@pytest.mark.parametrize("pod", our_pods(DEV), ids=str)
def test_every_value_is_accepted(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    for container in pod.containers:
        with monkeypatch.context() as patch:
            for name, value in environment(pod.folder, container).items():
                patch.setenv(name, value)
            here = Settings()
        if pod.name == "api":
            port = container["ports"][0]
            assert (here.api_host, here.api_port) == ("0.0.0.0", port["containerPort"])  # noqa: S104 - in a pod


NEEDS = {
    "api": {"postgres", "store"},
    "dispatch": {"postgres", "broker"},
    "rescue": {"postgres", "store"},
    "worker-cpu": {"postgres", "broker", "store"},
    "worker-gpu": {"postgres", "broker", "store"},
    "migrate": {"postgres"},
}


@pytest.mark.parametrize("pod", our_pods(*ALL), ids=str)
def test_a_component_gets_the_secrets_that_it_needs(pod: Pod) -> None:
    assert pod.secrets == NEEDS[pod.name]


@pytest.mark.parametrize("folder", ALL)
def test_what_refers_to_something_finds_it(folder: str) -> None:
    accounts = {account["metadata"]["name"] for account in of_kind(folder, "ServiceAccount")}
    for pod in pods(folder):
        assert pod.workload["spec"].get("selector", {"matchLabels": {}})["matchLabels"].items() <= pod.labels.items()
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in pod.workload["spec"].get("volumeClaimTemplates", [])}
        for container in pod.containers:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    assert {pod.spec["serviceAccountName"] for pod in our_pods(folder)} == accounts
    assert len(accounts) == len(our_pods(folder))
    for service in of_kind(folder, "Service"):
        (pod,) = [pod for pod in pods(folder) if service["spec"]["selector"].items() <= pod.labels.items()]
        assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in pod.main["ports"]}
    for budget in of_kind(folder, "PodDisruptionBudget"):
        assert [pod for pod in pods(folder) if budget["spec"]["selector"]["matchLabels"].items() <= pod.labels.items()]


def test_the_ingress_leaves_it_to_the_api_to_say_what_is_too_large() -> None:
    (ingress,) = of_kind(PRODUCTION, "Ingress")
    limit = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert limit.endswith("m")
    assert int(limit[:-1]) * 2**20 > Settings.model_fields["dataset_bytes_max"].default
