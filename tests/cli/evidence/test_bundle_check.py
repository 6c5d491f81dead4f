"""Bundles are checked offline: what is as exported passes, and whatever was changed is named."""

import dataclasses
import io
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cli.evidence_bundle.archive import Archive
from cli.evidence_bundle.archive_writer import BundleWriter
from cli.evidence_bundle.check import BundleCheck, check_bundle
from cli.evidence_bundle.index import INDEX_NAME, READABLE_NAME, Index, UnreadableIndexError
from cli.evidence_bundle.packing import EvidencePart
from services.journal.notes import SignedCheckpoint
from tests.cli.evidence.bundles import (
    BUNDLE,
    CITY,
    CLIP,
    COUNTY,
    PHOTO,
    Case,
    evidence,
    exported,
    key_of,
    part,
    signer,
)
from zhichao.registry.v1 import resources_pb2
from zhichao.video.v1 import evidence_pb2

SEED = 20250301


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Case().pack(tmp_path / "bundle.zip")


def places(check: BundleCheck) -> set[str]:
    return {finding.place for finding in check.findings}


def details(check: BundleCheck) -> str:
    return "\n".join(finding.detail for finding in check.findings)


def repacked(bundle: Path, changes: dict[str, bytes | None], edit: Any = lambda index: index) -> Path:
    """Write the bundle again with other contents, with an index and a comment that fit: as somebody cunning would."""
    changed = bundle.with_name("changed.zip")
    with Archive.open(bundle) as archive:
        contents = {name: archive.content(name, 10**9) or b"" for name in archive.members}
    index = Index.from_json(contents.pop(INDEX_NAME))
    with BundleWriter(changed) as writer:
        for name, content in {**contents, **changes}.items():
            if content is not None:
                writer.add_bytes(name, content)
        writer.finish(edit(index))
    return changed


def test_a_bundle_is_as_exported(bundle: Path) -> None:
    check = check_bundle(bundle)
    assert check.findings == []
    assert check.is_right
    # Entry 1 of three logs, the weighing, rule set and certificate, two manifests with their exports.
    assert check.proof_count == 10
    assert check.contents.weighing is not None
    assert check.contents.weighing.plate_number == "晋N12345"
    assert check.contents.rule_set_is_proven
    assert [one.evidence.evidence_id for one in check.contents.evidence] == ["e-photo", "e-clip"]
    assert check.contents.export is not None
    assert check.contents.export.purpose == "复核"
    assert {(log.name, log.size) for log in check.logs} == {
        (f"weighing {COUNTY}", 7),
        (f"video {COUNTY}", 5),
        (f"registry {COUNTY}", 3),
    }
    assert all(log.cosigners == {f"zhichao/{CITY}": True} for log in check.logs)
    assert not any(log.is_pinned for log in check.logs)


def test_packing_the_same_again_makes_the_same_bytes(tmp_path: Path) -> None:
    first, second = Case().pack(tmp_path / "a.zip"), Case().pack(tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode & 0o777 == 0o600


def test_any_unzip_reads_a_bundle(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == INDEX_NAME
        assert [archive.read(name) for name in archive.namelist() if name.startswith("evidence/")] == [PHOTO, CLIP]
        said = json.loads(archive.read(READABLE_NAME))
    assert [one["payload"]["plate_number"] for one in said if "Weighing" in one["entry"]["kind"]] == ["晋N12345"]


def test_every_changed_byte_is_named(bundle: Path) -> None:
    """Each byte of the file is changed once; what is told is near it."""
    content = bytearray(bundle.read_bytes())
    with Archive.open(bundle) as archive:
        members = list(archive.members.values())
    missed = []
    for place in range(len(content)):
        content[place] ^= 0x20
        bundle.write_bytes(content)
        check = check_bundle(bundle)
        owner = next((one.name for one in members if one.offset <= place < one.end), "")
        is_named = not owner or any(owner in finding.place for finding in check.findings)
        if check.is_right or not check.findings or not is_named:
            missed.append((place, owner, check.findings))
        content[place] ^= 0x20
    assert missed == []


def test_every_byte_that_is_lost_or_added_is_noticed(bundle: Path) -> None:
    content = bundle.read_bytes()
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for place in rng.sample(range(len(content)), 300):
        for changed in (
            content[:place],
            content[:place] + content[place + 1 :],
            content[:place] + b"\0" + content[place:],
        ):
            bundle.write_bytes(changed)
            check = check_bundle(bundle)
            assert not check.is_right, place
            assert check.findings, place


def test_noise_never_breaks_the_checker(bundle: Path) -> None:
    content = bundle.read_bytes()
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    for round_ in range(1_500):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 2, 8, 64))):
            start = rng.randrange(len(changed))
            changed[start : start + rng.randrange(1, 40)] = rng.randbytes(rng.randrange(40))
        if bytes(changed) == content:
            continue
        bundle.write_bytes(changed)
        assert not check_bundle(bundle).is_right, round_


