"""Bundles by somebody cunning, who makes all fit: what they say is held against what is proven, and against keys."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.evidence_bundle import check, contents, packing
from cli.evidence_bundle.archive import Archive
from cli.evidence_bundle.check import check_bundle
from cli.evidence_bundle.contents import readable
from cli.evidence_bundle.index import INDEX_NAME, READABLE_NAME, Index, LeftOut, UnreadableIndexError
from cli.evidence_bundle.packing import EvidencePart, NotRightError, pack_checked
from cli.main import main
from services.journal.notes import SignedCheckpoint
from tests.cli.evidence.bundles import (
    BUNDLE,
    CITY,
    COUNTY,
    PHOTO,
    PROVINCE,
    UNIT,
    Case,
    Log,
    evidence,
    exported,
    key_of,
    part,
    rule_set_told,
    signer,
    weighing,
)
from tests.cli.evidence.changed_bundles import details, places, repacked
from zhichao.registry.v1 import resources_pb2
from zhichao.video.v1 import evidence_pb2, service_pb2


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Case().pack(tmp_path / "bundle.zip")


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
        # What was only told is proven by nothing: the readable form differs.
        named = "readable.json" if name.startswith("unproven/") else name
        assert any(named in place for place in places(check)), (name, check.findings)


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
        {"evidence_left_out": -1},
        {"custody_left_out": (LeftOut("VIEWED", 0),)},
        {"custody_left_out": (LeftOut("viewed", 1),)},
        {"custody_left_out": (LeftOut("VIEWED", 1), LeftOut("VIEWED", 1))},
        {"custody_left_out": (LeftOut("VIEWED", 1), LeftOut("EXPORTED", 1))},
        # There is room for a thousand.
        {"custody_left_out": (LeftOut("VIEWED", 1),)},
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
        {"custody": (*index.custody, index.custody[0])},
        {"custody_unproven": ()},
        {"custody_unproven": (*index.custody_unproven, *index.custody_unproven)},
        {"custody_unproven": (*index.custody_unproven, index.weighing)},
        {"custody_unproven": (*index.custody_unproven, index.custody[0])},
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


def test_what_platforms_above_did_is_told_apart_from_what_is_proven(tmp_path: Path) -> None:
    case = Case()
    (told,) = case.told
    about_another = service_pb2.HeldCustodyEvent()
    about_another.CopyFrom(told)
    about_another.event.evidence_id = "e-other"
    assert "is about evidence that is not in the bundle" in details(
        check_bundle(case.pack(tmp_path / "a.zip", custody_unproven=[about_another]))
    )
    # What could be proven has to be.
    told.origin = COUNTY
    assert f"is of {COUNTY}, whose log is in the bundle" in details(check_bundle(case.pack(tmp_path / "b.zip")))


def test_what_was_left_out_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two events of the county, one of the city.
    monkeypatch.setattr(contents, "CUSTODY_MAX", 3)
    left_out = {"VIEWED": 1_234, "DOWNLOADED": 2}
    bundle = Case().pack(tmp_path / "b.zip", evidence_left_out=7, custody_left_out=left_out)
    document = json.loads(CliRunner().invoke(main, ["verify", str(bundle), "--json"]).stdout)
    assert document["is_right"], document["findings"]
    assert (document["evidence_left_out"], document["custody_left_out"]) == (7, left_out)
    shown = CliRunner().invoke(main, ["verify", str(bundle)], env={"COLUMNS": "200"}).output
    for words in ("7 other pieces of evidence 另有证据 7 件", "1,234 × viewed 查看", "2 × downloaded 下载"):
        assert words in shown


def test_what_people_read_is_compared_although_something_has_no_readable_form(tmp_path: Path) -> None:
    """A time that JSON cannot hold must not be a way to change the weight that people read."""
    case = Case()
    bundle = case.pack(tmp_path / "b.zip")
    with Archive.open(bundle) as archive:
        (name,) = Index.from_json(archive.content(INDEX_NAME, 10**9) or b"").custody_unproven
        said = archive.content(READABLE_NAME, 10**9) or b""
    lie = said.replace(b"58200", b"28200")
    assert lie != said
    assert places(check_bundle(repacked(bundle, {READABLE_NAME: lie}))) == {READABLE_NAME}
    (told,) = case.told
    told.event.event_time.seconds = 10**15
    check = check_bundle(repacked(bundle, {READABLE_NAME: lie, name: told.SerializeToString()}))
    assert places(check) == {READABLE_NAME, name}
    assert "has no readable form" in details(check)


def test_an_entry_that_has_no_readable_form_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has the key of a log can have any entry proven."""
    case = Case()
    timeless = weighing()
    timeless.record.weigh_time.seconds = 10**15
    case.weighing = case.logs["weighing"].append(timeless)
    monkeypatch.setattr(packing, "readable", lambda entries, unproven: b"[]\n")
    bundle = case.pack(tmp_path / "b.zip")
    check = check_bundle(bundle)
    (entry,) = {place for place in places(check) if place.startswith("entries/weighing-")}
    assert places(check) == {READABLE_NAME, entry}
    document = CliRunner().invoke(main, ["verify", str(bundle), "--json"])
    assert (document.exit_code, json.loads(document.stdout)["weighing"]) == (1, None)
    assert CliRunner().invoke(main, ["verify", str(bundle)]).exit_code == 1


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
    case = Case(rule_set_origin=PROVINCE)
    check = check_bundle(case.pack(tmp_path / "b.zip"))
    assert check.findings == []
    assert check.contents.rule_set is not None
    assert not check.contents.rule_set_is_proven
    case.rule_set = rule_set_told(PROVINCE, version=2)
    assert "is not the rule set that judged" in details(check_bundle(case.pack(tmp_path / "c.zip")))
    case.rule_set = rule_set_told(CITY)
    assert "is not of the platform whose rule set judged" in details(check_bundle(case.pack(tmp_path / "d.zip")))


