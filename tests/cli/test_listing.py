"""Lists that come page by page: nothing is left out, and no more is asked for than is wanted."""

import pytest

from cli.listing import every, first
from zhichao.registry.v1 import resources_pb2, service_pb2

CODES = [f"1410{number:02}" for number in range(21, 28)]


class Platforms:
    """A list of seven platforms, which also notes how many were asked for with each page."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def list(self, request: service_pb2.ListPlatformsRequest, timeout: float) -> service_pb2.ListPlatformsResponse:
        assert timeout == 5.0
        self.asked.append(request.page_size)
        start = int(request.page_token or 0)
        end = start + request.page_size
        return service_pb2.ListPlatformsResponse(
            platforms=[resources_pb2.Platform(platform_code=code) for code in CODES[start:end]],
            next_page_token=str(end) if end < len(CODES) else "",
        )


def test_every_item_comes_once_in_order() -> None:
    platforms = Platforms()
    found = every(platforms.list, service_pb2.ListPlatformsRequest(page_size=3), "platforms", 5.0)

    assert [one.platform_code for one in found] == CODES
    assert platforms.asked == [3, 3, 3]


def test_a_page_that_nobody_wants_is_not_asked_for() -> None:
    platforms = Platforms()
    found = every(platforms.list, service_pb2.ListPlatformsRequest(page_size=3), "platforms", 5.0)

    assert [next(found).platform_code for _ in range(3)] == CODES[:3]
    assert platforms.asked == [3]


@pytest.mark.parametrize(
    ("limit", "asked", "has_more"),
    [(1, [1], True), (3, [3], True), (5, [3, 2], True), (7, [3, 3, 1], False), (8, [3, 3, 2], False)],
)
def test_no_more_is_asked_for_than_the_limit(limit: int, asked: list[int], has_more: bool) -> None:
    platforms = Platforms()
    found, is_cut = first(platforms.list, service_pb2.ListPlatformsRequest(page_size=3), "platforms", limit, 5.0)

    assert ([one.platform_code for one in found], is_cut) == (CODES[:limit], has_more)
    assert platforms.asked == asked