def test_what_is_no_bundle_is_told_so(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"hello"), ("noise", random.Random(SEED).randbytes(5_000))):
        path = tmp_path / name
        path.write_bytes(content)
        assert "is no bundle" in details(check_bundle(path)), name


def test_a_bundle_that_was_packed_again_is_refused(bundle: Path, tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        again = tmp_path / f"again-{method}.zip"
        with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(again, "w", method) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        assert not check_bundle(again).is_right


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(INDEX_NAME, b"0" * 200_000_000)
    check = check_bundle(bomb)
    assert (check.is_right, check.index) == (False, None)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/x", "evidence/../x", "A.txt", ".hidden", "a//b", "x\\y", "entries/"]
)
def test_paths_that_lead_elsewhere_are_refused(bundle: Path, name: str) -> None:
    changed = repacked(bundle, {name: b"x"})
    assert not check_bundle(changed).is_right


def test_a_name_that_stands_twice_is_refused(tmp_path: Path, bundle: Path) -> None:
    doubled = tmp_path / "doubled.zip"
    with Archive.open(bundle) as archive:
        contents = {name: archive.content(name, 10**9) or b"" for name in archive.members}
    index = Index.from_json(contents.pop(INDEX_NAME))
    with BundleWriter(doubled) as writer:
        for name, content in contents.items():
            writer.add_bytes(name, content)
        writer.add_bytes("readme.txt", b"another one")
        writer.finish(index)
    assert not check_bundle(doubled).is_right


def test_more_files_than_a_bundle_may_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5_000):
            archive.writestr(f"f{number}", b"")
    assert not check_bundle(path).is_right


# Somebody cunning, who makes index and comment fit


def test_other_bytes_under_an_index_that_fits_are_named(bundle: Path) -> None:
    with Archive.open(bundle) as archive:
        names = [name for name in archive.members if name != INDEX_NAME]
    for name in names:
        with Archive.open(bundle) as archive:
            content = archive.content(name, 10**9) or b""
        changed = repacked(bundle, {name: content[:-1] + bytes([content[-1] ^ 1])})
        check = check_bundle(changed)
        assert not check.is_right, name
        assert any(name in place for place in places(check)), (name, check.findings)


def test_files_that_are_taken_out_are_named(bundle: Path) -> None:
    with Archive.open(bundle) as archive:
        names = [name for name in archive.members if name != INDEX_NAME]
    for name in names:
        assert not check_bundle(repacked(bundle, {name: None})).is_right, name


def test_a_file_that_is_put_in_is_named(bundle: Path) -> None:
    assert places(check_bundle(repacked(bundle, {"note.txt": b"trust me"}))) == {"note.txt"}
    assert "evidence/x.jpg" in places(check_bundle(repacked(bundle, {"evidence/x.jpg": b"x"})))


def test_every_claim_of_the_index_is_checked(bundle: Path) -> None:
    """Whatever the index says otherwise, with a comment that fits, is noticed."""
    with Archive.open(bundle) as archive:
        index = Index.from_json(archive.content(INDEX_NAME, 10**9) or b"")
    first, *others = index.entries
    log = index.logs[0]
    photo, clip = index.evidence
    changes: list[dict[str, Any]] = [
        {"bundle_id": "b-2"},
        {"platform": CITY},
        {"weighing": photo.manifest},
        {"weighing": ""},
        {"rule_set": ""},
        {"rule_set": index.certificate},
        {"certificate": ""},
        {"certificate": index.rule_set},
        {"evidence": ()},
        {"evidence": (photo,)},
        {"evidence": (photo, photo)},
        {"evidence": (dataclasses.replace(photo, file=clip.file), clip)},
        {"evidence": (dataclasses.replace(photo, file=""), clip)},
        {"evidence": (dataclasses.replace(photo, manifest=index.weighing), clip)},
        {"evidence": (dataclasses.replace(photo, file="", bytes_state="BELOW"), clip)},
        {"custody": ()},
        {"custody": index.custody[:1]},
        {"custody": (*index.custody, index.weighing)},
        {"entries": others},
        {"entries": (dataclasses.replace(first, sequence=first.sequence + 1), *others)},
        {"entries": (dataclasses.replace(first, origin=CITY), *others)},
        {"entries": (dataclasses.replace(first, leaf=others[0].leaf), *others)},
        {"entries": (dataclasses.replace(first, path=(*first.path, first.path[0])), *others)},
        {"entries": (dataclasses.replace(first, path=first.path[1:]), *others)},
        {"entries": (dataclasses.replace(first, path=("zz", *first.path[1:])), *others)},
        {"entries": (first, first, *others)},
        {"logs": index.logs[1:]},
        {"logs": (log, *index.logs)},
        {"logs": (dataclasses.replace(log, checkpoint=index.logs[1].checkpoint), *index.logs[1:])},
        {"logs": (dataclasses.replace(log, start=index.logs[1].start), *index.logs[1:])},
        {"logs": (dataclasses.replace(log, origin=CITY), *index.logs[1:])},
        {"keys": ("zhichao/141000+00000000+AAAA",)},
    ]
    for change in changes:

        def edit(index: Index, change: dict[str, Any] = change) -> Index:
            return dataclasses.replace(index, **change)

        assert not check_bundle(repacked(bundle, {}, edit)).is_right, change


