"""Compares the logs that an export was taken from with those that a platform holds now: whether they are that
platform's, and unchanged since.
"""

from typing import Final

import grpc

from cli.audit_log.check import LogCheck
from cli.audit_log.manifest import LogExport
from cli.verifier.notes import Note, UnreadableNoteError
from cli.verifier.tree import Hashes, roots_of_proof
from services.common.rpc_client import service_error
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

CALL_SECONDS_MAX: Final = 30.0


def compare(exported: LogExport, check: LogCheck, stub: journal_pb2_grpc.JournalServiceStub) -> None:
    """Add to the check what a platform says of the same log today: its own service, or one above that holds a copy."""
    origin = exported.head.origin
    try:
        note = Note.read(exported.head.checkpoint)
        held = stub.GetCheckpoint(journal_pb2.GetCheckpointRequest(origin=origin), timeout=CALL_SECONDS_MAX)
        if held.verifier_key != check.verifier_key:
            check.findings.append(
                f"the platform's log was begun with another key: {held.verifier_key} 平台日志的密钥不同"
            )
        proof = stub.GetConsistencyProof(
            journal_pb2.GetConsistencyProofRequest(origin=origin, first_size=note.size), timeout=CALL_SECONDS_MAX
        )
    except UnreadableNoteError:
        return  # That was found already.
    except grpc.RpcError as error:
        refused = service_error(error)
        check.findings.append(f"the platform cannot be asked: {refused.message} ({refused.reason}) 无法向平台核对")
        return
    # The digest is in entry 1, which lies in the log; both algorithms have been told apart there.
    for algorithm in ("sha256", "sm3"):
        roots = roots_of_proof(Hashes(algorithm), note.size, proof.second_size, proof.first_root, tuple(proof.path))
        if roots == (proof.first_root, proof.second_root):
            break
    else:
        check.findings.append(
            "the platform does not prove that its log is the one of that time, continued 平台未能证明日志一致"
        )
    if proof.first_root != note.root:
        check.findings.append(f"the platform's log was another one at {note.size:,} entries 平台当时的日志不同")
