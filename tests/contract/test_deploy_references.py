"""What a document of a site names is there: labels, ports, volumes, Secrets; and the network lets through what has to
pass and nothing else.
"""

import re
from collections.abc import Iterator

import pytest

from tests.contract.deployments import SERVICES, SITES, WITH_DATABASE, Document, Peer, Site, is_allowed, matches, site
from tests.contract.documents import ROOT
from tools.release import dashed, version_of

KUBERNETES_GUIDE = ROOT / "docs" / "operate" / "kubernetes.md"
MADE_BY_THE_DATABASE_OPERATOR = {"database-ca"}


def selectors(built: Site) -> Iterator[tuple[str, Document]]:
    """Yield every selector of pods, with the document that it stands in."""
    for document in built.of_kind("Service"):
        yield f"Service/{document['metadata']['name']}", {"matchLabels": document["spec"]["selector"]}
    for document in built.of_kind("Deployment", "StatefulSet", "PodDisruptionBudget"):
        yield f"{document['kind']}/{document['metadata']['name']}", document["spec"]["selector"]
    for document in built.of_kind("NetworkPolicy"):
        name = f"NetworkPolicy/{document['metadata']['name']}"
        yield name, document["spec"]["podSelector"]
        for rule in (*document["spec"].get("ingress", []), *document["spec"].get("egress", [])):
            for peer in (*rule.get("from", []), *rule.get("to", [])):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield name, peer["podSelector"]


@pytest.mark.parametrize("name", SITES)
def test_every_selector_selects_something(name: str) -> None:
    labels = site(name).labels_of_pods().values()
    idle = [
        (where, selector)
        for where, selector in selectors(site(name))
        if not any(matches(selector, one) for one in labels)
    ]

    assert idle == []


@pytest.mark.parametrize("name", SITES)
def test_workloads_select_their_own_pods_and_no_others(name: str) -> None:
    for owner in site(name).of_kind("Deployment", "StatefulSet"):
        selected = {pod.name for pod in site(name).pods if matches(owner["spec"]["selector"], pod.labels)}
        assert selected == {f"{owner['kind']}/{owner['metadata']['name']}"}


