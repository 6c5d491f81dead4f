"""The sites of deploy/k8s as kustomize builds them: documents, pods, and who may talk to whom."""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from cli import platform_layout
from tests.contract.documents import ROOT

K8S = ROOT / "deploy" / "k8s"
SITES = sorted(path.name for path in (K8S / "sites").iterdir() if path.is_dir())
# Not from what runs services: importing that takes from this process what commands draw with.
SERVICES = tuple(platform_layout.SERVICES)
"""Every service; each has a base, and every level runs it."""

WITH_DATABASE = tuple(name for name in SERVICES if (ROOT / "services" / name / "migrations").is_dir())
IMAGE = "registry.example/zhichao"
"""Name under which the example sites take this project's image."""

# The one of the environment, whose version is pinned, and never one that the machine happens to have.
KUBECTL = Path(sys.executable).parent / "kubectl"

Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """What a workload makes its pods of."""

    owner: Document
    labels: Mapping[str, str]
    spec: Document

    @property
    def name(self) -> str:
        """Kind and name of the workload."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    def containers(self) -> Iterator[Document]:
        """Yield init containers and containers."""
        yield from self.spec.get("initContainers", [])
        yield from self.spec["containers"]

    def volumes(self) -> dict[str, Document]:
        """Return the volumes by name, those that a StatefulSet claims for each pod among them."""
        claimed = self.owner["spec"].get("volumeClaimTemplates", [])
        named = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        return named | {claim["metadata"]["name"]: claim for claim in claimed}


@dataclass(frozen=True)
class Site:
    """One built site."""

    name: str
    documents: list[Document] = field(repr=False)

    def of_kind(self, *kinds: str) -> list[Document]:
        """Return the documents of some kinds."""
        return [document for document in self.documents if document["kind"] in kinds]

    def names(self, *kinds: str) -> set[str]:
        """Return the names of the documents of some kinds."""
        return {document["metadata"]["name"] for document in self.of_kind(*kinds)}

    @cached_property
    def pods(self) -> list[Pod]:
        """The pods of all workloads; those that an operator makes are not among them."""
        found = []
        for owner in self.of_kind("Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob", "Pod"):
            template = owner["spec"]["template"]
            found.append(Pod(owner, template["metadata"]["labels"], template["spec"]))
        return found

    def labels_of_pods(self) -> dict[str, Mapping[str, str]]:
        """Return the labels of pods by the name of what makes them; the operator's database pods among them."""
        made = {
            f"Cluster/{cluster['metadata']['name']}": _database_labels(cluster) for cluster in self.of_kind("Cluster")
        }
        return {pod.name: pod.labels for pod in self.pods} | made

    def config_maps(self) -> dict[str, dict[str, str]]:
        """Return the content of the ConfigMaps by name."""
        return {document["metadata"]["name"]: document["data"] for document in self.of_kind("ConfigMap")}

    def environment(self, container: Document) -> dict[str, str]:
        """Return the environment variables that a container of this site gets."""
        variables: dict[str, str] = {}
        for source in container.get("envFrom", []):
            reference = source["configMapRef"]
            held = self.config_maps().get(reference["name"])
            assert held is not None or reference.get("optional"), f"{reference['name']} is not there"
            variables |= held or {}
        return variables | {entry["name"]: entry["value"] for entry in container.get("env", [])}


def _database_labels(cluster: Document) -> dict[str, str]:
    # As CloudNativePG labels the pods of a cluster.
    return {"cnpg.io/cluster": cluster["metadata"]["name"], **cluster["spec"]["inheritedMetadata"]["labels"]}


def build(directory: Path) -> list[Document]:
    """Build a kustomization. Fails with kustomize's own words."""
    assert KUBECTL.is_file(), "kubectl is not in the environment: run make setup"
    built = subprocess.run(
        [KUBECTL, "kustomize", str(directory)], capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr
    # A field that is about to go is only warned of.
    assert built.stderr == "", built.stderr
    return [document for document in yaml.safe_load_all(built.stdout) if document]


@cache
def site(name: str) -> Site:
    """Return one of the example sites, built once in a test session."""
    return Site(name, build(K8S / "sites" / name))


def matches(selector: Document, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector of Kubernetes selects something with these labels; an empty one selects all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        held = labels.get(expression["key"])
        is_in = held in expression.get("values", [])
        is_right = {"In": is_in, "NotIn": not is_in, "Exists": held is not None, "DoesNotExist": held is None}
        if not is_right[expression["operator"]]:
            return False
    return True


@dataclass(frozen=True)
class Peer:
    """Somebody who may be on the other side of a connection: a pod of the site, of another namespace, or a host."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: Mapping[str, str] | None = None
    """Labels of its namespace; None for the site's own."""
    network: str = ""
    """For a host outside: the network that a policy must name, literally."""

    def is_named_by(self, entry: Document) -> bool:
        """Tell whether one entry of `from` or `to` names this peer."""
        if "ipBlock" in entry:
            return bool(self.network == entry["ipBlock"]["cidr"])
        if self.network:
            return False
        if "namespaceSelector" in entry:
            is_namespace = self.namespace is not None and matches(entry["namespaceSelector"], self.namespace)
        else:
            is_namespace = self.namespace is None
        return is_namespace and matches(entry.get("podSelector", {}), self.labels)


def is_allowed(policies: Iterable[Document], direction: str, pod: Mapping[str, str], peer: Peer, port: int) -> bool:
    """Tell whether policies let a pod be reached by ("ingress") or reach ("egress") a peer on a TCP port.

    A pod that no policy of that direction selects is open, as Kubernetes has it.
    """
    side = {"ingress": "from", "egress": "to"}[direction]
    selecting = [
        policy["spec"]
        for policy in policies
        if direction.capitalize() in policy["spec"]["policyTypes"] and matches(policy["spec"]["podSelector"], pod)
    ]
    return not selecting or any(
        (not rule.get("ports") or any(entry["port"] == port and entry["protocol"] == "TCP" for entry in rule["ports"]))
        and (side not in rule or any(peer.is_named_by(entry) for entry in rule[side]))
        for spec in selecting
        for rule in spec.get(direction, [])
    )