def test_a_rule_set_that_could_be_proven_and_is_not_is_named(bundle: Path, tmp_path: Path) -> None:
    """A forged one is put in the place of the one that is proven, and all is made to fit."""
    with Archive.open(bundle) as archive:
        contents = {name: archive.content(name, 10**9) or b"" for name in archive.members}
    index = Index.from_json(contents[INDEX_NAME])
    entries = tuple(one for one in index.entries if one.file != index.rule_set)
    told = [(name, service_pb2.HeldCustodyEvent.FromString(contents[name])) for name in index.custody_unproven]
    changes: dict[str, bytes | None] = {
        index.rule_set: None,
        "rule-set.pb": rule_set_told(COUNTY),
        READABLE_NAME: readable([(one, contents[one.file]) for one in entries], told),
    }

    def edit(index: Index) -> Index:
        return dataclasses.replace(index, rule_set="rule-set.pb", rule_set_is_proven=False, entries=entries)

    check = check_bundle(repacked(bundle, changes, edit))
    assert places(check) == {"rule-set.pb"}
    assert f"is of {COUNTY}, whose registry log was at hand" in details(check)


@pytest.mark.parametrize("owner", [COUNTY, CITY])
def test_a_platform_that_exports_proves_the_rule_sets_of_its_own(tmp_path: Path, owner: str) -> None:
    """Also where nothing else of its registry log is in the bundle."""
    case = Case(rule_set_origin=owner)
    bundle = case.pack(tmp_path / "b.zip", platform=CITY)
    assert f"is of {owner}, whose registry log was at hand" in details(check_bundle(bundle))


def test_a_certificate_in_the_log_of_another_platform_is_named(tmp_path: Path) -> None:
    """Whoever has a key of any platform can write a certificate of any scale, and prove it."""
    case = Case()
    stranger = Log("registry", CITY)
    forged = stranger.append(
        resources_pb2.VerificationCertificate(source_unit_id=UNIT, scale_id="C1", certificate_number="SIM-1")
    )
    case.certificate = None
    made = case.material()
    bundle = case.pack(
        tmp_path / "b.zip",
        certificate=forged,
        entries={**made.entries, (*forged[:2], 1): stranger.proven(1), forged: stranger.proven(forged[2])},
        checkpoints={**made.checkpoints, forged[:2]: stranger.checkpoint()},
    )
    check = check_bundle(bundle)
    assert places(check) == {f"entries/registry-{CITY}-{forged[2]}.pb"}
    assert "is not of the platform that weighed" in details(check)


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


def test_a_bundle_that_is_not_right_gets_no_name(tmp_path: Path) -> None:
    case = Case()
    case.custody[1] = case.logs["video"].append(exported(case.clip, "another-bundle"))
    with pytest.raises(NotRightError) as refused:
        pack_checked(tmp_path / "b.zip", case.material())
    assert f"was exported as {BUNDLE}" in details(refused.value.check)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_does_not_take_the_name_of_another(tmp_path: Path) -> None:
    """Also when that one came while it was packed."""
    path = tmp_path / "b.zip"
    case = Case()
    assert pack_checked(path, case.material()).is_right
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        pack_checked(path, Case(is_small=True).material())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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


def test_a_log_of_no_size_is_refused_at_once(tmp_path: Path) -> None:
    case = Case()
    note = SignedCheckpoint.parse(case.material().checkpoints["video", COUNTY]).format()
    name, _, rest = note.split("\n", 2)
    endless = f"{name}\n{'9' * 4_000}\n{rest}"
    bundle = case.pack(tmp_path / "b.zip", checkpoints={**case.material().checkpoints, ("video", COUNTY): endless})
    assert "is for more entries than a log can have" in details(check_bundle(bundle))


def test_entries_beyond_what_is_kept_in_memory_are_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ENTRIES_BYTES_MAX", 100)
    assert "its entries have more than 100 bytes" in details(check_bundle(bundle))
