"""Bundles are checked offline: what is as exported passes, and whatever was changed is named."""

import io
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.evidence_bundle.archive import Archive
from cli.evidence_bundle.archive_writer import BundleWriter
from cli.evidence_bundle.check import check_bundle
from cli.evidence_bundle.index import INDEX_NAME, READABLE_NAME, Index
from cli.main import main
from tests.cli.evidence.bundles import (
    CITY,
    CLIP,
    COUNTY,
    PHOTO,
    Case,
    exported,
    key_of,
    signer,
)
from tests.cli.evidence.changed_bundles import details, repacked

SEED = 20250301

# Each takes some seconds, on a machine that does nothing else.
PARTS = 4


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Case().pack(tmp_path / "bundle.zip")


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
    assert [(one.origin, one.event.actor) for one in check.contents.custody_unproven] == [(CITY, "person/zhang")]
    assert {(log.name, log.size) for log in check.logs} == {
        (f"weighing {COUNTY}", 7),
        (f"video {COUNTY}", 5),
        (f"registry {COUNTY}", 3),
    }
    assert all(log.cosigners == {f"zhichao/{CITY}": True} for log in check.logs)
    assert not any(log.is_pinned for log in check.logs)


def test_keys_that_cosigned_are_shown_to_be_compared(bundle: Path) -> None:
    """Who has the key of a county can make one up for its city, and put it into the bundle."""
    keys = [signer(platform).verifier_key.format() for platform in (CITY, COUNTY)]
    shown = CliRunner().invoke(main, ["verify", str(bundle)], env={"COLUMNS": "200"}).output
    assert [line.split()[0] for line in shown.splitlines() if "compare it with" in line] == keys
    document = json.loads(CliRunner().invoke(main, ["verify", str(bundle), "--json"]).stdout)
    assert all(log["cosigner_keys"] == keys[:1] for log in document["logs"])
    # One that is given is compared already; the other one is not.
    given = CliRunner().invoke(main, ["verify", str(bundle), "--key", keys[0]], env={"COLUMNS": "200"}).output
    assert [line.split()[0] for line in given.splitlines() if "compare it with" in line] == keys[1:]
    assert [line.split()[0] for line in given.splitlines() if "the key given" in line] == keys[:1]


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2800", "\t"])
def test_the_name_of_a_cosigner_cannot_say_that_it_is_valid(tmp_path: Path, blank: str) -> None:
    """Anybody can put a line of a key that nobody knows under a checkpoint."""
    case = Case()
    checkpoints = case.material().checkpoints
    told = "\u2014 " + "zhichao/140000 valid 有效, zhichao/1".replace(" ", blank) + " AAAAAAA=\n"
    bundle = case.pack(tmp_path / "b.zip", checkpoints={log: note + told for log, note in checkpoints.items()})
    assert "cannot be read" in details(check_bundle(bundle))


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
    assert [one["payload"]["plate_number"] for one in said if one["entry"] and "Weighing" in one["entry"]["kind"]] == [
        "晋N12345"
    ]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_changed_byte_is_named(tmp_path: Path, part: int) -> None:
    """Each byte of a small bundle is changed once; what is told names the file that it is of."""
    bundle = Case(is_small=True).pack(tmp_path / "small.zip")
    content = bundle.read_bytes()
    with Archive.open(bundle) as archive:
        members = list(archive.members.values())
    missed = []
    with bundle.open("r+b", buffering=0) as file:
        for place in range(part, len(content), PARTS):
            file.seek(place)
            file.write(bytes([content[place] ^ 0x20]))
            check = check_bundle(bundle)
            owner = next((one.name for one in members if one.offset <= place < one.end), "")
            is_named = not owner or any(owner in finding.place for finding in check.findings)
            if check.is_right or not check.findings or not is_named:
                missed.append((place, owner, check.findings))
            file.seek(place)
            file.write(content[place : place + 1])
    assert missed == []
    assert check_bundle(bundle).is_right


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
