"""The component s3 with the identities that secrets.sh makes, on a real SeaweedFS: the key of the video service is
enough for all that it does, and for nothing else.
"""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.object_server.files import find_program
from cli.platform_layout import free_port
from services.video.object_store import LockState, WrongCredentialsError
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from tests.contract.deployments import site
from tests.contract.test_deploy_secrets import read, run

START_SECONDS_MAX = 60.0


class ClusterStore:
    """The S3 server of the component with other ports and in plain text."""

    def __init__(self, directory: Path) -> None:
        (directory / "ca.crt").write_text("unused", encoding="utf-8")
        assert run("--s3", directory / "ca.crt", directory / "secrets").returncode == 0
        self.secrets = read(directory / "secrets")
        (directory / "identities.json").write_bytes(self.secrets["s3-identities"]["identities.json"])
        (directory / "data").mkdir()
        self.directory = directory
        self.port = free_port()
        replaced = {
            "-dir": str(directory / "data"),
            "-s3.ip.bind": "127.0.0.1",
            "-s3.port": str(self.port),
            "-s3.config": str(directory / "identities.json"),
        }
        left_out = ("-s3.port.https", "-s3.cert.file", "-s3.key.file")
        (container,) = next(pod for pod in site("141025").pods if pod.name == "StatefulSet/s3").spec["containers"]
        arguments = []
        for argument in container["args"]:
            name, _, value = argument.partition("=")
            if name not in left_out:
                arguments.append(f"{name}={replaced.get(name, value)}" if value else argument)
        for name in ("master.port", "volume.port", "filer.port"):
            # gRPC listens ten thousand above, wherever that is free.
            port = 20_000 + free_port() % 20_000
            arguments += [f"-{name}={port}", f"-{name}.grpc={free_port()}"]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(find_program()), *arguments, f"-s3.port.grpc={free_port()}"],
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ends_at = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            assert self.process.poll() is None, (directory / "log").read_text("utf-8", "replace")[-2_000:]
            assert time.monotonic() < ends_at, (directory / "log").read_text("utf-8", "replace")[-2_000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def store(self, secret: str, bucket: str) -> S3ObjectStore:
        """Open a bucket with the keys of a Secret."""
        for key in ("access-key", "secret-key"):
            (self.directory / f"{secret}-{key}").write_bytes(self.secrets[secret][key])
        access_key, secret_key = (self.directory / f"{secret}-{key}" for key in ("access-key", "secret-key"))
        return S3ObjectStore(S3Settings(f"http://127.0.0.1:{self.port}", bucket, access_key, secret_key, retries=0))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterStore]:
    """Run the component's server."""
    running = ClusterStore(tmp_path_factory.mktemp("cluster"))
    yield running
    running.process.terminate()
    running.process.wait(START_SECONDS_MAX)


def test_the_service_s_key_is_enough_for_all_that_it_does(cluster: ClusterStore) -> None:
    (container,) = next(pod for pod in site("141025").pods if pod.name == "Deployment/video").spec["containers"]
    assert site("141025").environment(container)["ZHICHAO_VIDEO_S3_ENDPOINT"] == "https://s3:8333"
    store = cluster.store("evidence-store", "zhichao-evidence")

    facts = store.ensure_bucket()

    assert (facts.is_new, facts.is_versioned, facts.has_object_lock) == (True, True, True)
    assert store.lock_self_test().state is LockState.ENFORCED


def test_it_reaches_no_other_bucket_and_nobody_else_reaches_its_own(cluster: ClusterStore) -> None:
    cluster.store("evidence-store", "zhichao-evidence").ensure_bucket()

    with pytest.raises(WrongCredentialsError):
        cluster.store("evidence-store", "backup").ensure_bucket()
    with pytest.raises(WrongCredentialsError):
        cluster.store("backup-store", "zhichao-evidence").check()


def test_the_identities_are_those_two(cluster: ClusterStore) -> None:
    identities = json.loads(cluster.secrets["s3-identities"]["identities.json"])["identities"]

    assert [one["name"] for one in identities] == ["backup", "evidence"]
