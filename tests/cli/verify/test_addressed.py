"""`zhichao verify` on what a platform holds of logs of platforms above: whatever is changed there is found."""

import json
from collections.abc import Iterator

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.verifier.findings import Fault
from cli.verifier.tree import Hashes, roots_of_proof
from cli.verify import verify
from tests.cli.verified_journals import cloned
from tests.conftest import Databases
from tests.journal.addressed import OTHER_CITY, Platform
from tests.journal.journals import Journal, make_tables
from tests.journal.naive_merkle import NaiveTree
from tests.journal.paper_log import CITY, COUNTY, PROVINCE


@pytest.fixture(scope="module")
def templates(databases: Databases) -> Iterator[tuple[str, str]]:
    """Write a province and the city below it once; every test changes clones."""
    urls = databases.create(), databases.create()
    for url in urls:
        make_tables(url)
    upper, middle = Platform(Journal(urls[0], PROVINCE).begin()), Platform(Journal(urls[1], CITY).begin())
    for number in range(6):
        upper.journal.write_many(60)
        upper.address((CITY, COUNTY, OTHER_CITY)[number % 3], f"{number}".encode())
    middle.follow(upper)
    upper.journal.close()
    middle.journal.close()
    yield urls
    for url in urls:
        databases.drop(url)


@pytest.fixture
def province_url(databases: Databases, templates: tuple[str, str]) -> Iterator[str]:
    yield from cloned(databases, templates[0])


def verified(url: str, *options: str) -> tuple[int, dict[str, list[dict[str, object]]]]:
    """Return the exit status, and the logs and copies of the one platform."""
    result = CliRunner().invoke(verify, ["--database-url", url, "--json", *options])
    (platform,) = json.loads(result.output)["platforms"]
    return result.exit_code, platform


def faults(results: list[dict[str, object]]) -> list[tuple[str, int]]:
    """Return what is wrong and with which entry, or else at which size."""
    found = []
    for result in results:
        findings = result["findings"]
        assert isinstance(findings, list)
        found += [(one["fault"], one["first_sequence"] or one["size"]) for one in findings]
    return found


