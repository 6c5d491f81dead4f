"""Two callers at once: one wins, nothing is lost, nothing is written twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.registry import examples
from tests.registry.calls import create, get, update
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry

CALLERS = 8


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run all calls at the same moment; a refusal is returned as what it is."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(TIMEOUT_SECONDS)
        try:
            return call()
        except ServiceError as error:
            return error.reason

    with ThreadPoolExecutor(len(calls)) as executor:
        return [future.result(TIMEOUT_SECONDS) for future in [executor.submit(run, call) for call in calls]]


def test_the_same_resource_created_at_once_is_written_once(registry: RunningRegistry) -> None:
    size = registry.size()
    answers = at_once([partial(create, registry, examples.source_unit())] * CALLERS)
    assert answers == [get(registry, examples.source_unit())] * CALLERS
    assert registry.size() == size + 1


def test_of_different_contents_created_at_once_one_stays(registry: RunningRegistry) -> None:
    size = registry.size()
    units = [examples.source_unit(name=f"单位{number}") for number in range(CALLERS)]
    answers = at_once([partial(create, registry, unit) for unit in units])
    assert answers.count(Reason.RESOURCE_EXISTS) == CALLERS - 1
    assert get(registry, examples.source_unit()) in answers
    assert registry.size() == size + 1


def test_of_updates_with_the_same_etag_one_passes(registry: RunningRegistry) -> None:
    units = []
    for number in range(CALLERS):
        unit = create(registry, examples.source_unit())
        unit.name = f"单位{number}"
        units.append(unit)
    size = registry.size()

    answers = at_once([partial(update, registry, unit, "name") for unit in units])

    assert answers.count(Reason.ETAG_MISMATCH) == CALLERS - 1
    assert get(registry, examples.source_unit()) in answers
    assert registry.size() == size + 1


def test_updates_of_different_fields_at_once_are_all_kept(registry: RunningRegistry) -> None:
    create(registry, examples.source_unit())
    changed = examples.source_unit(name="新名", data_home_code="141000", enforcement_code="141000", credit_code="")
    paths = ["name", "data_home_code", "enforcement_code", "credit_code"]

    at_once([partial(update, registry, changed, path) for path in paths])

    unit = get(registry, examples.source_unit())
    unit.ClearField("info")
    assert unit == changed
