"""How pods start, are asked whether they live, and end; what they may use."""

import annotated_types
import pytest

from core.settings import Settings
from server import processes
from server.supervision import STOP_SECONDS
from tests.k8s.rendered import ALL, BASE, DEV, PRODUCTION, Pod, bytes_of, environment, of_kind, our_pods, pods
from workers.node import JITTER

LOOPS = {"dispatch", "rescue", "worker-cpu", "worker-gpu"}


def looping(*folders: str) -> list[Pod]:
    return [pod for pod in our_pods(*folders) if pod.name in LOOPS]


@pytest.mark.parametrize("folder", ALL)
def test_the_api_is_asked_over_http(folder: str) -> None:
    (api,) = [pod.main for pod in our_pods(folder) if pod.name == "api"]
    paths = {name: api[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {api[name]["httpGet"]["port"] for name in paths} == {"http"}


def longest_seconds(setting: str) -> float:
    (limit,) = [rule for rule in Settings.model_fields[setting].metadata if isinstance(rule, annotated_types.Le)]
    assert isinstance(limit.le, int)
    return limit.le


@pytest.mark.parametrize("pod", looping(*ALL), ids=str)
def test_a_loop_is_asked_for_its_heartbeat(pod: Pod) -> None:
    file = environment(pod.folder, pod.main)["FEWBITS_HEARTBEAT_FILE"]
    assert "emptyDir" in pod.volume_at(file)
    for name in ("startupProbe", "livenessProbe"):
        command = pod.main[name]["exec"]["command"]
        assert command[:-1] == [processes.PROGRAM, "alive", file, "--within"]
        between_turns = max(longest_seconds("poll_seconds") * (1 + JITTER), longest_seconds("rescue_seconds"))
        assert float(command[-1]) > 2 * between_turns
    assert pod.main["livenessProbe"]["failureThreshold"] > 1


@pytest.mark.parametrize("pod", looping(*ALL), ids=str)
def test_a_loop_starts_once_the_schema_is_there(pod: Pod) -> None:
    (first,) = pod.spec["initContainers"]
    assert tuple(first["command"]) == processes.AWAIT_SCHEMA


@pytest.mark.parametrize("pod", our_pods(*ALL), ids=str)
def test_a_pod_is_given_longer_to_end_than_up_gives_it(pod: Pod) -> None:
    before = pod.main.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod.spec["terminationGracePeriodSeconds"] > before + STOP_SECONDS


@pytest.mark.parametrize("pod", pods(*ALL), ids=str)
def test_every_container_asks_for_what_it_uses(pod: Pod) -> None:
    for container in pod.containers:
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, container["name"]
        assert "memory" in container["resources"]["limits"], container["name"]
    for volume in pod.spec.get("volumes", []):
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": None}), volume["name"]


@pytest.mark.parametrize("pod", [pod for pod in our_pods(*ALL) if "worker" in pod.name], ids=str)
def test_a_worker_fills_no_volume_beyond_its_limit(pod: Pod) -> None:
    """The file system of an emptyDir does not show its limit, and a pod that passes it is evicted."""
    here = environment(pod.folder, pod.main)
    limits = []
    for what in ("SCRATCH", "CACHE"):
        limits.append(bytes_of(pod.volume_at(here[f"FEWBITS_{what}_ROOT"])["emptyDir"]["sizeLimit"]))
        assert int(here[f"FEWBITS_{what}_BYTES_MAX"]) <= 0.9 * limits[-1]
    assert pod.folder == DEV or bytes_of(pod.main["resources"]["requests"]["ephemeral-storage"]) >= sum(limits)
    (threads,) = [variable for variable in pod.main["env"] if variable["name"] == "FEWBITS_CHILD_THREADS"]
    assert threads["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"


@pytest.mark.parametrize("folder", [BASE, PRODUCTION])
def test_a_gpu_worker_gets_a_gpu(folder: str) -> None:
    (pod,) = [pod for pod in our_pods(folder) if pod.name == "worker-gpu"]
    assert pod.main["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert [toleration["key"] for toleration in pod.spec["tolerations"]] == ["nvidia.com/gpu"]
    assert pod.spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod.workload["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_trying_it_out_needs_no_gpu() -> None:
    assert "nvidia" not in str(of_kind(DEV, "Deployment"))


@pytest.mark.parametrize("folder", [BASE, PRODUCTION])
def test_the_api_survives_the_loss_of_a_node(folder: str) -> None:
    (api,) = [pod for pod in our_pods(folder) if pod.name == "api"]
    assert api.workload["spec"]["replicas"] >= 2
    assert api.workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert api.spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert [budget["metadata"]["name"] for budget in of_kind(folder, "PodDisruptionBudget")] == ["api"]
