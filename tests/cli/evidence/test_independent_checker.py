"""Another checker, written from docs/evidence-bundle.md alone, with Python's own library, Ed25519 and the protos: the
document says enough, and the two agree.
"""

import base64
import hashlib
import json
import zipfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.cli.evidence.bundles import CITY, COUNTY, RECORD, UNIT, Case
from zhichao.journal.v1.entry_pb2 import Entry, LogStart
from zhichao.video.v1.custody_pb2 import CUSTODY_ACTION_EXPORTED, CustodyEvent
from zhichao.video.v1.evidence_pb2 import Evidence
from zhichao.weighing.v1.weighing_pb2 import Weighing

DASH = "\u2014"


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def root_of(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2: the same tree as RFC 6962, walked from the leaf."""
    digest, last = leaf, size - 1
    for node in path:
        if index % 2 or index == last:
            digest = sha256(b"\x01" + node + digest)
            while index and not index % 2:
                index, last = index // 2, last // 2
        else:
            digest = sha256(b"\x01" + digest + node)
        index, last = index // 2, last // 2
    assert last == 0, "the path is too short"
    return digest


def key_of(text: str) -> tuple[str, bytes]:
    """Signed-note verifier key: name, four bytes of a digest, algorithm byte and key."""
    name, _, encoded = text.split("+", 2)
    content = base64.b64decode(encoded)
    assert content[0] == 1
    return name, content[1:]


def identifier(name: str, algorithm: int, key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([algorithm]) + key)[:4]


def check(bundle: Path) -> dict[str, set[str]]:
    """Check a bundle; return by log who has cosigned it with a key that is known. Fails by assertion."""
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        files = {one.filename: archive.read(one) for one in archive.infolist()}
        assert all(one.compress_type == zipfile.ZIP_STORED for one in archive.infolist())
        comment = archive.comment.decode()
    index = json.loads(files["index.json"])
    assert comment == f"zhichao-evidence-bundle/1 sha256:{sha256(files['index.json']).hex()}"
    assert {one["name"] for one in index["files"]} == set(files) - {"index.json"}
    for one in index["files"]:
        content = files[one["name"]]
        assert (len(content), sha256(content).hex()) == (one["size_bytes"], one["sha256"])

    logs: dict[tuple[str, str], tuple[int, bytes]] = {}
    cosigned: dict[str, set[str]] = {}
    for log in index["logs"]:
        start = LogStart.FromString(Entry.FromString(files[log["start"]]).payload)
        assert (start.stream, start.origin, start.digest_algorithm) == (log["stream"], log["origin"], "sha256")
        text, _, tail = files[log["checkpoint"]].decode().partition("\n\n")
        name, size, root = text.split("\n")
        assert name == f"zhichao/{log['origin']}/{log['stream']}"
        logs[log["stream"], log["origin"]] = int(size), base64.b64decode(root)
        owner, key = key_of(start.verifier_key)
        assert owner == f"zhichao/{log['origin']}"
        known = dict(map(key_of, index["keys"]))
        is_signed = False
        for line in tail.splitlines():
            dash, signer, encoded = line.split(" ")
            assert dash == DASH
            content = base64.b64decode(encoded)
            message = f"{text}\n".encode()
            if content[:4] == identifier(owner, 1, key):
                Ed25519PublicKey.from_public_bytes(key).verify(content[4:], message)
                is_signed = True
            elif signer in known and content[:4] == identifier(signer, 4, known[signer]):
                seconds = int.from_bytes(content[4:12], "big")
                message = f"cosignature/v1\ntime {seconds}\n".encode() + message
                Ed25519PublicKey.from_public_bytes(known[signer]).verify(content[12:], message)
                cosigned.setdefault(log["stream"], set()).add(signer)
        assert is_signed

    payloads: dict[str, bytes] = {}
    for one in index["entries"]:
        size_of_log, root_of_log = logs[one["stream"], one["origin"]]
        leaf = sha256(b"\x00" + files[one["file"]])
        assert leaf.hex() == one["leaf"]
        path = [bytes.fromhex(node) for node in one["path"]]
        assert root_of(leaf, one["sequence"] - 1, size_of_log, path) == root_of_log
        payloads[one["file"]] = Entry.FromString(files[one["file"]]).payload

    weighing = Weighing.FromString(payloads[index["weighing"]])
    exported = {
        event.evidence_id
        for event in (CustodyEvent.FromString(payloads[file]) for file in index["custody"])
        if event.action == CUSTODY_ACTION_EXPORTED and event.reference_id == index["bundle_id"]
    }
    assert (weighing.record.source_unit_id, weighing.record.record_id) == (UNIT, RECORD)
    for one in index["evidence"]:
        evidence = Evidence.FromString(payloads[one["manifest"]])
        assert weighing.record.record_id in {subject.record_id for subject in evidence.subjects}
        assert sha256(files[one["file"]]) == evidence.digest
        assert evidence.evidence_id in exported
    return cosigned


def test_a_checker_written_from_the_document_agrees(tmp_path: Path) -> None:
    bundle = Case().pack(tmp_path / "b.zip")
    assert check(bundle) == {stream: {f"zhichao/{CITY}"} for stream in ("weighing", "video", "registry")}
    assert f"zhichao/{COUNTY}" not in str(check(bundle))