def test_an_index_that_is_spelled_otherwise_is_noticed(bundle: Path) -> None:
    with Archive.open(bundle) as archive:
        content = archive.content(INDEX_NAME, 10**9) or b""
    index = json.loads(content)
    for other in (
        json.dumps(index).encode(),
        content.replace(b'"form"', b'"form": 1,\n "form"'),
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        content.replace(b"bundle/1", b"bundle/2"),
        content.replace(b'"rule_set_is_proven": true', b'"rule_set_is_proven": 1'),
        b"[" * 100_000,
    ):
        with pytest.raises(UnreadableIndexError):
            Index.from_json(other)


# What belongs together


def test_bytes_that_are_not_held_are_told_and_are_no_fault(tmp_path: Path) -> None:
    case = Case()
    photo, clip = case.parts
    case.parts = [photo, EvidencePart(clip.manifest, clip.digest, clip.size_bytes, clip.content_type, "BELOW")]
    check = check_bundle(case.pack(tmp_path / "b.zip"))
    assert check.is_right
    assert [one.bytes_state for one in check.contents.evidence] == ["HELD", "BELOW"]


def test_two_manifests_of_the_same_bytes_hold_them_once(tmp_path: Path) -> None:
    case = Case()
    again = evidence("e-again", PHOTO, evidence_pb2.EVIDENCE_KIND_PHOTO)
    case.manifests.append(case.logs["video"].append(again))
    case.custody.append(case.logs["video"].append(exported(again)))
    case.parts.append(part(case.manifests[-1], PHOTO, "image/jpeg"))
    check = check_bundle(case.pack(tmp_path / "b.zip"))
    assert check.findings == []
    assert len(check.contents.evidence) == 3


def test_a_rule_set_that_could_not_be_proven_is_told_so(tmp_path: Path) -> None:
    case = Case()
    case.rule_set = resources_pb2.RuleSet(rule_set_id="order-62-2016", version=1).SerializeToString()
    check = check_bundle(case.pack(tmp_path / "b.zip"))
    assert check.findings == []
    assert check.contents.rule_set is not None
    assert not check.contents.rule_set_is_proven
    case.rule_set = resources_pb2.RuleSet(rule_set_id="order-62-2016", version=2).SerializeToString()
    assert "is not the rule set that judged" in details(check_bundle(case.pack(tmp_path / "c.zip")))


def test_evidence_of_another_weighing_is_named(tmp_path: Path) -> None:
    case = Case()
    other = evidence("e-other", PHOTO, evidence_pb2.EVIDENCE_KIND_PHOTO, record_id="r-2")
    case.manifests[0] = case.logs["video"].append(other)
    case.custody[0] = case.logs["video"].append(exported(other))
    case.parts[0] = part(case.manifests[0], PHOTO, "image/jpeg")
    assert "does not say that it proves this weighing" in details(check_bundle(case.pack(tmp_path / "b.zip")))


def test_an_export_that_was_not_written_down_is_named(tmp_path: Path) -> None:
    case = Case()
    case.custody[1] = case.logs["video"].append(exported(case.clip, "another-bundle"))
    assert f"was exported as {BUNDLE}" in details(check_bundle(case.pack(tmp_path / "b.zip")))


def test_bytes_that_came_otherwise_than_sealed_are_not_packed(tmp_path: Path) -> None:
    case = Case()
    case.parts[0] = dataclasses.replace(case.parts[0], read=lambda: [b"b photo" * 40])
    with pytest.raises(ValueError, match="came with the SHA-256"):
        case.pack(tmp_path / "b.zip")
    assert list(tmp_path.iterdir()) == []


# Whose keys


def test_keys_that_are_given_are_told(bundle: Path) -> None:
    check = check_bundle(bundle, [key_of(COUNTY), key_of(CITY)])
    assert check.is_right
    assert all(log.is_pinned and log.pinned_cosigners == {f"zhichao/{CITY}"} for log in check.logs)


