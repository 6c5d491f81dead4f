"""What holds for every workload of every site: hardened, bounded, evictable, of this release."""

import ipaddress
import re
import tomllib
from typing import Any

import pytest

from services.video.inspecting_process import PROCESSES_MAX
from services.video.inspecting_worker import MEMORY_BYTES_MAX
from tests.contract.deployments import IMAGE, K8S, SITES, WITH_DATABASE, Document, Pod, Site, matches, site
from tests.contract.documents import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
DOCUMENTATION = [ipaddress.IPv4Network(f"{start}.0/24") for start in ("192.0.2", "198.51.100", "203.0.113")]
CONNECTIONS_BESIDE_THE_POOL = 5
"""For one pod: it listens, keeps one for lone records, and its gate looks at the schema."""
CONNECTIONS_RESERVED = 20
"""For migrations, the operator, backups and people."""


def containers(built: Site) -> list[tuple[Pod, Document]]:
    return [(pod, container) for pod in built.pods for container in pod.containers()]


def amount(quantity: str) -> float:
    """Return a quantity of Kubernetes as a number: cores or bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|Ti|)", str(quantity)).groups()  # type: ignore[union-attr]  # else it fails
    factors = {"": 1.0, "m": 0.001, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
    return float(number) * factors[unit]


def replicas_max(built: Site, deployment: str) -> int:
    """Return how many pods of a Deployment there may be, a roll-out's extra one among them."""
    scalers = [
        scaler["spec"]["maxReplicas"]
        for scaler in built.of_kind("HorizontalPodAutoscaler")
        if scaler["spec"]["scaleTargetRef"]["name"] == deployment
    ]
    (found,) = [one["spec"] for one in built.of_kind("Deployment") if one["metadata"]["name"] == deployment]
    return int(scalers[0] if scalers else found["replicas"]) + int(found["strategy"]["rollingUpdate"]["maxSurge"])


@pytest.mark.parametrize("name", SITES)
def test_pods_are_restricted(name: str) -> None:
    """The profile "restricted" of Pod Security Standards, which the namespace enforces, and a read-only root."""
    for pod in site(name).pods:
        context = pod.spec["securityContext"]
        expected = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert {key: context[key] for key in expected} == expected, pod.name
        assert min(context["runAsUser"], context["runAsGroup"], context["fsGroup"]) > 1000, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.name
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
        assert not [volume for volume in pod.volumes().values() if "hostPath" in volume], pod.name
    for pod, container in containers(site(name)):
        expected_container: Document = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["securityContext"] == expected_container, f"{pod.name} {container['name']}"


@pytest.mark.parametrize("name", SITES)
def test_the_namespace_enforces_the_restricted_profile(name: str) -> None:
    (namespace,) = site(name).of_kind("Namespace")

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", SITES)
def test_containers_have_requests_and_limits(name: str) -> None:
    for pod, container in containers(site(name)):
        resources = container["resources"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        for what, requested in resources["requests"].items():
            assert 0 < amount(requested) <= amount(resources["limits"][what]), f"{pod.name} {container['name']} {what}"


@pytest.mark.parametrize("name", SITES)
def test_temporary_files_are_bounded(name: str) -> None:
    unbounded = [
        f"{pod.name} {key}"
        for pod in site(name).pods
        for key, volume in pod.volumes().items()
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]
    ]

    assert unbounded == []


@pytest.mark.parametrize("name", SITES)
def test_images_are_pinned_and_this_project_s_are_of_this_release(name: str) -> None:
    images = [container["image"] for _, container in containers(site(name))]
    images += [cluster["spec"]["imageName"] for cluster in site(name).of_kind("Cluster")]
    pinned = re.compile(r"[a-z0-9./-]+(:[0-9][\w.-]*)(@sha256:[0-9a-f]{64})?")

    assert [image for image in images if not pinned.fullmatch(image)] == []
    assert {image for image in images if image.startswith(IMAGE)} == {f"{IMAGE}:{VERSION}"}


@pytest.mark.parametrize("name", SITES)
def test_migrations_are_named_by_the_release(name: str) -> None:
    suffix = VERSION.replace(".", "-")

    assert site(name).names("Job") == {f"{service}-migrate-{suffix}" for service in WITH_DATABASE}


