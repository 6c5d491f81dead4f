"""The pods of a site as processes: commands, variables and files of the built manifests, Secrets that the script makes,
certificates as an issuer makes them, a real PostgreSQL with the site's roles. Only hosts and ports are others.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.platform_layout import free_port
from tests.certificates import new_authority, platform_files
from tests.conftest import Databases
from tests.contract.deployments import K8S, SERVICES, WITH_DATABASE, Document, Pod, Site, build
from tests.contract.test_deploy_secrets import read, run
from tests.contract.test_deploy_settings import mounted
from tests.waiting import wait_until

PLATFORM = "141025"
DEADLINE_SECONDS = 60.0
ROLES = [role for name in WITH_DATABASE for role in (name, f"{name}_owner")]


class Node:
    """Runs containers of a site as processes, their files below a directory, their ports on loopback."""

    def __init__(self, site: Site, root: Path, files: dict[str, bytes]) -> None:
        self._site = site
        self._root = root
        self.files = files
        self._ports: dict[str, int] = {}
        self.started = ExitStack()

    def port(self, number: str) -> int:
        """Return what stands for a port of the manifests."""
        return self._ports.setdefault(number, free_port())

    def start(self, pod: Pod, container: Document) -> subprocess.Popen[bytes]:
        """Start a container of a pod."""
        directory = self._root / pod.name.replace("/", "-") / container["name"]
        for path, key in mounted(pod, container).items():
            target = directory / path[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.files[f"{secret_of(pod, path)}/{key}"])
        environment = {
            variable: self._here(value, directory) for variable, value in self._site.environment(container).items()
        }
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services", *container["args"]],
                cwd=directory,
                env={"PATH": os.environ["PATH"], **environment},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.started.callback(process.wait)
        self.started.callback(process.kill)
        return process

    def execute(self, pod: Pod, *words: str) -> str:
        """Run `zhichao` in a pod, as `kubectl exec` does, and return what it prints."""
        container = pod.spec["containers"][0]
        directory = self._root / pod.name.replace("/", "-") / container["name"]
        environment = {name: self._here(value, directory) for name, value in self._site.environment(container).items()}
        # Its own pod is reached on loopback under the name that its certificate has for that.
        here = [self._here(word, directory).replace("127.0.0.1:", "localhost:") for word in words]
        done = subprocess.run(
            [Path(sys.executable).parent / "zhichao", *here],
            env={"PATH": os.environ["PATH"], **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def await_serving(self, pod: Pod, process: subprocess.Popen[bytes]) -> None:
        """Wait until the readiness probe of a pod's container finds it serving."""
        container = pod.spec["containers"][0]
        port = self.port(str(container["readinessProbe"]["grpc"]["port"]))
        wait_until(
            lambda: process.poll() is not None or is_serving(port), f"{pod.name} is not serving", DEADLINE_SECONDS
        )
        assert process.poll() is None, self.log(pod, container)

    def log(self, pod: Pod, container: Document) -> str:
        """Return what a container wrote."""
        path = self._root / pod.name.replace("/", "-") / str(container["name"]) / "log"
        return path.read_text(encoding="utf-8")

    def _here(self, value: str, directory: Path) -> str:
        if value.startswith(("/etc/zhichao/", "/var/lib/zhichao/")):
            return f"{directory}{value}"
        # Where it listens, and what it calls by the name of a Service or a host.
        address = re.fullmatch(r"(?:0\.0\.0\.0|[a-z][\w.-]*):(\d+)", value)
        return f"127.0.0.1:{self.port(address[1])}" if address else value


