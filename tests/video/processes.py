"""A video service as a process of its own, to be killed and weighed, with credentials of a real registry."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import grpc

from services.common.access.tokens import bearer
from services.common.rpc_client import connect
from tests.registry import access_examples
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.video.harness import COUNTY, RunningVideo
from tests.waiting import wait_until
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

ROOT: Final = Path(__file__).parents[2]

START_SECONDS_MAX: Final = 90.0
"""A start takes some seconds, and much longer on a machine where everything is tested at once."""


def steward_token(registry: RunningRegistry, name: str) -> str:
    """Issue a credential of somebody who may upload everything, and return its token."""
    credential = access_examples.person(COUNTY, "DATA_STEWARD", credential_id=name)
    request = access_pb2.CreateCredentialRequest(credential=credential)
    return str(registry.access.CreateCredential(request, timeout=TIMEOUT_SECONDS).token)


class VideoProcess:
    """The service of a `RunningVideo` that was stopped, as a process on the same database, spool and bucket."""

    def __init__(self, video: RunningVideo, token: str) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ZHICHAO_")},
            **video.environment,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        }
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None
        self.log = video.directory / "process.log"
        self.channel: grpc.Channel
        self.stub: VideoServiceStub
        self._address = video.environment["ZHICHAO_VIDEO_LISTEN"]

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it knows who calls and has its bucket."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services", "video"], env=self._environment, stdout=log, stderr=log, cwd=ROOT
            )
        self.channel = connect(self._address, credentials=lambda: bearer(self._token))
        self.stub = VideoServiceStub(self.channel)
        wait_until(self._serves, "the process serves", START_SECONDS_MAX)

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text("utf-8", "replace")
        try:
            self.stub.GetUpload(
                pb.GetUploadRequest(name=evidence_pb2.EvidenceName(source_unit_id="u", evidence_id="e")),
                timeout=TIMEOUT_SECONDS,
            )
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.NOT_FOUND)
        return False

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def memory_bytes_max(self) -> int:
        """Return the most memory that the service itself has had: without pages of its program files, some 40 MB, which
        are shared with other services and given up when memory is short.
        """
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        found = {name: int(value) * 1024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", status, re.MULTILINE)}
        return found["VmHWM"] - found["RssFile"]

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self.channel.close()
        self._process.send_signal(number)
        self._process.wait(TIMEOUT_SECONDS)
        self._process = None
