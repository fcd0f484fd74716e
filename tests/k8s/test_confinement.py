"""What a pod may do is what it needs: no root, no token, no way out but to what it works with, no open secret."""

from typing import get_args

import pytest
import yaml
from pydantic import SecretStr

from core.settings import Settings
from tests.k8s.rendered import (
    ALL,
    BASE,
    COMPONENT,
    DEV,
    K8S,
    PRODUCTION,
    Object,
    Pod,
    environment,
    matches,
    named,
    objects,
    of_kind,
    our_pods,
    pods,
    policies_on,
    values,
)

EXAMPLE = K8S / PRODUCTION / "secrets.example.yaml"
SECRET = {
    f"FEWBITS_{name.upper()}"
    for name, field in Settings.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
}
NOBODYS = "192.0.2."  # for documentation: RFC 5737


@pytest.mark.parametrize("pod", pods(*ALL), ids=str)
def test_no_pod_has_more_rights_than_it_needs(pod: Pod) -> None:
    security = pod.spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
    assert not [volume for volume in pod.spec.get("volumes", []) if "hostPath" in volume]
    for container in pod.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("folder", ALL)
def test_nothing_enters_or_leaves_unless_it_is_listed(folder: str) -> None:
    spec = named(folder, "NetworkPolicy", "deny-all")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of_kind(folder, "NetworkPolicy"):
        selected = [pod for pod in pods(folder) if matches(policy["spec"]["podSelector"], pod.labels)]
        assert selected, policy["metadata"]["name"]
        for rule in [*policy["spec"].get("egress", []), *policy["spec"].get("ingress", [])]:
            assert rule["ports"]
            assert rule.get("to") or rule.get("from")


@pytest.mark.parametrize("pod", our_pods(*ALL), ids=str)
def test_a_pod_reaches_what_it_has_a_secret_for(pod: Pod) -> None:
    names = {policy["metadata"]["name"] for policy in policies_on(pod)}
    assert names >= {"deny-all", "to-dns"}
    assert {name.removeprefix("to-") for name in names if "Egress" in policy_types(pod.folder, name)} == {
        "deny-all",
        "dns",
        *pod.secrets,
    }
    assert ("to-api" in names) == (pod.name == "api")


def policy_types(folder: str, name: str) -> list[str]:
    found: list[str] = named(folder, "NetworkPolicy", name)["spec"]["policyTypes"]
    return found


def peers(policy: Object) -> list[Object]:
    (rule,) = policy["spec"]["egress"]
    return list(rule["to"])


@pytest.mark.parametrize("what", ["postgres", "broker", "store"])
def test_what_may_be_reached_in_dev_lets_the_same_pods_in(what: str) -> None:
    out, into = (named(DEV, "NetworkPolicy", name)["spec"] for name in (f"to-{what}", f"from-fewbits-to-{what}"))
    (way_out,), (way_in,) = out["egress"], into["ingress"]
    assert way_in["from"] == [{"podSelector": out["podSelector"]}]
    assert way_out["to"] == [{"podSelector": into["podSelector"]}]
    assert way_in["ports"][0]["port"] == way_out["ports"][0]["port"]
    (pod,) = [pod for pod in pods(DEV) if pod.labels[COMPONENT] == what]
    assert pod.main["ports"][0]["containerPort"] == way_in["ports"][0]["port"]


def test_production_reaches_nothing_until_addresses_are_filled_in() -> None:
    for what in ("postgres", "broker", "store"):
        (peer,) = peers(named(PRODUCTION, "NetworkPolicy", f"to-{what}"))
        assert peer["ipBlock"]["cidr"].startswith(NOBODYS)


@pytest.mark.parametrize("folder", [BASE, PRODUCTION])
def test_no_secret_is_written_down(folder: str) -> None:
    assert of_kind(folder, "Secret") == []
    for pod in our_pods(folder):
        for container in pod.containers:
            assert not SECRET & environment(folder, container).keys()
    written = [value for found in objects(folder) for value in values(found) if isinstance(value, str)]
    assert not [value for value in written if "://" in value]


def test_the_example_of_secrets_is_whole_and_holds_none() -> None:
    examples = list(yaml.safe_load_all(EXAMPLE.read_text()))
    wanted = {secret for pod in our_pods(PRODUCTION) for secret in pod.secrets}
    assert {example["metadata"]["name"] for example in examples} == wanted
    assert {example["metadata"]["namespace"] for example in examples} == {"fewbits"}
    given = {name: value for example in examples for name, value in example["stringData"].items()}
    assert given.keys() <= {f"FEWBITS_{name.upper()}" for name in Settings.model_fields}
    assert given.keys() >= SECRET
    assert not [name for name, value in given.items() if "REPLACE-ME" not in value and "example.com" not in value]
    assert EXAMPLE.name not in (K8S / PRODUCTION / "kustomization.yaml").read_text().split("resources:")[1]


@pytest.mark.parametrize("folder", [DEV, PRODUCTION])
def test_everything_lies_in_a_namespace_that_allows_only_restricted_pods(folder: str) -> None:
    (namespace,) = of_kind(folder, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = [found for found in objects(folder) if found is not namespace]
    assert {found["metadata"]["namespace"] for found in inside} == {namespace["metadata"]["name"]}
