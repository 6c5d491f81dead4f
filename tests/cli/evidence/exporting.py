"""A county with registry, weighing service and video service, and the command line of somebody who exports there."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.main import main
from services.common.access.knowledge import KnownCredential, KnownSecret
from services.common.access.permissions import PrincipalKind, Role, permissions_of
from services.common.access.principal import Principal
from services.common.access.tokens import digest
from tests.access import Access
from tests.conftest import Databases
from tests.registry import access_examples
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.video.harness import COUNTY, RunningVideo
from tests.weighing.harness import RunningWeighing, register_site
from tests.weighing.records import SUSPECTED, record
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

SITE = "141025-9101"
"""A source unit with a scale: those of the video tests have none."""

RECORD = "r-1"

ROLES = (Role.OFFICER, Role.AUDITOR)
"""Who exports reads evidence, and the journals that prove it."""


class ExportingCounty:
    """The services, one suspected weighing, and a person with one token for all of them."""

    def __init__(
        self, registry: RunningRegistry, weighing: RunningWeighing, video: RunningVideo, directory: Path
    ) -> None:
        self.video = video
        self.directory = directory
        register_site(registry, SITE)
        token = _issue(registry, weighing.access, video.access)
        (directory / "exporter.token").write_text(token)
        self._options = ["--token-file", str(directory / "exporter.token"), "--cosigned-within", "0"]
        for service in (registry, weighing, video):
            self._options += ["--service", service.address]
        recorded = weighing.record(record(RECORD, source_unit_id=SITE, gross_weight_kg=30_000))
        assert recorded.judgement.verdict == SUSPECTED

    @property
    def weighing(self) -> str:
        """The name of the weighing."""
        return f"{SITE}/{RECORD}"

    def sealed(self, content: bytes, **fields: Any) -> pb.HeldEvidence:
        """Seal something that proves the weighing."""
        subjects = [evidence_pb2.Subject(record_id=RECORD)]
        return self.video.sealed(content, source_unit_id=SITE, subjects=subjects, **fields)

    def export(self, out: str, *options: str) -> Result:
        """Run the command."""
        path = str(self.directory / out)
        arguments = ["evidence", "export", self.weighing, "--purpose", "移送", "--out", path, "--json"]
        return CliRunner().invoke(main, [*arguments, *options, *self._options])

    def exported(self, out: str, *options: str) -> dict[str, Any]:
        """Export; return what the command says."""
        result = self.export(out, *options)
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout.splitlines()[-1]))

    def verified(self, out: str) -> dict[str, Any]:
        """Check a bundle; return what the command says."""
        result = CliRunner().invoke(main, ["verify", str(self.directory / out), "--json"])
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    def custody(self, held: pb.HeldEvidence) -> list[pb.HeldCustodyEvent]:
        """Return what was done with a piece of evidence."""
        request = pb.ListCustodyRequest(name=name_of(held), page_size=1_000)
        return list(self.video.call("ListCustody", request).held_events)


def name_of(held: pb.HeldEvidence) -> evidence_pb2.EvidenceName:
    """Return how the county names its evidence."""
    return evidence_pb2.EvidenceName(source_unit_id=held.evidence.source_unit_id, evidence_id=held.evidence.evidence_id)


@contextmanager
def exporting_county(
    databases: Databases, registry: RunningRegistry, video: RunningVideo, sockets: Path, directory: Path
) -> Iterator[ExportingCounty]:
    """Run a weighing service beside the two others, and weigh a truck."""
    weighing = RunningWeighing(databases, sockets, registry.address)
    try:
        yield ExportingCounty(registry, weighing, video, directory)
    finally:
        weighing.close()


def _issue(registry: RunningRegistry, *others: Access) -> str:
    """Issue a credential at the registry and make it known at the other services of the platform."""
    name = f"exporter-{secrets.token_hex(4)}"
    credential = access_examples.person(COUNTY, *(role.value for role in ROLES), credential_id=name)
    request = access_pb2.CreateCredentialRequest(credential=credential)
    token = str(registry.access.CreateCredential(request, timeout=TIMEOUT_SECONDS).token)
    principal = Principal(PrincipalKind.PERSON, name, permissions_of(PrincipalKind.PERSON, ROLES), division_code=COUNTY)
    for access in others:
        ends_at = (access.clock.now() + timedelta(days=1)).timestamp()
        access.say(KnownCredential(principal, (KnownSecret(digest(token.rpartition(".")[2]), ends_at),), ends_at, None))
    return token