def change(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        assert connection.execute(statement.encode()).rowcount > 0


def test_what_was_received_is_right(city_url: str) -> None:
    status, platform = verified(city_url)
    (copy,) = platform["addressed"]
    assert (status, copy["origin"], copy["stream"], copy["is_addressed"]) == (0, PROVINCE, "weighing", True)
    # Entry 1 and the four that are for the city or its county; six steps.
    assert (copy["checked"], copy["proof_count"], copy["checkpoint_count"]) == (5, 5, 6)
    text = CliRunner().invoke(verify, ["--database-url", city_url]).output
    assert f"{PROVINCE} ↓" in text


def test_what_is_made_known_is_right(province_url: str) -> None:
    status, platform = verified(province_url)
    assert (status, platform["addressed"]) == (0, [])


def test_one_log_can_be_looked_at_alone(city_url: str) -> None:
    status, platform = verified(city_url, "--origin", CITY)
    assert (status, platform["addressed"]) == (0, [])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE journal_addressed SET entry = set_byte(entry, 40, 1) WHERE sequence = 62",
            [(Fault.PROOF_INVALID, 62)],
        ),
        (
            "UPDATE journal_addressed SET inclusion_path = set_byte(inclusion_path, 3, 1) WHERE sequence = 123",
            [(Fault.PROOF_INVALID, 123)],
        ),
        ("UPDATE journal_addressed SET leaf = sha256('x') WHERE sequence = 62", [(Fault.LEAF_CHANGED, 62)]),
        (
            "UPDATE journal_addressed SET audience = '141025' WHERE sequence = 62",
            [(Fault.ADDRESSED_CHANGED, 62)],
        ),
        (
            "UPDATE journal_addressed_steps SET note = replace(note, E'\\n123\\n', E'\\n122\\n') WHERE size = 123",
            [(Fault.CHECKPOINT_CHANGED, 123)],
        ),
        (
            "UPDATE journal_addressed_steps SET note = 'x' WHERE size = 367",
            [(Fault.CHECKPOINT_CHANGED, 367)],
        ),
        (
            "UPDATE journal_addressed_steps SET consistency_path = '\\x' WHERE size = 184",
            [(Fault.PROOF_INVALID, 184)],
        ),
        (
            "DELETE FROM journal_addressed_steps WHERE size = 184",
            [(Fault.MISSING, 245)],
        ),
        (
            "DELETE FROM journal_addressed_steps WHERE size = 245",
            [(Fault.MISSING, 306), (Fault.SURPLUS, 245)],
        ),
        ("DELETE FROM journal_addressed WHERE sequence = 1", [(Fault.MISSING, 1)]),
        ("UPDATE journal_addressed SET entry = 'x' WHERE sequence = 1", [(Fault.NOT_LOG_START, 1)]),
        ("UPDATE journal_addressed_logs SET root = sha256('x')", [(Fault.HEAD_CHANGED, 367)]),
        ("UPDATE journal_addressed_logs SET through_sequence = 306", [(Fault.HEAD_CHANGED, 306)]),
    ],
)
def test_whatever_is_changed_is_found(city_url: str, statement: str, expected: list[tuple[str, int]]) -> None:
    change(city_url, statement)
    status, platform = verified(city_url)
    assert (status, faults(platform["addressed"])) == (1, expected)
    assert faults(platform["logs"]) == []
    text = CliRunner().invoke(verify, ["--database-url", city_url]).output
    assert "DIFFERS" in text


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM journal_addressed WHERE sequence = 123", [(Fault.ADDRESSED_CHANGED, 123)]),
        ("DELETE FROM journal_addressed_steps WHERE size = 123", [(Fault.ADDRESSED_CHANGED, 123)]),
        (
            "UPDATE journal_addressed SET audience = '141025' WHERE sequence = 62",
            [(Fault.ADDRESSED_CHANGED, 62)],
        ),
        (
            "UPDATE journal_addressed_steps SET previous_size = 1 WHERE size = 62",
            [(Fault.ADDRESSED_CHANGED, 62)],
        ),
        (
            "INSERT INTO journal_addressed (origin, sequence, audience) VALUES ('140000', 5, '141000')",
            [(Fault.ADDRESSED_CHANGED, 5)],
        ),
    ],
)
def test_an_own_entry_that_is_not_made_known_is_found(
    province_url: str, statement: str, expected: list[tuple[str, int]]
) -> None:
    change(province_url, statement)
    status, platform = verified(province_url)
    assert (status, faults(platform["logs"])) == (1, expected)


def test_a_forged_signature_is_found(city_url: str) -> None:
    change(
        city_url,
        "UPDATE journal_addressed_steps SET note = overlay(note placing 'AAAA' from length(note) - 30)"
        " WHERE size = 306",
    )
    status, platform = verified(city_url)
    assert (status, faults(platform["addressed"])) == (1, [(Fault.SIGNATURE_INVALID, 306)])


def test_a_database_of_before_holds_nothing_addressed(city_url: str) -> None:
    with psycopg.connect(city_url) as connection:
        connection.execute("DROP TABLE journal_addressed_logs, journal_addressed, journal_addressed_steps")
    status, platform = verified(city_url)
    assert (status, platform["addressed"]) == (0, [])


@given(st.integers(1, 70), st.integers(1, 70), st.data())
def test_consistency_proofs_lead_to_both_roots_and_to_nothing_else(one: int, other: int, data: st.DataObject) -> None:
    """Against proofs made as RFC 6962 defines them."""
    first, second = min(one, other), max(one, other)
    leaves = [bytes([number]) * 32 for number in range(second)]
    tree, hashes = NaiveTree(leaves), Hashes("sha256")
    roots, path = (tree.root(first), tree.root(second)), tree.proof(first, second)
    assert roots_of_proof(hashes, first, second, roots[0], path) == roots
    place = data.draw(st.integers(0, len(path)))
    longer = [*path[:place], bytes(32), *path[place:]]
    assert roots_of_proof(hashes, first, second, roots[0], longer) != roots
    if path:
        dropped = data.draw(st.integers(0, len(path) - 1))
        assert roots_of_proof(hashes, first, second, roots[0], path[:dropped] + path[dropped + 1 :]) != roots