def secret_of(pod: Pod, path: str) -> str:
    """Return the Secret from which a file of a pod comes."""
    mount, _, file = path.rpartition("/")
    for container in pod.containers():
        for entry in container["volumeMounts"]:
            volume = pod.volumes()[entry["name"]]
            sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
            sources += [volume["secret"]] if "secret" in volume else []
            for source in sources:
                paths = [item["path"] for item in source.get("items", [])]
                if entry["mountPath"] == mount and (file in paths or not paths):
                    return str(source.get("name", source.get("secretName")))
    raise AssertionError(f"{path} is mounted from no Secret")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build the county 141025 as it is installed: with the component for the first credential."""
    directory = tmp_path_factory.mktemp("site")
    up = os.path.relpath(K8S, directory)
    kustomization = {
        "resources": [f"{up}/sites/{PLATFORM}"],
        "components": [f"{up}/components/first-credential"],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return Site(PLATFORM, build(directory))


@pytest.fixture
def node(site: Site, databases: Databases, tmp_path: Path) -> Iterator[Node]:
    """Give the site what it needs: Secrets, certificates, and databases owned by the roles that migrate."""
    (tmp_path / "ca.crt").write_text("unused", encoding="utf-8")
    assert run("--s3", tmp_path / "ca.crt", tmp_path / "secrets").returncode == 0
    files = {
        f"{name}/{key}": content
        for name, content_of in read(tmp_path / "secrets").items()
        for key, content in content_of.items()
    }
    authority = new_authority()
    for certificate in site.of_kind("Certificate"):
        name = certificate["spec"]["secretName"]
        # The names of the manifest, and the address that stands for them here.
        made = platform_files(
            tmp_path / name, authority, PLATFORM, hosts=[*certificate["spec"]["dnsNames"], "127.0.0.1"]
        )
        for path in (made.certificate, made.key, made.ca):
            files[f"{name}/{path.name}"] = path.read_bytes()
    files["database-ca/ca.crt"] = b"not asked for on a socket"
    # Read at the start, though the store itself is not here.
    files["evidence-store/ca.crt"] = files["video-tls/ca.crt"]
    made_databases = {name: databases.create() for name in WITH_DATABASE}
    with psycopg.connect(made_databases["registry"], autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())
        for name, url in made_databases.items():
            database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
            connection.execute(f'ALTER DATABASE "{database}" OWNER TO {name}_owner'.encode())
    for name, url in made_databases.items():
        for secret, role in ((f"{name}-database", name), (f"{name}-database-owner", f"{name}_owner")):
            files[f"{secret}/zhichao_{name}_database_url"] = re.sub(r"//[^@]*@", f"//{role}@", url).encode()
    made_node = Node(site, tmp_path / "node", files)
    with made_node.started:
        yield made_node
    for url in made_databases.values():
        databases.drop(url)
    admin = databases.create()
    with psycopg.connect(admin, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"DROP ROLE {role}".encode())
    databases.drop(admin)


def is_serving(port: int) -> bool:
    """Ask as the kubelet does: in plain text, for the whole server."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.system
@pytest.mark.timeout(300)  # a dozen processes, each of which starts in seconds on a machine that is busy
def test_a_county_starts_from_nothing_and_gets_its_first_credential(site: Site, node: Node, tmp_path: Path) -> None:
    pods = {pod.name.partition("/")[2]: pod for pod in site.pods}
    services = [pods[name] for name in SERVICES]
    gated = [pod for pod in services if "initContainers" in pod.spec]

    # In the worst order: gates and services first. The gates hold until the Jobs are done.
    gates = [node.start(pod, gate) for pod in gated for gate in pod.spec["initContainers"]]
    wait_until(
        lambda: all("schema_awaited" in node.log(pod, pod.spec["initContainers"][0]) for pod in gated),
        "gates",
        DEADLINE_SECONDS,
    )
    assert [gate.poll() for gate in gates] == [None] * len(WITH_DATABASE)
    jobs = [node.start(pod, pod.spec["containers"][0]) for pod in site.pods if pod.owner["kind"] == "Job"]
    assert [job.wait(DEADLINE_SECONDS) for job in jobs] == [0] * len(WITH_DATABASE)
    assert [gate.wait(DEADLINE_SECONDS) for gate in gates] == [0] * len(WITH_DATABASE)

    running = [node.start(pod, pod.spec["containers"][0]) for pod in reversed(services)]
    for pod, process in zip(reversed(services), running, strict=True):
        node.await_serving(pod, process)
        container = pod.spec["containers"][0]
        metrics = next(port["containerPort"] for port in container["ports"] if port["name"] == "metrics")
        with urllib.request.urlopen(f"http://127.0.0.1:{node.port(str(metrics))}/metrics", timeout=10) as answer:
            assert b"zhichao_build_info" in answer.read()

    # As the guide tells: in the registry's pod, with what it has there.
    first = node.execute(
        pods["registry"],
        *("credential", "create", "person", "--registry", "localhost:7701"),
        *("--token-file", "/etc/zhichao/first-credential/token", "--division", PLATFORM),
        *("--role", "security-administrator", "--name", "示例甲", "--json"),
    )
    token = json.loads(first)["token"]
    (tmp_path / "token").write_text(token, encoding="ascii")
    second = node.execute(
        pods["registry"], "whoami", "--registry", "localhost:7701", "--token-file", str(tmp_path / "token"), "--json"
    )
    assert json.loads(second)["division_code"] == PLATFORM

    for process in running:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(DEADLINE_SECONDS) for process in running] == [0] * len(SERVICES)
