"""The fuzzer itself: what it makes is what it says, the same for the same seed, and leaves no RPC and no field out."""

import random

import pytest
from google.protobuf import message_factory
from google.protobuf.message import DecodeError

from tests.fuzzing.fair_requests import fair_requests
from tests.fuzzing.messages import changed, fair_message, field_paths, nested, raw_contents
from tests.fuzzing.methods import Rpc, contract_services, every_service, rpcs_of
from tests.fuzzing.values import Pool, hostile
from tests.fuzzing.wire import delimited, join, number, replaced, split, varint
from zhichao.weighing.v1 import service_pb2

RPCS = rpcs_of(list(every_service()))
ROUNDS = 50


def name_of(rpc: Rpc) -> str:
    return rpc.name


def pool() -> Pool:
    made = Pool((b"hidden",))
    made.add("source_unit_id", "141025-001")
    return made


def test_every_method_of_every_proto_is_there() -> None:
    named = {method.full_name for service in contract_services() for method in service.methods}

    assert named < {rpc.method.full_name for rpc in RPCS}
    assert {rpc.service for rpc in RPCS if rpc.method.full_name not in named} == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_fair_requests_are_of_rpcs_that_exist() -> None:
    assert fair_requests().keys() <= {rpc.name for rpc in RPCS}


@pytest.mark.parametrize("rpc", RPCS, ids=name_of)
def test_fair_messages_can_be_read(rpc: Rpc) -> None:
    kind = message_factory.GetMessageClass(rpc.request)
    for seed in range(ROUNDS):
        kind.FromString(fair_message(rpc.request, pool(), random.Random(seed)))


@pytest.mark.parametrize("rpc", RPCS, ids=name_of)
def test_the_same_seed_makes_the_same(rpc: Rpc) -> None:
    def made(seed: int) -> tuple[bytes, bytes]:
        chance = random.Random(seed)
        fair = fair_message(rpc.request, pool(), chance)
        return fair, changed(fair, rpc.request, pool(), chance)

    several = [made(seed) for seed in range(ROUNDS)]
    assert several == [made(seed) for seed in range(ROUNDS)]
    if rpc.request.fields:
        assert len({content for _, content in several}) > ROUNDS // 2


@pytest.mark.parametrize("rpc", RPCS, ids=name_of)
def test_every_field_can_be_replaced_with_every_value_that_nobody_should_send(rpc: Rpc) -> None:
    for path in field_paths(rpc.request):
        numbers = [field.number for field in path]
        for name, pieces in hostile(path[-1]):
            content = replaced(b"", numbers, pieces)
            for place in numbers[:-1]:
                (content,) = [piece.value for piece in split(content) if piece.number == place]
            assert content == join(pieces), name


def test_some_of_it_is_no_message_at_all() -> None:
    kind = service_pb2.ListWeighingsRequest
    unread = 0
    for _, content in raw_contents(kind.DESCRIPTOR, 64 * 1024, random.Random(1)):
        try:
            kind.FromString(content)
        except DecodeError:
            unread += 1
    assert unread > 5


def test_what_holds_itself_does_so_all_the_way_down() -> None:
    content, depth = nested(12, 40_000), 0
    while content:
        ((piece,), depth) = (split(content), depth + 1)
        assert piece.number == 12
        content = piece.value
    assert depth > 5_000


def test_the_wire_format_is_protobuf_s() -> None:
    narrow = service_pb2.WeighingFilter(source_unit_id="141025-001")
    request = service_pb2.ListWeighingsRequest(filter=narrow, page_size=300, page_token="t")
    content = request.SerializeToString()

    assert join(split(content)) == content
    assert content == join([delimited(1, delimited(1, b"141025-001").encoded()), number(2, 300), delimited(3, b"t")])
    assert varint(-1) == b"\xff" * 9 + b"\x01"


def test_what_cannot_be_read_on_the_way_is_made_anew() -> None:
    content = delimited(1, b"\xff\xff").encoded()

    assert replaced(content, (1, 2), [number(2, 7)]) == delimited(1, number(2, 7).encoded()).encoded()
    assert replaced(content, (3, 2), [number(2, 7)]) == content + delimited(3, number(2, 7).encoded()).encoded()


def test_the_pool_learns_and_forgets_what_is_hidden() -> None:
    made = pool()
    made.learn(service_pb2.ListWeighingsResponse(next_page_token="next"))
    made.add("page_token", "with hidden in it")

    assert made.pick(random.Random(1), "page_token", str) == "next"
