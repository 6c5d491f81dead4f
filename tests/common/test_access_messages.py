"""What a message makes of few bytes: items are counted before it is parsed, whoever sends it."""

import subprocess
import sys

import pytest

from services.common.access.methods import access_table
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_gate import Gate
from services.common.rpc_limits import MESSAGE_BYTES_MAX
from tests.access import Access
from tests.wire import field
from zhichao.journal.v1 import journal_pb2

MEGABYTE = 1024 * 1024

APPEND = "/zhichao.journal.v1.JournalService/AppendEntries"

# A message of the largest size that is nothing but the smallest items, at the gate of a server.
PROGRAM = """
import importlib, resource, types
from services.common.access.principal import service_principal
from services.common.errors import ServiceError
from services.common.rpc_gate import Gate
from tests.access import Access
from tests.wire import field

messages = importlib.import_module({module!r})
access = Access()
gate = Gate(access.control, None, asks_certificates=False)
gate.serve([{service!r}], {{}})
admission = gate.admit("/" + {service!r} + "/" + {method!r}, None, is_unary=True)
call = types.SimpleNamespace(principal=service_principal("141025", "relay"))
parse = getattr(messages, {method!r} + "Request").FromString
limit = admission.method.access.message_bytes_max
content = {content}
assert limit - 64 <= len(content) <= limit, (len(content), limit)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    gate.read(call, admission, content, parse)
    print("parsed")
except ServiceError as error:
    print(error.reason)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    ("module", "service", "method", "content"),
    [
        ("journal", "JournalService", "AppendEntries", 'field(1, b"\\x1a\\x00" * (limit // 2 - 8))'),
        ("journal", "JournalService", "RestoreEntries", 'field(1, b"\\x1a\\x00" * (limit // 2 - 8))'),
        # Unknown fields: eight million of them.
        ("journal", "JournalService", "AppendEntries", 'field(1, b"\\x78\\x00" * (limit // 2 - 8))'),
        ("journal", "JournalService", "AppendEntries", 'b"\\x78\\x00" * (limit // 2)'),
        # The same message again and again.
        ("journal", "JournalService", "AppendEntries", 'b"\\x0a\\x00" * (limit // 2)'),
        ("journal", "JournalService", "AppendAddressedEntries", 'field(1, b"\\x12\\x00" * (limit // 2 - 8))'),
        ("journal", "JournalService", "ReadAddressedEntries", 'b"\\x12\\x00" * (limit // 2)'),
        ("relay", "RelayService", "PushEntries", 'field(2, b"\\x1a\\x00" * (limit // 2 - 8))'),
        ("access", "AccessService", "ReportUse", 'b"\\x0a\\x00" * (limit // 2)'),
        ("registry", "RegistryService", "CreateRuleSet", 'field(1, b"\\x5a\\x00" * (limit // 2 - 8))'),
    ],
)
def test_a_message_of_empty_items_takes_no_memory(module: str, service: str, method: str, content: str) -> None:
    files = {"journal": "journal", "relay": "relay", "access": "service", "registry": "service"}
    program = PROGRAM.format(
        module=f"zhichao.{module}.v1.{files[module]}_pb2",
        service=f"zhichao.{module}.v1.{service}",
        method=method,
        content=content,
    )
    # In a process of its own: the largest size that a process ever had is known only as a whole.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    came_out, grown = done.stdout.split()

    assert came_out in {"BATCH_TOO_LARGE", "MALFORMED_MESSAGE", "parsed"}
    assert int(grown) <= 64 * MEGABYTE


@pytest.fixture
def gate() -> Gate:
    made = Gate(Access().control, None, asks_certificates=False)
    made.serve(["zhichao.journal.v1.JournalService"], {})
    return made


def refusal(gate: Gate, content: bytes) -> ServiceError:
    access = access_table(["zhichao.journal.v1.JournalService"])[APPEND]
    principal = Access().knowledge.credential("tester")
    assert principal is not None
    with pytest.raises(ServiceError) as refused:
        gate._parsed(principal.principal, access, content, journal_pb2.AppendEntriesRequest.FromString)
    return refused.value


def test_the_refusal_says_how_many_may_be_sent(gate: Gate) -> None:
    error = refusal(gate, field(1, b"\x1a\x00" * 2_000))

    assert (error.reason, dict(error.metadata)) == (Reason.BATCH_TOO_LARGE, {"limit": "1024", "actual": "1025"})
    assert "batch.entries" in error.message


@pytest.mark.parametrize("content", [b"\xff" * 10, field(1, b"\x1a\x7f"), b"\x0a", field(1, b"\x0a\x02\xff\xff")])
def test_what_is_no_message_is_never_a_fault_of_the_server(gate: Gate, content: bytes) -> None:
    assert refusal(gate, content).reason is Reason.MALFORMED_MESSAGE


def test_a_message_above_the_limit_of_its_method(gate: Gate) -> None:
    error = refusal(gate, bytes(MESSAGE_BYTES_MAX + 1))

    assert (error.reason, error.metadata["actual"]) == (Reason.MESSAGE_TOO_LARGE, str(MESSAGE_BYTES_MAX + 1))
