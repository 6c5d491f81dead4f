"""`zhichao verify` against real databases in which something was changed: each change is found at its place."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.verifier.check import check_log
from cli.verifier.database import DatabaseSource
from cli.verifier.findings import Fault, LogResult
from cli.verify import verify
from tests.cli.verified_journals import CITY, COUNTY, SIZE, Keys, Tamperer, write_county
from tests.conftest import Databases


def check(url: str, *, origin: str = COUNTY, keys: Keys | None = None) -> LogResult:
    from cli.verifier.notes import PublicKey

    known = [PublicKey.read(signer.verifier_key.format()) for signer in keys.signers.values()] if keys else []
    source = DatabaseSource(url)
    try:
        (head,) = [head for head in source.heads() if head.origin == origin]
        return check_log(source, head, known)
    finally:
        source.close()


def found(result: LogResult) -> tuple[Fault, int, int]:
    first = result.first_bad
    assert first is not None, "nothing was found"
    return first.fault, first.first_sequence, first.last_sequence


def command(*arguments: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(verify, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout else {}


def test_untouched_journals_are_right(county_url: str, city_url: str, keys: Keys) -> None:
    county, city = check(county_url, keys=keys), check(city_url, keys=keys)
    assert (county.findings, city.findings) == ([], [])
    assert (county.checked, county.root) == (SIZE, city.root)
    assert county.cosigners == {f"zhichao/{CITY}": True}
    assert county.cosigned_size == SIZE
    assert city.checkpoint_count >= 1


Change = Callable[[Tamperer], object]
TILE = (257, 512)

CHANGES: list[tuple[str, Change, Fault, int, int]] = [
    ("byte", lambda one: one.change_bytes(300), Fault.BYTES_CHANGED, 300, 300),
    ("byte of the last", lambda one: one.change_bytes(SIZE), Fault.BYTES_CHANGED, SIZE, SIZE),
    ("leaf", lambda one: one.change_leaf(300), Fault.LEAF_CHANGED, 300, 300),
    ("together", lambda one: one.change_together(300), Fault.ENTRY_CHANGED, *TILE),
    ("swap", lambda one: one.swap(300, 400), Fault.ENTRY_CHANGED, *TILE),
    ("delete", lambda one: one.delete(300), Fault.MISSING, 300, 300),
    ("delete the first", lambda one: one.delete(1), Fault.MISSING, 1, 1),
    ("delete the last", lambda one: one.delete(SIZE), Fault.MISSING, SIZE, SIZE),
    (
        "add",
        lambda one: one.run(
            "INSERT INTO journal_entries SELECT origin, %s, entry, leaf FROM journal_entries"
            " WHERE origin = :o AND sequence = 5",
            SIZE + 1,
        ),
        Fault.SURPLUS,
        SIZE + 1,
        SIZE + 1,
    ),
    (
        "node",
        lambda one: one.run(
            "UPDATE journal_nodes SET digest = sha256('x') WHERE origin = :o AND level = 8 AND \"index\" = 1"
        ),
        Fault.NODE_CHANGED,
        0,
        0,
    ),
    ("no node", lambda one: one.run("DELETE FROM journal_nodes WHERE origin = :o"), Fault.NODE_CHANGED, 0, 0),
    (
        "root",
        lambda one: one.run("UPDATE journal_logs SET root = sha256('x') WHERE origin = :o"),
        Fault.HEAD_CHANGED,
        0,
        0,
    ),
    (
        "peaks",
        lambda one: one.run(
            "UPDATE journal_logs SET peaks = set_byte(peaks, 70, get_byte(peaks, 70) # 1) WHERE origin = :o"
        ),
        Fault.HEAD_CHANGED,
        0,
        0,
    ),
    (
        "key of the head",
        lambda one: one.run("UPDATE journal_logs SET verifier_key = 'x' WHERE origin = :o"),
        Fault.HEAD_CHANGED,
        0,
        0,
    ),
    ("byte of entry 1", lambda one: one.change_bytes(1), Fault.NOT_LOG_START, 1, 1),
]


@pytest.mark.parametrize("place", ["county", "city"])
@pytest.mark.parametrize(
    ("change", "fault", "first", "last"), [case[1:] for case in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_a_change_is_found(
    county_url: str, city_url: str, keys: Keys, place: str, change: Change, fault: Fault, first: int, last: int
) -> None:
    url = county_url if place == "county" else city_url
    change(Tamperer(url))
    result = check(url, keys=keys)
    assert found(result) == (fault, first, last), result.findings


def test_the_first_of_several_changes_is_named(county_url: str, keys: Keys) -> None:
    tamperer = Tamperer(county_url)
    tamperer.delete(600)
    tamperer.change_bytes(40)
    tamperer.change_leaf(30)
    result = check(county_url, keys=keys)
    first = result.first_bad
    assert first is not None
    assert first.first_sequence == 30
    assert (Fault.MISSING, 600) in {(one.fault, one.first_sequence) for one in result.findings}


@pytest.mark.parametrize("sequence", [5, 300, 513, SIZE])
def test_another_copy_names_the_entry_changed_with_its_digest(county_url: str, city_url: str, sequence: int) -> None:
    Tamperer(city_url).change_together(sequence)
    exit_code, document = command("--database-url", city_url, "--against", county_url, "--origin", COUNTY)
    assert exit_code == 1
    (log,) = document["platforms"][0]["logs"]  # type: ignore[index]  # JSON and messages are walked by name
    faults = {one["fault"]: (one["first_sequence"], one["last_sequence"]) for one in log["findings"]}
    assert faults["copies_differ"] == (sequence, sequence)
    first, last = faults["entry_changed"]
    assert first <= sequence <= last


def test_two_copies_that_are_equal(county_url: str, city_url: str) -> None:
    exit_code, document = command("--database-url", city_url, "--against", county_url, "--origin", COUNTY)
    (log,) = document["platforms"][0]["logs"]  # type: ignore[index]  # JSON and messages are walked by name
    assert (exit_code, log["compared"], log["cosigners"]) == (0, SIZE, {f"zhichao/{CITY}": True})
    assert command("--database-url", city_url, "--against", county_url, "--origin", CITY)[0] == 2


def test_a_swap_is_named_by_another_copy(county_url: str, city_url: str) -> None:
    Tamperer(city_url).swap(300, 600)
    _, document = command("--database-url", city_url, "--against", county_url, "--origin", COUNTY)
    (log,) = document["platforms"][0]["logs"]  # type: ignore[index]  # JSON and messages are walked by name
    assert ("copies_differ", 300) in {(one["fault"], one["first_sequence"]) for one in log["findings"]}


def _other_root(note: str) -> str:
    lines = note.split("\n")
    lines[2] = base64.b64encode(bytes(32)).decode()
    return "\n".join(lines)


def _forged(note: str) -> str:
    """Put other bytes in the place of the first signature; name and key identifier stay."""
    head, _, tail = note.partition("\n\n")
    first, *rest = tail.splitlines()
    dash, name, content = first.split(" ")
    signature = base64.b64decode(content)
    forged = base64.b64encode(signature[:-1] + bytes([signature[-1] ^ 1])).decode()
    return "\n".join([head, "", f"{dash} {name} {forged}", *rest, ""])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_other_root, Fault.CHECKPOINT_CHANGED),
        (_forged, Fault.SIGNATURE_INVALID),
        (lambda note: note.replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n"), Fault.CHECKPOINT_CHANGED),
        (lambda note: "nothing", Fault.CHECKPOINT_CHANGED),
        (lambda note: note.partition("\n\n")[0] + "\n\n" + note.splitlines()[-1] + "\n", Fault.SIGNATURE_INVALID),
    ],
    ids=["root", "signature", "size", "text", "no signature of the origin"],
)
def test_a_changed_checkpoint_of_a_copy_is_found(
    city_url: str, keys: Keys, change: Callable[[str], str], fault: Fault
) -> None:
    Tamperer(city_url).change_note(SIZE, change)
    result = check(city_url, keys=keys)
    assert found(result) == (fault, 0, 0), result.findings
    assert {one.size for one in result.findings} == {SIZE}


def test_a_forged_cosignature_is_found(county_url: str, keys: Keys) -> None:
    Tamperer(county_url).change_note(SIZE, _forged)
    assert found(check(county_url, keys=keys)) == (Fault.COSIGNATURE_INVALID, 0, 0)
    # Without the city's key nobody can say.
    assert check(county_url).cosigners == {f"zhichao/{CITY}": None}


def _rewrite(url: str, source_url: str) -> None:
    """Put a history that is right in itself in the place of another one."""
    import psycopg

    with psycopg.connect(source_url) as source, psycopg.connect(url) as target:
        for table in ("journal_logs", "journal_entries", "journal_nodes"):
            target.execute(f"TRUNCATE {table}".encode())
            with (
                source.cursor().copy(f"COPY {table} TO STDOUT".encode()) as out,
                target.cursor().copy(f"COPY {table} FROM STDIN".encode()) as into,
            ):
                for content in out:
                    into.write(content)


def test_a_history_rewritten_by_its_owner_is_found_by_the_cosignatures(
    databases: Databases, county_url: str, keys: Keys
) -> None:
    """Everything is right in itself, down to the root; only what the city has signed tells."""
    rewritten = databases.create()
    write_county(rewritten, keys, size=SIZE + 10)
    _rewrite(county_url, rewritten)
    databases.drop(rewritten)
    fault, first_sequence, _ = found(check(county_url, keys=keys))
    assert (fault, first_sequence) == (Fault.ENTRY_CHANGED, 1)


def test_a_truncated_history_is_found_by_the_cosignatures(databases: Databases, county_url: str, keys: Keys) -> None:
    import psycopg

    template = str(psycopg.conninfo.conninfo_to_dict(county_url)["dbname"])
    copy = databases.create(template)
    # Same entries, fewer of them: what a county would have that wants to forget the last hundred.
    tamperer = Tamperer(copy)
    tamperer.run("DELETE FROM journal_entries WHERE sequence > 600")
    tamperer.run("UPDATE journal_logs SET size = 600")
    result = check(copy, keys=keys)
    assert (Fault.MISSING, 601, SIZE) in {(one.fault, one.first_sequence, one.last_sequence) for one in result.findings}
    databases.drop(copy)


def test_sm3_logs_are_checked_with_sm3(databases: Databases, keys: Keys) -> None:
    url = databases.create()
    write_county(url, keys, size=300, digest="sm3")
    assert check(url).findings == []
    Tamperer(url).change_bytes(7)
    assert found(check(url)) == (Fault.BYTES_CHANGED, 7, 7)
    databases.drop(url)


def test_the_command_says_how_it_went(county_url: str) -> None:
    result = CliRunner().invoke(verify, ["--database-url", county_url])
    assert result.exit_code == 0, result.output
    assert "Verified" in result.output
    Tamperer(county_url).change_bytes(300)
    result = CliRunner().invoke(verify, ["--database-url", county_url])
    assert result.exit_code == 1
    assert "first bad entry 首个异常条目 300: bytes changed" in " ".join(result.output.split())


def test_what_cannot_be_looked_at_is_no_verdict(tmp_path: Path, databases: Databases) -> None:
    url = databases.create()
    for arguments in (["--database-url", url], ["127.0.0.1:9"], [str(tmp_path)], ["--database-url", "postgresql://"]):
        result = CliRunner().invoke(verify, arguments)
        assert result.exit_code == 2, result.output
        assert "cannot look" in result.output
    databases.drop(url)


def test_the_verifier_shares_nothing_with_the_writer() -> None:
    script = (
        "import sys, pkgutil, importlib, cli.verifier as package\n"
        "for found in pkgutil.iter_modules(package.__path__): importlib.import_module('cli.verifier.' + found.name)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'services'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
