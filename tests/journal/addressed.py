"""Journals that address entries to those below them, and links between them that a test moves step by step."""

from collections.abc import Iterator, Mapping

from services.common.access.divisions import Divisions
from services.common.errors import ServiceError
from services.common.request import RequestContext, use_request_context
from services.journal import addressed_convert as convert
from services.journal.addressed_batch import AddressedBatch
from services.journal.addressed_receiver import ReceivedAddressed
from tests.journal.journals import Journal
from zhichao.common.v1.refusal_pb2 import ErrorReason
from zhichao.journal.v1 import addressed_pb2
from zhichao.journal.v1 import journal_pb2 as pb

OTHER_CITY, OTHER_COUNTY = "141100", "141121"
"""Another city of the same province with a county of its own."""


class Platform:
    """A journal with what it knows of divisions; `parents` may be changed as a registry would."""

    def __init__(self, journal: Journal, parents: Mapping[str, str] | None = None) -> None:
        self.journal = journal
        self.code = journal.platform
        self.divisions = Divisions(parents)
        self.handlers = journal.parts.addressed
        self.handlers._divisions = lambda: self.divisions

    def move(self, parents: Mapping[str, str]) -> None:
        """Record that divisions lie elsewhere."""
        self.divisions = Divisions(parents)

    def address(self, audience: str, *payloads: bytes) -> int:
        """Write entries addressed to a division, in one transaction; return the last sequence."""
        return self.journal.write(*payloads, audience=audience)

    def positions(self) -> list[addressed_pb2.AddressedPosition]:
        """Return what `ListAddressedPositions` says."""
        return [convert.held_message(held, self.handlers.stream) for held in self.handlers.positions(None)]

    def position(self, origin: str) -> addressed_pb2.AddressedPosition:
        """Return where one log stands here."""
        return {one.origin: one for one in self.positions()}[origin]

    def answers_for(
        self, reader: str, positions: list[addressed_pb2.AddressedPosition]
    ) -> list[pb.ReadAddressedEntriesResponse]:
        """Return everything that is held for a platform that stands at positions."""
        return list(self.handlers.read(reader, convert.positions_from(positions), follow=False))

    def batches_for(self, reader: "Platform") -> list[AddressedBatch]:
        """Return everything that is held for a platform, where it stands now."""
        answers = self.answers_for(reader.code, reader.positions())
        assert not [answer for answer in answers if answer.WhichOneof("content") == "refusal"]
        return [convert.batch_from(answer.batch) for answer in answers if answer.WhichOneof("content") == "batch"]

    def receive(self, batch: AddressedBatch) -> ReceivedAddressed:
        return self.handlers.receive(batch)

    def follow(self, upper: "Platform") -> list[ReceivedAddressed]:
        """Receive from a platform above everything that it holds for us."""
        return [self.receive(batch) for batch in upper.batches_for(self)]

    def held(self, origin: str) -> dict[int, bytes]:
        """Return the payloads that are projected of an upper platform's log, by sequence."""
        return self.journal.notes(origin)

    def refusal(self, batch: AddressedBatch) -> ServiceError:
        """Receive a batch that must be refused and leave nothing behind; return why."""
        before = self.journal.content()
        try:
            self.receive(batch)
        except ServiceError as error:
            assert self.journal.content() == before, "a refused batch left something behind"
            return error
        raise AssertionError("the batch was accepted")

    def refusals_for(self, reader: "Platform") -> dict[str, str]:
        """Return the reasons why logs are not sent to a platform, by origin."""
        answers = self.answers_for(reader.code, reader.positions())
        refused = [answer.refusal for answer in answers if answer.WhichOneof("content") == "refusal"]
        return {one.origin: ErrorReason.Name(one.refusal.reason) for one in refused}

    def receipts(self, origin: str = "") -> list[tuple[int, str]]:
        """Return who has received which entry of a log, as far as this platform knows."""
        rows, token = self.handlers.list_receipts(origin, 0, 0, None, 1_000, "")
        assert token == ""
        return [(row.sequence, row.platform) for row in rows]


def following(upper: Platform, reader: Platform, context: RequestContext) -> Iterator[pb.ReadAddressedEntriesResponse]:
    """Follow a platform above as a call would; ends with the context."""
    answers = upper.handlers.read(reader.code, convert.positions_from(reader.positions()), follow=True)
    while True:
        with use_request_context(context):
            answer = next(answers, None)
        if answer is None:
            return
        yield answer