def test_a_forged_county_is_right_in_itself_and_wrong_against_the_key_that_is_known(tmp_path: Path) -> None:
    forged = Case(seed=1).pack(tmp_path / "forged.zip")
    assert check_bundle(forged).is_right
    check = check_bundle(forged, [key_of(COUNTY)])
    assert "than the one given" in details(check)
    assert not any(log.is_pinned for log in check.logs)


def test_a_forged_cosigner_is_wrong_against_the_key_that_is_known(tmp_path: Path) -> None:
    case = Case()
    bundle = case.pack(tmp_path / "b.zip", keys=[signer(CITY, 1).verifier_key.format()])
    assert all(log.cosigners == {f"zhichao/{CITY}": None} for log in check_bundle(bundle).logs)
    assert "than the one given" in details(check_bundle(bundle, [key_of(CITY)]))
    assert "than the one given" in details(check_bundle(bundle, [key_of(CITY, 2)]))


def test_a_checkpoint_that_its_owner_did_not_sign_is_named(tmp_path: Path) -> None:
    case = Case()
    material = case.material()
    note = material.checkpoints["video", COUNTY]
    stranger = signer(CITY).sign(SignedCheckpoint.parse(note).checkpoint)
    bundle = case.pack(tmp_path / "b.zip", checkpoints={**material.checkpoints, ("video", COUNTY): stranger.format()})
    assert "is not signed with the key of entry 1" in details(check_bundle(bundle))


# The command


def test_the_command_checks_a_bundle_without_any_platform(bundle: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cli.main import main

    runner = CliRunner()
    for command in (["verify"], ["evidence", "verify"]):
        right = runner.invoke(main, [*command, str(bundle)], env={"COLUMNS": "200"})
        assert right.exit_code == 0, right.output
        assert "as exported" in right.output
        assert str(key_of(COUNTY).name) in right.output
        document = json.loads(runner.invoke(main, [*command, str(bundle), "--json"]).output)
        assert (document["is_right"], document["proof_count"]) == (True, 10)
        pinned = runner.invoke(main, [*command, str(bundle), "--key", signer(COUNTY, 1).verifier_key.format()])
        assert pinned.exit_code == 1
        content = bytearray(bundle.read_bytes())
        content[content.index(PHOTO)] ^= 1
        (tmp_path / "changed.zip").write_bytes(content)
        changed = runner.invoke(main, [*command, str(tmp_path / "changed.zip")], env={"COLUMNS": "200"})
        assert changed.exit_code == 1
        assert "evidence/" in changed.output
        assert "与导出内容不符" in changed.output


def test_texts_of_others_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cli.main import main

    case = Case()
    event = exported(case.photo)
    event.purpose = "\x1b]0;owned\x07"
    case.custody[0] = case.logs["video"].append(event)
    event = exported(case.clip)
    event.purpose = "\x1b[2J"
    case.custody[1] = case.logs["video"].append(event)
    shown = CliRunner().invoke(main, ["verify", str(case.pack(tmp_path / "b.zip"))])
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output


def test_checking_loads_no_part_of_the_services() -> None:
    code = (
        "import sys, cli.evidence_bundle.check, cli.evidence_bundle.report;"
        "print([name for name in sys.modules if name.split('.')[0] in ('services', 'grpc', 'sqlalchemy')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_large_places_and_sizes_stand_in_zip64_fields() -> None:
    """What is beyond 4 GiB is written as APPNOTE says, and Python reads it."""
    from cli.evidence_bundle import zip_records
    from cli.evidence_bundle.zip_records import Member

    size = 5 * 2**30
    first = Member("evidence/a.mp4", size, 0, 0)
    second = Member("index.json", 2, 0, first.end)
    tail = zip_records.tail([first, second], b"comment")
    header = zip_records.local_header(first)
    assert zip_records.read_local(header, 0) == first
    records = b"".join(zip_records.directory([first, second]))
    assert zip_records.read_directory(records, 2) == [first, second]
    assert zip_records.read_end(tail[len(records) : -len(b"comment")]) == (2, second.end, len(records))

    class Sparse(io.RawIOBase):
        """A file of which only the end has bytes."""

        place = 0

        def seekable(self) -> bool:
            return True

        def readable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.place = offset + (0, self.place, second.end + len(tail))[whence]
            return self.place

        def tell(self) -> int:
            return self.place

        def read(self, size: int = -1) -> bytes:
            end = second.end + len(tail) if size < 0 else min(self.place + size, second.end + len(tail))
            blank = bytes(max(0, min(end, second.end) - self.place))
            found = blank + tail[max(0, self.place - second.end) : max(0, end - second.end)]
            self.place += len(found)
            return found

    with zipfile.ZipFile(Sparse()) as archive:
        assert [(one.filename, one.file_size, one.header_offset) for one in archive.infolist()] == [
            ("evidence/a.mp4", size, 0),
            ("index.json", 2, first.end),
        ]