@pytest.mark.parametrize("name", SITES)
def test_what_runs_for_long_has_a_budget_that_lets_one_pod_be_evicted(name: str) -> None:
    for pod in site(name).pods:
        if pod.owner["kind"] == "Job":
            continue
        budgets = [
            budget["spec"]
            for budget in site(name).of_kind("PodDisruptionBudget")
            if matches(budget["spec"]["selector"], pod.labels)
        ]
        assert len(budgets) == 1, pod.name
        assert (budgets[0]["maxUnavailable"], "minAvailable" in budgets[0]) == (1, False), pod.name


@pytest.mark.parametrize("name", SITES)
def test_pods_of_a_service_are_spread_over_nodes_and_zones(name: str) -> None:
    for pod in site(name).pods:
        if pod.owner["kind"] == "Deployment":
            spread = pod.spec["topologySpreadConstraints"]
            keys = {entry["topologyKey"] for entry in spread if matches(entry["labelSelector"], pod.labels)}
            assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, pod.name


@pytest.mark.parametrize("name", SITES)
def test_a_number_of_pods_is_given_once(name: str) -> None:
    """By the Deployment or by an autoscaler; with both every apply would undo what the other decided."""
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in site(name).of_kind("HorizontalPodAutoscaler")}
    counted = {one["metadata"]["name"] for one in site(name).of_kind("Deployment") if "replicas" in one["spec"]}

    assert scaled | counted == site(name).names("Deployment")
    assert scaled & counted == set()


@pytest.mark.parametrize("name", SITES)
def test_a_relay_with_an_upstream_runs_once(name: str) -> None:
    """Two would send everything up twice; without an upstream any number is right."""
    has_upstream = any(key.startswith("upstream-") for key in site(name).config_maps())
    (relay,) = [one for one in site(name).of_kind("Deployment") if one["metadata"]["name"] == "relay"]

    assert relay["spec"]["replicas"] == (1 if has_upstream else 2)


@pytest.mark.parametrize("name", SITES)
def test_the_database_has_connections_for_all_pods(name: str) -> None:
    for cluster in site(name).of_kind("Cluster"):
        wanted = CONNECTIONS_RESERVED + sum(
            replicas_max(site(name), service) * (10 + CONNECTIONS_BESIDE_THE_POOL) for service in WITH_DATABASE
        )
        assert int(cluster["spec"]["postgresql"]["parameters"]["max_connections"]) >= wanted


def strings(value: Any) -> list[str]:
    """Return all texts in a document."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", SITES)
def test_networks_are_those_kept_for_documents(name: str) -> None:
    """An example that opens or reaches a real network would one day be used as it is."""
    texts = [text for document in site(name).documents for text in strings(document)]
    networks = [ipaddress.IPv4Network(text) for text in texts if re.fullmatch(r"\d+(\.\d+){3}/\d+", text)]

    assert [network for network in networks if not any(network.subnet_of(one) for one in DOCUMENTATION)] == []


@pytest.mark.parametrize("name", SITES)
def test_hosts_are_in_the_cluster_or_made_up(name: str) -> None:
    built = site(name)
    hosts = {container["image"].partition("/")[0] for _, container in containers(built)}
    hosts |= {cluster["spec"]["imageName"].partition("/")[0] for cluster in built.of_kind("Cluster")}
    hosts |= {host for one in built.of_kind("Certificate") for host in one["spec"]["dnsNames"]}
    for settings in built.config_maps().values():
        hosts |= {value.rpartition(":")[0] for value in settings.values() if ":" in value}

    # A name without a dot is looked up in the namespace.
    assert {host for host in hosts if "." in host and not host.endswith(".example")} == set()
    assert len(hosts) > 3


def test_alarms_name_metrics_that_there_are() -> None:
    told = set(
        re.findall(r"`(zhichao_[a-z_]+?)(?:`|\{)", (ROOT / "docs/operate/metrics.md").read_text(encoding="utf-8"))
    )
    rules = (K8S / "components/metrics/rules.yaml").read_text(encoding="utf-8")
    used = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in re.findall(r"\bzhichao_[a-z_]+", rules)}

    assert used - told == set()
    assert len(used) > 10


@pytest.mark.parametrize("name", SITES)
def test_three_hostile_files_at_once_do_not_exceed_the_memory_of_a_pod(name: str) -> None:
    """Two processes look into uploads, one draws; else one file would end the service and everybody's uploads."""
    (container,) = next(pod for pod in site(name).pods if pod.name == "Deployment/video").spec["containers"]
    drawing = 1
    service = 150 * 1_000_000

    needed = (PROCESSES_MAX + drawing) * MEMORY_BYTES_MAX + service

    assert amount(container["resources"]["limits"]["memory"]) >= needed
