"""`zhichao verify` on services, by RPC: what was changed in their databases is found."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.common.rpc_server import RpcServer
from tests.access import Access
from tests.cli.verified_journals import CITY, COUNTY, SIZE, Keys, Tamperer, opened

Change = Callable[[Tamperer], object]


@pytest.fixture
def served(socket_directory: Path, keys: Keys) -> Iterator[Callable[[str, str], str]]:
    """Serve the journal of a database; return the address."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serve(url: str, platform: str) -> str:
            parts, _ = stack.enter_context(opened(url, keys, platform))
            access = Access(platform)
            (socket_directory / f"{platform}.token").write_text(access.token)
            address = f"unix:{socket_directory}/{platform}.sock"
            server = RpcServer("weighing", address, access.control, access_journal=parts.access_recorder)
            parts.register(server)
            server.start()
            stack.callback(server.stop, 1.0)
            return address

        yield serve


Serve = Callable[[str, str], str]


def by_rpc(address: str, platform: str, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    """Verify as the command does; a bare journal is no whole service, so it is named here."""
    from cli.access import CallerOptions
    from cli.status_targets import Target
    from cli.verify_journals import PlatformJournals
    from cli.verify_report import as_document

    token_file = Path(address.removeprefix("unix:")).with_suffix(".token")
    with PlatformJournals(
        Target(platform, addresses={"weighing": address}, options=CallerOptions(token_file))
    ) as journals:
        journals.look()
        examined = journals.examine(journals.verifier_keys(), sample=50, seed=3)
    document = as_document([examined], seconds=0)
    return (0 if examined.is_right else 1), document["platforms"][0]["logs"]


def test_a_service_is_checked_by_rpc(served: Serve, county_url: str, city_url: str) -> None:
    exit_code, (county,) = by_rpc(served(county_url, COUNTY), COUNTY)
    assert (exit_code, county["size"], county["proof_count"]) == (0, SIZE, 50)
    # What was read was journalled before it was answered: the log grew meanwhile, and was checked as far as it came.
    assert int(str(county["checked"])) > SIZE
    exit_code, logs = by_rpc(served(city_url, CITY), CITY)
    assert exit_code == 0
    assert sum(int(str(log["proof_count"])) for log in logs) == 50


@pytest.mark.parametrize(
    ("change", "fault", "first", "last"),
    [
        (lambda one: one.change_bytes(300), "bytes_changed", 300, 300),
        (lambda one: one.change_leaf(300), "leaf_changed", 300, 300),
    ],
    ids=["byte", "leaf"],
)
def test_a_change_is_found_by_rpc(
    served: Serve, city_url: str, change: Change, fault: str, first: int, last: int
) -> None:
    change(Tamperer(city_url))
    exit_code, logs = by_rpc(served(city_url, CITY), CITY)
    (bad,) = [log["first_bad"] for log in logs if log["origin"] == COUNTY]
    assert exit_code == 1
    assert isinstance(bad, dict)
    assert (bad["fault"], bad["first_sequence"], bad["last_sequence"]) == (fault, first, last)


@pytest.mark.parametrize("sequence", [2, 300, SIZE])
def test_what_rpc_cannot_place_exactly_is_still_found(served: Serve, county_url: str, sequence: int) -> None:
    Tamperer(county_url).change_together(sequence)
    exit_code, (log,) = by_rpc(served(county_url, COUNTY), COUNTY)
    bad = log["first_bad"]
    assert exit_code == 1
    assert isinstance(bad, dict)
    assert bad["first_sequence"] <= sequence <= bad["last_sequence"]


@pytest.mark.parametrize("sequence", [2, 300, SIZE])
def test_a_missing_entry_is_found_by_rpc(served: Serve, county_url: str, sequence: int) -> None:
    Tamperer(county_url).delete(sequence)
    exit_code, (log,) = by_rpc(served(county_url, COUNTY), COUNTY)
    bad = log["first_bad"]
    assert exit_code == 1
    assert isinstance(bad, dict)
    assert bad["first_sequence"] <= sequence <= bad["last_sequence"]
