"""Certificates and authorities are replaced while calls are under way."""

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from cli.pki.authority import Authority
from services.common.access.knowledge import KnownPlatform
from services.common.reasons import Reason
from services.common.tls import TrustedAuthorities
from services.common.tls_files import TlsFiles
from tests.certificates import MONTH, new_authority, platform_files, platform_tls, write
from tests.common.served import WAIT_SECONDS, Requests
from tests.common.tls.servers import CITY, COUNTY, Serve, exchange_of, once_of, refusal


def test_a_renewed_server_certificate_is_shown_at_the_next_handshake(
    serve: Serve, city: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    served = serve()
    before = served.serial()
    requests = Requests(b"1")
    with served.open(TrustedAuthorities(city.ca)) as channel:
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"

        platform_files(tmp_path / CITY, authority, CITY)

        assert served.serial() != before
        # Whoever is connected notices nothing.
        requests.send(b"2")
        assert next(answers) == b"2"
        requests.end()
        assert list(answers) == []


def test_a_renewal_that_cannot_be_used_leaves_the_server_as_it_is(serve: Serve, city: TlsFiles, events: Any) -> None:
    served = serve()
    before = served.serial()

    city.key.write_text("nonsense")

    for _ in range(3):
        assert served.serial() == before
    assert served.call(TrustedAuthorities(city.ca)) == "person/tester"
    assert len(events.named("certificate_not_taken")) == 1


def test_a_renewed_client_certificate_is_shown_by_the_next_call(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = serve(require_client_certificate=True)
    served.access.say(platforms=[KnownPlatform("141026", CITY)])
    county = platform_tls(tmp_path / "peer", authority, COUNTY)
    requests = Requests(b"1")
    with served.open_without_token(county) as channel:
        once = once_of(channel)
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"
        assert once(b"", timeout=WAIT_SECONDS) == f"platform/{COUNTY}".encode()

        # Another platform's, so that the server can tell which one is shown.
        platform_files(tmp_path / "peer", authority, "141026")

        assert once(b"", timeout=WAIT_SECONDS) == b"platform/141026"
        assert once.future(b"", timeout=WAIT_SECONDS).result() == b"platform/141026"
        # The call under way goes on over the connection that it began on.
        requests.send(b"2")
        assert next(answers) == b"2"
        requests.end()
        assert list(answers) == []
        assert once(b"", timeout=WAIT_SECONDS) == b"platform/141026"


def test_a_former_connection_is_closed_once_its_calls_have_ended(
    serve: Serve, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[grpc.Channel] = []
    closed: list[grpc.Channel] = []
    has_closed = threading.Event()
    secure_channel = grpc.secure_channel

    def open_watched(*arguments: Any, **options: Any) -> grpc.Channel:
        channel = secure_channel(*arguments, **options)
        close = channel.close

        def close_and_tell() -> None:
            close()
            closed.append(channel)
            has_closed.set()

        channel.close = close_and_tell  # type: ignore[method-assign]  # to see it happen
        opened.append(channel)
        return channel

    monkeypatch.setattr(grpc, "secure_channel", open_watched)
    served = serve(require_client_certificate=True)
    county = platform_tls(tmp_path / "peer", authority, COUNTY)
    requests = Requests(b"1")
    with served.open_without_token(county) as channel:
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"
        platform_files(tmp_path / "peer", authority, COUNTY)
        once_of(channel)(b"", timeout=WAIT_SECONDS)
        assert (len(opened), closed) == (2, [])

        requests.end()
        assert list(answers) == []
        assert has_closed.wait(WAIT_SECONDS)
        assert closed == [opened[0]]
    assert closed == opened


def test_a_channel_that_was_closed_makes_no_call(serve: Serve, city: TlsFiles) -> None:
    served = serve()
    channel = served.open(TrustedAuthorities(city.ca))
    once = once_of(channel)
    channel.close()

    with pytest.raises(ValueError, match="closed channel"):
        once(b"", timeout=WAIT_SECONDS)


def test_an_authority_is_replaced_without_a_gap(
    serve: Serve, city: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    """Every step of docs/operate/certificates.md: both trusted, then the certificates one by one, then one trusted."""
    following = new_authority()
    served = serve(require_client_certificate=True)
    peer, server = tmp_path / "peer", tmp_path / CITY
    county = platform_tls(peer, authority, COUNTY)

    with served.open_without_token(county) as channel:

        def calls() -> bool:
            return bool(once_of(channel)(b"", timeout=WAIT_SECONDS) == f"platform/{COUNTY}".encode())

        assert calls()
        old_city = authority.issue_platform(CITY, (), MONTH)
        write(server, old_city, [authority, following])
        assert calls()
        platform_files(peer, authority, COUNTY, trusting=[following])
        assert calls()
        platform_files(server, following, CITY, trusting=[authority])
        assert calls()
        platform_files(peer, following, COUNTY, trusting=[authority])
        assert calls()
        platform_files(server, following, CITY)
        assert calls()
        platform_files(peer, following, COUNTY)
        assert calls()
    # The former authority is trusted no more.
    former = platform_tls(tmp_path / "former", authority, COUNTY, trusting=[following])
    with served.open_without_token(former) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    assert error.reason is Reason.SERVICE_UNAVAILABLE
