"""Ways to call that gRPC takes and nobody should use: odd metadata, no message where one belongs or two, messages that
are small only on the way, deadlines that have nearly passed.
"""

import random
from typing import Final
from urllib.parse import quote

import grpc

from services.common.access.tokens import AUTHORIZATION_METADATA, new_secret
from tests.fuzzing.calls import Manner, Metadata

HURRY_SECONDS: Final = 0.002
"""Some calls are answered by then, most are under way."""

_AUTHORIZATIONS: Final = (
    "",
    "Bearer",
    "Bearer ",
    "bearer zhichao.",
    "Basic dXNlcjpwYXNzd29yZA==",
    "Bearer zhichao.a.b",
    "Bearer zhichao-service.x",
    f"Bearer zhichao-service.{new_secret()}",
    f"Bearer zhichao.../../x.{new_secret()}",
    "Bearer zhichao." + "x" * 70 + "." + "y" * 43,
    "Bearer " + "x" * 300,
)
_TEXTS: Final = (
    "",
    " ",
    "x" * 65,
    "x" * 3_000,
    "%",
    "%00",
    "%ff%fe",
    "%ed%a0%80",
    quote("请核查" * 40),
    '"}\\n{"level":"error"',
    "../../x",
    "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
    "00-" + "f" * 32 + "-" + "f" * 16 + "-ff",
    "ff-x-y-z",
    "-1",
)
_TEXT_KEYS: Final = ("x-request-id", "x-purpose", "traceparent", "tracestate", "x-zhichao-service", "x-unknown")
_BINARY_KEYS: Final = ("x-purpose-bin", "grpc-trace-bin", "grpc-tags-bin", "x-unknown-bin")


def odd_manner(caller: Metadata, chance: random.Random) -> Manner:
    """Return one of them, for somebody who shows what the metadata says."""
    way = chance.randrange(6)
    if way == 0:
        return Manner(metadata=caller, compression=grpc.Compression.Gzip)
    if way == 1:
        return Manner(metadata=caller, timeout_seconds=HURRY_SECONDS)
    if way == 2:
        return Manner(metadata=caller, messages=chance.choice((0, 2)))
    # Whoever shows a certificate and fails with a token is delayed, certificate and all.
    if way == 3 and caller:
        odd = ((AUTHORIZATION_METADATA, chance.choice(_AUTHORIZATIONS)),)
        return Manner(metadata=chance.choice((odd, (*odd, *caller), (*caller, *odd))), is_odd_caller=True)
    texts = tuple((chance.choice(_TEXT_KEYS), chance.choice(_TEXTS)) for _ in range(chance.randint(1, 4)))
    many = texts * chance.choice((1, 1, 1, 20))
    binary = tuple((chance.choice(_BINARY_KEYS), chance.randbytes(chance.choice((0, 1, 200)))) for _ in range(2))
    return Manner(metadata=(*caller, *many, *binary))