@pytest.mark.parametrize("name", SITES)
def test_every_port_of_a_service_is_one_of_its_pods(name: str) -> None:
    for service in site(name).of_kind("Service"):
        pods = [pod for pod in site(name).pods if matches({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        for entry in service["spec"]["ports"]:
            for pod in pods:
                ports = {port["name"]: port["containerPort"] for port in pod.spec["containers"][0]["ports"]}
                assert ports.get(entry["targetPort"]) == entry["port"], f"{service['metadata']['name']} {pod.name}"


@pytest.mark.parametrize("name", SITES)
def test_every_mount_has_a_volume_and_every_volume_is_mounted(name: str) -> None:
    for pod in site(name).pods:
        mounts = {mount["name"] for container in pod.containers() for mount in container["volumeMounts"]}
        assert mounts == set(pod.volumes()), pod.name


@pytest.mark.parametrize("name", SITES)
def test_accounts_and_priorities_are_there(name: str) -> None:
    built = site(name)
    accounts = {pod.spec["serviceAccountName"] for pod in built.pods if "serviceAccountName" in pod.spec}
    priorities = {pod.spec["priorityClassName"] for pod in built.pods}
    priorities |= {cluster["spec"]["priorityClassName"] for cluster in built.of_kind("Cluster")}

    assert accounts == built.names("ServiceAccount")
    assert priorities == built.names("PriorityClass")


@pytest.mark.parametrize("name", SITES)
def test_scalers_and_backups_name_what_is_there(name: str) -> None:
    built = site(name)
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in built.of_kind("HorizontalPodAutoscaler")}
    clusters = {one["spec"]["cluster"]["name"] for one in built.of_kind("Database", "ScheduledBackup")}
    stores = {
        plugin["parameters"]["barmanObjectName"]
        for cluster in built.of_kind("Cluster")
        for plugin in cluster["spec"].get("plugins", [])
    }

    assert scaled <= built.names("Deployment")
    assert clusters <= built.names("Cluster")
    assert stores == built.names("ObjectStore")


def secrets_named(value: object) -> Iterator[str]:
    """Yield the names of the Secrets that a document refers to, wherever that stands."""
    if isinstance(value, list):
        for part in value:
            yield from secrets_named(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key == "secretName":
                yield part
            elif key in {"secret", "passwordSecret", "accessKeyId", "secretAccessKey", "endpointCA"}:
                yield part.get("name", part.get("secretName", ""))
            else:
                yield from secrets_named(part)


def secrets_of(built: Site) -> tuple[set[str], set[str]]:
    """Return the Secrets that a site needs, and those that it or its operators make."""
    made = {certificate["spec"]["secretName"] for certificate in built.of_kind("Certificate")}
    if built.of_kind("Cluster"):
        made |= MADE_BY_THE_DATABASE_OPERATOR
    needed = {
        name for document in built.documents if document["kind"] != "Certificate" for name in secrets_named(document)
    }
    return needed - {""}, made


def documented_secrets() -> set[str]:
    """Return the Secrets that the guide tells to make: the first column of its table."""
    return set(re.findall(r"^\| `([a-z0-9-]+)` \| Secret", KUBERNETES_GUIDE.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", SITES)
def test_secrets_are_made_by_the_site_or_listed_as_prerequisites(name: str) -> None:
    needed, made = secrets_of(site(name))

    assert needed - made - documented_secrets() == set()


def test_every_listed_prerequisite_is_needed_somewhere() -> None:
    needed = {secret for name in SITES for secret in secrets_of(site(name))[0]}

    assert documented_secrets() - needed == {"first-credential"}


# The network. Rows: who, to whom, on which port. Whatever is not here must not be possible.

OUTSIDE = Peer("outside", network="anywhere")
MONITORING = Peer("monitoring", namespace={"kubernetes.io/metadata.name": "monitoring"})
PEOPLE = Peer("people", namespace={"zhichao/people": "true"})
STRANGER = Peer("stranger", {"app.kubernetes.io/name": "relay"}, namespace={"kubernetes.io/metadata.name": "default"})
OPERATOR = Peer(
    "operator", {"app.kubernetes.io/name": "cloudnative-pg"}, namespace={"kubernetes.io/metadata.name": "cnpg-system"}
)
INTEGRATORS = {
    "141025": Peer("integrators", network="198.51.100.0/26"),
    "140602": Peer("integrators", network="198.51.100.64/26"),
}
DATABASE_OUTSIDE = Peer("database-outside", network="203.0.113.16/28")
OBJECTS_OUTSIDE = Peer("objects-outside", network="203.0.113.32/28")

# Ports as docs/architecture.md has them: health ten above, metrics twenty above the service's own.
PORT = {"registry": 7701, "weighing": 7702, "video": 7703, "enforcement": 7705, "relay": 7706}
PORTS = (
    *(port + above for port in PORT.values() for above in (0, 10, 20)),
    *(4317, 5432, 7707, 8000, 8333, 9000),
)

INSIDE = {
    ("weighing", "registry", 7701),
    ("enforcement", "registry", 7701),
    ("video", "registry", 7701),
    ("video", "weighing", 7702),
    *(("relay", service, PORT[service]) for service in SERVICES if service != "relay"),
    *(("monitoring", service, PORT[service] + 20) for service in SERVICES),
}
CLIENTS = [name for service in WITH_DATABASE for name in (service, f"{service}-migrate-{dashed(version_of())}")]
DATABASE = {
    *((client, "database", 5432) for client in CLIENTS),
    *(("database", "database", port) for port in (5432, 8000)),
    *(("operator", "database", port) for port in (5432, 8000)),
}
BACKUP = {("database", "s3", 8333)}
EVIDENCE = {("video", "s3", 8333)}
BY_INTEGRATORS = {("integrators", "weighing", 7702), ("integrators", "video", 7703)}
BY_PEOPLE = {("people", service, PORT[service]) for service in SERVICES}
TRACES = {(service, "monitoring", 4317) for service in SERVICES}
FROM_PEERS = {("outside", "relay", 7707)}
TO_UPSTREAM = {("relay", "outside", 7707)}

FLOWS = {
    "140000": INSIDE | DATABASE | BACKUP | EVIDENCE | BY_PEOPLE | FROM_PEERS | TRACES,
    "140600": INSIDE | DATABASE | BACKUP | EVIDENCE | BY_PEOPLE | FROM_PEERS | TO_UPSTREAM,
    "141000": INSIDE | DATABASE | BACKUP | EVIDENCE | BY_PEOPLE | FROM_PEERS | TO_UPSTREAM,
    "141025": INSIDE | DATABASE | EVIDENCE | TO_UPSTREAM | BY_INTEGRATORS,
    "140602": INSIDE
    | TO_UPSTREAM
    | BY_INTEGRATORS
    | {("video", "objects-outside", 9000)}
    | {(client, "database-outside", 5432) for client in CLIENTS},
}


def possible(built: Site) -> set[tuple[str, str, int]]:
    """Return every connection that the policies of a site let through, among all that are tried."""
    policies = built.of_kind("NetworkPolicy")
    pods = {name.partition("/")[2]: labels for name, labels in built.labels_of_pods().items()}
    inside = {name: Peer(name, labels) for name, labels in pods.items()}
    others = [OUTSIDE, MONITORING, PEOPLE, STRANGER, OPERATOR, DATABASE_OUTSIDE, OBJECTS_OUTSIDE, *INTEGRATORS.values()]
    found = set()
    for port in PORTS:
        for name, labels in pods.items():
            for peer in others:
                if is_allowed(policies, "ingress", labels, peer, port):
                    found.add((peer.name, name, port))
                if is_allowed(policies, "egress", labels, peer, port):
                    found.add((name, peer.name, port))
            for other, peer in inside.items():
                sends = is_allowed(policies, "egress", labels, peer, port)
                if sends and is_allowed(policies, "ingress", pods[other], inside[name], port):
                    found.add((name, other, port))
    return found


@pytest.mark.parametrize("name", SITES)
def test_the_network_lets_through_what_is_named_and_nothing_else(name: str) -> None:
    found = possible(site(name))
    # A rule without a peer is for everybody: that one port is reached from everywhere is told by `outside` alone.
    for direction in (0, 1):
        found -= {flow for flow in found if is_covered(flow, found, direction)}

    assert found == FLOWS[name]


def is_covered(flow: tuple[str, str, int], found: set[tuple[str, str, int]], side: int) -> bool:
    """Tell whether a flow is possible only because its port is open to or from everybody."""
    if flow[side] == "outside":
        return False
    everybody = ("outside", *flow[1:]) if side == 0 else (flow[0], "outside", flow[2])
    return everybody in found


@pytest.mark.parametrize("name", SITES)
def test_every_pod_is_denied_by_default(name: str) -> None:
    policies = [policy["spec"] for policy in site(name).of_kind("NetworkPolicy") if policy["spec"]["podSelector"] == {}]

    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
