"""JournalService over a real server: what callers see, reasons of errors, streams that end, and proofs checked anew."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from services.common.reasons import Reason
from services.journal.notes import SignedCheckpoint
from tests.journal import naive_merkle
from tests.journal.conftest import MakeJournal
from tests.journal.journals import WAIT_SECONDS, Journal, assert_same_log, eventually
from tests.journal.paper_log import CITY, COUNTY, NOW, PaperLog, entry_of
from tests.journal.served import Feed, ServedJournal, batch_of, refusal
from zhichao.journal.v1 import journal_pb2 as pb

Serve = Callable[[Journal], ServedJournal]


@pytest.fixture
def serve(socket_directory: Path, journal: MakeJournal) -> Iterator[Serve]:
    # After `journal`, so that servers stop before their databases go away.
    with ExitStack() as stack:

        def start(journal: Journal) -> ServedJournal:
            served = ServedJournal(journal, socket_directory)
            stack.callback(served.close)
            return served

        yield start


@pytest.fixture
def served_county(serve: Serve, county: Journal) -> ServedJournal:
    return serve(county)


@pytest.fixture
def served_city(serve: Serve, city: Journal) -> ServedJournal:
    return serve(city)


def receiving_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "weighing-receive"]


def positions(served: ServedJournal, origin: str = "") -> dict[str, int]:
    answer = served.stub.ListPositions(pb.ListPositionsRequest(origin=origin), timeout=WAIT_SECONDS)
    return {position.origin: position.size for position in answer.positions}


def test_starting_begins_the_own_log(serve: Serve, journal: MakeJournal) -> None:
    served = serve(journal(COUNTY))
    assert positions(served) == {COUNTY: 1}


def test_positions_tell_everything(served_city: ServedJournal) -> None:
    paper = PaperLog().add(b"one").add_raw(b"\xff")
    served_city.append(paper.batch())
    (_, copy) = served_city.stub.ListPositions(pb.ListPositionsRequest(), timeout=WAIT_SECONDS).positions
    assert (copy.origin, copy.stream, copy.size, copy.root) == (COUNTY, "weighing", 3, paper.root())
    assert (copy.total_bytes, copy.parked_count, copy.is_own) == (sum(map(len, paper.entries)), 1, False)
    assert copy.last_write_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    assert positions(served_city, CITY) == {CITY: 1}
    assert positions(served_city, "141099") == {}
    assert positions(served_city, "141\x00") == {}


# Reading


def test_reading_to_the_end(served_county: ServedJournal) -> None:
    served_county.journal.write_many(2_499)
    answers = list(served_county.read(origin=COUNTY, first_sequence=1))
    assert [entry for answer in answers for entry in answer.batch.entries] == served_county.journal.entries(COUNTY)
    assert not any(answer.leaf_digests for answer in answers)
    (answer,) = served_county.read(origin=COUNTY, first_sequence=2_400, include_leaf_digests=True)
    assert list(answer.leaf_digests) == [naive_merkle.leaf(entry) for entry in answer.batch.entries]


def test_reading_at_the_end_gives_nothing(served_county: ServedJournal) -> None:
    assert list(served_county.read(origin=COUNTY, first_sequence=2)) == []


def test_reading_in_small_batches(served_county: ServedJournal) -> None:
    served_county.journal.write_many(9)
    answers = list(served_county.read(origin=COUNTY, first_sequence=1, batch_records_max=4))
    assert [len(answer.batch.entries) for answer in answers] == [4, 4, 2]
    assert len(list(served_county.read(origin=COUNTY, first_sequence=1, batch_records_max=100_000))) == 1


def test_reasons_of_reading(served_county: ServedJournal) -> None:
    reasons = {
        Reason.UNKNOWN_LOG: {"origin": CITY, "first_sequence": 1},
        Reason.BEYOND_LOG: {"origin": COUNTY, "first_sequence": 3},
        Reason.INVALID_ARGUMENT: {"origin": COUNTY, "first_sequence": 1, "batch_records_max": -1},
    }
    for reason, fields in reasons.items():
        assert refusal(lambda fields=fields: served_county.read(**fields)).reason is reason
    for origin in ("", "\x00", "１４１０２５", "x" * 60_000):
        assert refusal(lambda text=origin: served_county.read(origin=text, first_sequence=1)).reason is (
            Reason.UNKNOWN_LOG
        )
    for sequence in (0, -1, -(2**63), 2**63 - 1):
        assert refusal(lambda number=sequence: served_county.read(origin=COUNTY, first_sequence=number)).reason is (
            Reason.BEYOND_LOG
        )


def test_following_gives_what_is_written_later(served_county: ServedJournal) -> None:
    following = served_county.read(origin=COUNTY, first_sequence=1, follow=True)
    seen: list[bytes] = list(next(following).batch.entries)
    for count in (1, 3, 2_000):
        size = served_county.journal.write_many(count)
        while len(seen) < size:
            seen += next(following).batch.entries
    following.cancel()
    assert seen == served_county.journal.entries(COUNTY)


def test_following_another_writer_of_the_same_log(served_county: ServedJournal, journal: MakeJournal) -> None:
    # Another replica: only the database's notification tells.
    replica = journal(COUNTY, served_county.journal.url)
    following = served_county.read(origin=COUNTY, first_sequence=2, follow=True)
    replica.write(b"by the replica")
    assert list(next(following).batch.entries) == [entry_of(b"by the replica")]
    following.cancel()


def test_a_server_that_stops_ends_its_streams(serve: Serve, county: Journal) -> None:
    served = serve(county)
    following = served.read(origin=COUNTY, first_sequence=1, follow=True)
    watching = served.stub.WatchPositions(pb.WatchPositionsRequest(), timeout=WAIT_SECONDS)
    feed = Feed()
    appending = served.stub.AppendEntries(feed, timeout=WAIT_SECONDS)
    feed.send(PaperLog("141026").batch())
    assert next(appending).position.size == 1
    next(following)
    next(watching)
    stopping = threading.Thread(target=served.server.stop, args=(WAIT_SECONDS,))
    stopping.start()
    for stream in (following, watching, appending):
        assert refusal(lambda one=stream: one).reason is Reason.SHUTTING_DOWN
    stopping.join(WAIT_SECONDS / 2)
    assert not stopping.is_alive()
    feed.end()
    eventually(lambda: not receiving_threads(), "the receiving thread ends")


# Watching


def test_watching_positions(served_city: ServedJournal) -> None:
    watching = served_city.stub.WatchPositions(pb.WatchPositionsRequest(), timeout=WAIT_SECONDS)
    assert {one.origin: one.size for one in next(watching).positions} == {CITY: 1}
    served_city.append(PaperLog().add_many(4).batch())
    assert {one.origin: one.size for one in next(watching).positions} == {COUNTY: 5}
    served_city.journal.write_many(2)
    assert {one.origin: one.size for one in next(watching).positions} == {CITY: 3}
    watching.cancel()


def test_a_replay_is_a_change_of_position(served_city: ServedJournal) -> None:
    served_city.append(PaperLog().add_raw(entry_of(b"x", schema=2)).batch())
    watching = served_city.stub.WatchPositions(pb.WatchPositionsRequest(), timeout=WAIT_SECONDS)
    assert {one.origin: one.parked_count for one in next(watching).positions} == {CITY: 0, COUNTY: 1}
    served_city.journal.projection.kinds = {"zhichao.test.v1.Note": 2}
    answer = served_city.stub.ReplayParkedEntries(pb.ReplayParkedEntriesRequest(), timeout=WAIT_SECONDS)
    assert (answer.projected_count, answer.parked_count) == (1, 0)
    assert {one.origin: one.parked_count for one in next(watching).positions} == {COUNTY: 0}
    watching.cancel()


# Appending


def test_appending(served_city: ServedJournal) -> None:
    paper = PaperLog().add_many(9)
    answers = served_city.append(*paper.batches(3, 7))
    assert [(answer.position.size, answer.duplicate_count) for answer in answers] == [(3, 0), (7, 0), (10, 0)]
    assert answers[-1].position.root == paper.root()
    signed = SignedCheckpoint.parse(answers[-1].checkpoint)
    assert signed.cosigned_at(served_city.journal.signer.verifier_key) == int(NOW.timestamp())


def test_logs_go_up_through_two_services(served_county: ServedJournal, served_city: ServedJournal) -> None:
    served_county.journal.write_many(3_000)
    served_city.append(*map(batch_of, served_county.read(origin=COUNTY, first_sequence=1)))
    assert_same_log(served_city.journal, served_county.journal, COUNTY)


def test_an_error_in_the_middle_ends_the_stream_after_the_answers_before_it(served_city: ServedJournal) -> None:
    paper = PaperLog().add_many(9)
    feed = Feed()
    answers = served_city.stub.AppendEntries(feed, timeout=WAIT_SECONDS)
    feed.send(paper.batch(1, 3), paper.batch(4, 6), paper.batch(8, 10))
    # The stream stays open from our side: the refusal must not wait for another message.
    assert [next(answers).position.size, next(answers).position.size] == [3, 6]
    error = refusal(lambda: answers)
    assert (error.reason, error.metadata["expected_sequence"]) == (Reason.SEQUENCE_GAP, "7")
    assert served_city.journal.size(COUNTY) == 6
    feed.end()
    eventually(lambda: not receiving_threads(), "the receiving thread ends")


def test_a_caller_that_waits_for_each_answer_is_refused_at_once(served_city: ServedJournal) -> None:
    feed = Feed()
    answers = served_city.stub.AppendEntries(feed, timeout=WAIT_SECONDS)
    feed.send(PaperLog().add_many(3).batch(2, 3))
    assert refusal(lambda: answers).reason is Reason.SEQUENCE_GAP
    feed.end()


def test_a_caller_that_leaves_takes_its_thread_along(served_city: ServedJournal) -> None:
    paper = PaperLog().add_many(9)
    for turn in range(12):
        # More streams than the server has at once: each must give its place back.
        feed = Feed()
        answers = served_city.stub.AppendEntries(feed, timeout=WAIT_SECONDS)
        feed.send(paper.batch(1, 3))
        assert next(answers).duplicate_count == (3 if turn else 0)
        answers.cancel()
        feed.end()
    eventually(lambda: not receiving_threads(), "the receiving threads end")


def test_reasons_of_appending(served_city: ServedJournal) -> None:
    paper = PaperLog().add_many(4)
    served_city.append(paper.batch(1, 3))
    cases = {
        Reason.SEQUENCE_GAP: ("OUT_OF_RANGE", paper.batch(5, 5)),
        Reason.HISTORY_MISMATCH: ("DATA_LOSS", paper.batch(4, 5, root=bytes(32))),
        Reason.INVALID_CHECKPOINT: ("INVALID_ARGUMENT", paper.batch(4, 5, signed_size=9)),
        Reason.ORIGIN_NOT_ALLOWED: ("PERMISSION_DENIED", PaperLog(CITY).batch()),
    }
    for reason, (status, batch) in cases.items():
        error = refusal(lambda one=batch: served_city.append(one))
        assert (error.reason, error.status) == (reason, status)
    assert positions(served_city, COUNTY) == {COUNTY: 3}


def test_an_empty_message(served_city: ServedJournal) -> None:
    answers = served_city.stub.AppendEntries(iter([pb.AppendEntriesRequest()]), timeout=WAIT_SECONDS)
    assert refusal(lambda: answers).reason is Reason.INVALID_ARGUMENT


# Checkpoints and proofs


def test_checkpoints_and_proofs_are_checked_by_another_implementation(
    served_county: ServedJournal, served_city: ServedJournal
) -> None:
    served_county.journal.write_many(699)
    served_city.append(*map(batch_of, served_county.read(origin=COUNTY, first_sequence=1)))
    entries = served_county.journal.entries(COUNTY)
    for served in (served_county, served_city):
        stub = served.stub
        held = stub.GetCheckpoint(pb.GetCheckpointRequest(origin=COUNTY), timeout=WAIT_SECONDS)
        assert held.verifier_key == served_county.journal.signer.verifier_key.format()
        checkpoint = SignedCheckpoint.parse(held.checkpoint).checkpoint
        assert (checkpoint.size, checkpoint.root) == (700, naive_merkle.root_of(entries))
        for sequence, size in ((1, 0), (700, 0), (256, 257), (300, 512), (1, 1)):
            proof = stub.GetInclusionProof(
                pb.GetInclusionProofRequest(origin=COUNTY, sequence=sequence, size=size), timeout=WAIT_SECONDS
            )
            assert (proof.size, proof.entry) == (size or 700, entries[sequence - 1])
            assert proof.root == naive_merkle.root_of(entries[: proof.size])
            assert proof.leaf_digest == naive_merkle.leaf(proof.entry)
            found = naive_merkle.root_from_path(proof.leaf_digest, sequence - 1, proof.size, proof.path)
            assert found == proof.root
        for first, second in ((1, 0), (256, 700), (257, 512), (699, 700), (700, 700)):
            consistency = stub.GetConsistencyProof(
                pb.GetConsistencyProofRequest(origin=COUNTY, first_size=first, second_size=second),
                timeout=WAIT_SECONDS,
            )
            assert consistency.second_size == (second or 700)
            assert consistency.first_root == naive_merkle.root_of(entries[:first])
            assert consistency.second_root == naive_merkle.root_of(entries[: consistency.second_size])
            roots = consistency.first_root, consistency.second_root
            assert naive_merkle.roots_from_proof(first, consistency.second_size, roots[0], consistency.path) == roots


def test_reasons_of_checkpoints_and_proofs(served_county: ServedJournal) -> None:
    stub = served_county.stub
    cases = [
        (stub.GetCheckpoint, pb.GetCheckpointRequest(origin=COUNTY, size=2), Reason.BEYOND_LOG),
        (stub.GetCheckpoint, pb.GetCheckpointRequest(origin=COUNTY, size=-1), Reason.BEYOND_LOG),
        (stub.GetCheckpoint, pb.GetCheckpointRequest(origin="\x00"), Reason.UNKNOWN_LOG),
        (stub.AddCosignatures, pb.AddCosignaturesRequest(checkpoint="\x00"), Reason.INVALID_CHECKPOINT),
        (stub.GetInclusionProof, pb.GetInclusionProofRequest(origin=COUNTY), Reason.BEYOND_LOG),
        (stub.GetInclusionProof, pb.GetInclusionProofRequest(origin=CITY, sequence=1), Reason.UNKNOWN_LOG),
        (stub.GetConsistencyProof, pb.GetConsistencyProofRequest(origin=COUNTY), Reason.BEYOND_LOG),
        (stub.ListParkedEntries, pb.ListParkedEntriesRequest(page_size=-1), Reason.INVALID_ARGUMENT),
        (stub.ListParkedEntries, pb.ListParkedEntriesRequest(page_token="no token"), Reason.INVALID_PAGE_TOKEN),
    ]
    for call, request, reason in cases:
        assert refusal(lambda one=call, of=request: one(of, timeout=WAIT_SECONDS)).reason is reason


def test_adding_cosignatures(served_county: ServedJournal, served_city: ServedJournal) -> None:
    (answer,) = served_city.append(*map(batch_of, served_county.read(origin=COUNTY, first_sequence=1)))
    request = pb.AddCosignaturesRequest(checkpoint=answer.checkpoint)
    added = [served_county.stub.AddCosignatures(request, timeout=WAIT_SECONDS).added_count for _ in range(2)]
    assert added == [1, 0]


# Parked entries


def test_parked_entries_are_paged(served_city: ServedJournal) -> None:
    served_city.append(PaperLog().add_raw(*[entry_of(b"x", schema=2)] * 5, b"\xff").batch())
    listed: list[pb.ParkedEntry] = []
    token = ""
    while token or not listed:
        page = served_city.stub.ListParkedEntries(
            pb.ListParkedEntriesRequest(page_size=2, page_token=token), timeout=WAIT_SECONDS
        )
        assert 1 <= len(page.parked_entries) <= 2
        listed += page.parked_entries
        token = page.next_page_token
    assert [(one.origin, one.sequence, one.cause, one.attempt_count) for one in listed] == [
        *[(COUNTY, sequence, "newer_schema", 1) for sequence in range(2, 7)],
        (COUNTY, 7, "malformed", 1),
    ]
    assert all(one.HasField("park_time") for one in listed)
    # A token is of use for its own filter only.
    first = served_city.stub.ListParkedEntries(pb.ListParkedEntriesRequest(page_size=2), timeout=WAIT_SECONDS)
    other = pb.ListParkedEntriesRequest(origin=COUNTY, page_token=first.next_page_token)
    error = refusal(lambda: served_city.stub.ListParkedEntries(other, timeout=WAIT_SECONDS))
    assert error.reason is Reason.INVALID_PAGE_TOKEN


def test_a_database_that_is_away_is_unavailable_and_comes_back(served_city: ServedJournal) -> None:
    paper = PaperLog().add_many(3)
    served_city.append(paper.batch(1, 2))
    served_city.journal.kill_connections()
    # The pool finds out for itself; at worst one call is asked to come again.
    try:
        served_city.append(paper.batch(3, 4))
    except grpc.RpcError:
        served_city.append(paper.batch(3, 4))
    assert positions(served_city, COUNTY) == {COUNTY: 4}
