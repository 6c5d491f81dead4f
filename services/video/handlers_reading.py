"""The use cases of whoever looks at evidence: one piece, lists, bytes, links."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Final

from services.common.access.readable import readable_origin
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.forms import bad_fields, described
from services.common.instants import timestamp
from services.common.paging import decode_token, encode_token, filter_digest, key_time, page_size, time_key
from services.common.request import request_context
from services.video import answers, filters, forms, holding
from services.video import refusals_reading as refusals
from services.video.forms import Violation
from services.video.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.video.outgoing_bytes import OutgoingBytes, Rendition
from services.video.store import reading as reading_store
from services.video.store.reading import EvidenceFilter, HeldRow
from zhichao.video.v1 import service_pb2 as pb

PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of manifests in one answer: half of the message limit. Those of other platforms may be larger than the ones
written here; a page of such ones has fewer."""

LINK_SECONDS_DEFAULT: Final = 300
"""How long a link is good when the caller says nothing (the contract): a clip is played at once."""

LINK_SECONDS_MAX: Final = 3_600
"""How long a link is good at most (the contract): whoever has it needs no token."""


class ReadingHandlers:
    """What is shown. All that it changes is the record of who was shown what, and of damage that comes out."""

    def __init__(self, engine: Engine, own: str, outgoing: OutgoingBytes) -> None:
        self._engine = engine
        self._own = own
        self._outgoing = outgoing

    def get_evidence(self, request: pb.GetEvidenceRequest) -> pb.GetEvidenceResponse:
        """Return one piece of evidence. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, NOT_FOUND."""
        name = filters.readable_name(request.name, self._own)
        with translate_errors(), reading(self._engine) as pooled:
            held = holding.find(raw_connection(pooled), name)
        if held is None:
            raise refusals.not_found(name)
        return pb.GetEvidenceResponse(held_evidence=answers.held_evidence(held))

    def list_evidence(self, request: pb.ListEvidenceRequest) -> pb.ListEvidenceResponse:
        """Return one page, newest first. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, INVALID_PAGE_TOKEN."""
        narrow, violations = filters.evidence_filter(request.filter)
        if violations:
            raise bad_fields(violations)
        origin = readable_origin(request_context().principal, self._own, narrow.origin, "filter.origin")
        narrow = replace(narrow, origin=origin)
        size = page_size(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = _filter_digest(narrow)
        key = decode_token(request.page_token, digest, (int, str, str, str))
        after = (key_time(key[0]), str(key[1]), str(key[2]), str(key[3])) if key else None
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            rows = reading_store.list_evidence(connection, narrow, after, size + 1)
            shown = _within_bytes(rows[:size])
            items = holding.put_together(connection, shown)
        token = ""
        if len(shown) < len(rows):
            token = encode_token(digest, (time_key(shown[-1].list_time), *shown[-1].name))
        return pb.ListEvidenceResponse(
            held_evidence=[answers.held_evidence(held) for held in items], next_page_token=token
        )

    def read_evidence(self, request: pb.ReadEvidenceRequest) -> Generator[bytes, None, None]:
        """Yield serialised answers, at least one; the first one once the custody event is committed.

        Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, and as `OutgoingBytes.send`.
        """
        name = filters.readable_name(request.name, self._own, _read_violations(request))
        parts = self._outgoing.send(
            name,
            Rendition(request.rendition or Rendition.ORIGINAL),
            request.offset,
            request.length,
            request.purpose,
            is_download=request.is_download,
        )
        # A caller that goes away ends this generator, and with it what it reads from.
        with closing(parts):
            for part in parts:
                yield answers.read_response(part)

    def get_playback_url(self, request: pb.GetPlaybackUrlRequest) -> pb.GetPlaybackUrlResponse:
        """Return a link. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, and as `OutgoingBytes.link`."""
        name = filters.readable_name(request.name, self._own, _link_violations(request))
        url, expire_time = self._outgoing.link(name, request.seconds or LINK_SECONDS_DEFAULT, request.purpose)
        return pb.GetPlaybackUrlResponse(url=url, expire_time=timestamp(expire_time))


def _filter_digest(narrow: EvidenceFilter) -> str:
    return filter_digest(
        "ListEvidence",
        narrow.origin,
        narrow.source_unit_id,
        *(narrow.subject or ("", "")),
        narrow.camera_id,
        str(narrow.start_time),
        str(narrow.end_time),
        str(narrow.kinds),
        str(narrow.bytes_states),
        narrow.is_held,
    )


def _within_bytes(rows: list[HeldRow]) -> list[HeldRow]:
    """Return the first rows that fit into one answer, at least one."""
    total = 0
    for count, row in enumerate(rows):
        total += len(row.content)
        if count and total > PAGE_BYTES_MAX:
            return rows[:count]
    return rows


def _read_violations(request: pb.ReadEvidenceRequest) -> list[Violation]:
    checked = [
        (
            "rendition",
            ""
            if request.rendition in {0, *Rendition}
            else f"is {request.rendition}, but must be {', '.join(f'{one.value} ({one.name})' for one in Rendition)}",
        ),
        ("offset", "" if request.offset >= 0 else f"is {request.offset}, but bytes are counted from 0"),
        ("length", "" if request.length >= 0 else f"is {request.length}, but must be 0 (to the end) or more"),
        ("purpose", forms.purpose(request.purpose)),
    ]
    return described(checked)


def _link_violations(request: pb.GetPlaybackUrlRequest) -> list[Violation]:
    checked = [
        (
            "seconds",
            ""
            if 0 <= request.seconds <= LINK_SECONDS_MAX
            else f"is {request.seconds}, but must be 1 to {LINK_SECONDS_MAX}, or 0 for {LINK_SECONDS_DEFAULT}",
        ),
        ("purpose", forms.purpose(request.purpose)),
    ]
    return described(checked)
