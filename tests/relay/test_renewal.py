"""Certificates are renewed, and an authority is replaced, while records flow: none is lost, none is held twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from cryptography import x509

from services.common import tls as tls_module
from services.common.rpc_call import Call
from services.common.rpc_gate import Admission, Gate
from tests.certificates import files_in, new_authority, platform_files
from tests.faults.proxy import FaultProxy
from tests.relay.conftest import CITY, COUNTY
from tests.relay.platforms import Platform, assert_same_log, authority, eventually

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files twenty times a second instead of once."""
    monkeypatch.setattr(tls_module, "FILE_CHECK_SECONDS", 0.05)


class Shown:
    """The serial numbers of the certificates that platforms below have shown, in the order of their calls."""

    def __init__(self) -> None:
        self.pushes: list[int] = []
        self.handshakes: list[int] = []

    def add(self, call: Call) -> None:
        (pem,) = call.grpc_context.auth_context()["x509_pem_cert"]
        found = x509.load_pem_x509_certificate(bytes(pem)).serial_number
        if call.method.endswith("/PushEntries"):
            self.pushes.append(found)
        elif call.method.endswith("/Handshake"):
            self.handshakes.append(found)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Watch what callers show."""
    watched = Shown()
    enter = Gate.enter

    def watch(gate: Gate, call: Call, admission: Admission) -> None:
        enter(gate, call, admission)
        if call.certificate is not None:
            watched.add(call)

    monkeypatch.setattr(Gate, "enter", watch)
    return watched


def has_shown(shown: Shown, serial_number: int) -> bool:
    return shown.pushes[-1] == shown.handshakes[-1] == serial_number


def serial(platform: Platform) -> int:
    """Return the serial number of the certificate in the files of a platform."""
    return x509.load_pem_x509_certificate(files_in(platform.tls_directory).certificate.read_bytes()).serial_number


def renew(platform: Platform, **options: Any) -> int:
    """Issue a new certificate for a platform; return its serial number."""
    platform_files(platform.tls_directory, options.pop("by", authority()), platform.code, **options)
    return serial(platform)


@contextmanager
def flowing(county: Platform) -> Iterator[Callable[[], None]]:
    """Write records all the time; what is given waits until more have been written and have arrived."""
    stop = threading.Event()
    failures: list[BaseException] = []
    written = [0]

    def write() -> None:
        try:
            while not stop.wait(0.002):
                written[0] = county["weighing"].write(f"record {written[0]}".encode().ljust(80, b"."))
        except BaseException as failure:  # noqa: BLE001 - shown by the test
            failures.append(failure)

    writer = threading.Thread(target=write)
    writer.start()

    def arrive() -> None:
        wanted = written[0] + 20
        eventually(lambda: written[0] >= wanted, "more records")
        eventually(
            lambda: (held := county.progress("weighing", COUNTY)) and held.upstream_size >= wanted, "their arrival"
        )

    try:
        yield arrive
    finally:
        stop.set()
        writer.join()
    assert failures == []


@pytest.fixture
def city(platform: Make) -> Platform:
    made = platform(CITY, streams=["weighing"])
    made.start()
    return made


def test_the_certificate_of_the_county_is_renewed_while_records_flow(
    platform: Make, city: Platform, shown: Shown
) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    with flowing(county) as arrive:
        for _ in range(3):
            arrive()
            before = serial(county)
            assert shown.pushes[-1] == before
            after = renew(county)
            # The push, which has no end while records flow, goes over to it, and not only the next handshake.
            eventually(partial(has_shown, shown, after), "the new certificate")
            arrive()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_a_renewal_is_no_loss_of_the_link(platform: Make, city: Platform, shown: Shown) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    county.wait_for_state("CURRENT")
    since = county.status().state_time
    after = renew(county)
    eventually(lambda: shown.handshakes[-1] == after, "the new certificate")

    assert county.state() == "CURRENT"
    assert county.status().state_time == since
    assert county.status().last_error == ""


def test_the_certificate_of_the_city_is_renewed_while_records_flow(
    platform: Make, city: Platform, proxy: MakeProxy
) -> None:
    link = proxy(city.address)
    county = platform(COUNTY, streams=["weighing"], upstream=link.address)
    county.start()
    with flowing(county) as arrive:
        for _ in range(3):
            arrive()
            renew(city)
            # Whoever is connected notices nothing; whoever comes anew is shown the new one.
            arrive()
            link.cut()
            arrive()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_an_authority_is_replaced_while_records_flow(platform: Make, city: Platform, shown: Shown) -> None:
    """Every step of docs/operate/certificates.md."""
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    before, following = authority(), new_authority()
    with flowing(county) as arrive:
        arrive()
        for one in (city, county):
            renew(one, by=before, trusting=[following])
            arrive()
        for one in (city, county):
            renew(one, by=following, trusting=[before])
            arrive()
        for one in (city, county):
            last = renew(one, by=following)
            arrive()
        eventually(lambda: shown.pushes[-1] == last, "the last certificate of the county")
        # A connection that begins now knows the new authority only.
        county.restart_relay()
        arrive()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_half_a_renewal_stops_nothing(platform: Make, city: Platform, shown: Shown) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    before = serial(county)
    with flowing(county) as arrive:
        arrive()
        for one in (city, county):
            files_in(one.tls_directory).key.write_text("nonsense")
        arrive()
        county.wait_for_state("CATCHING_UP")
        arrive()
    assert set(shown.pushes + shown.handshakes) == {before}
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")
