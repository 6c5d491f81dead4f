"""docs/operate/metrics.md and the code name the same figures, with the same labels, and alarms use names that exist."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import yaml

from services.common.access.knowledge import AccessKnowledge
from services.common.clock import SystemClock
from services.common.database import create_engine
from services.common.metrics import Metrics
from services.common.rpc_metrics import add_server_metrics
from services.journal.metrics import JournalMetrics
from services.registry.bootstrap import Bootstrap
from services.registry.metrics import add_access_metrics
from services.relay.downstream import DownstreamLinks
from services.relay.link import LinkStatus
from services.relay.metrics import add_relay_metrics
from services.video.completeness_metrics import CompletenessMetrics
from services.video.metrics import VideoMetrics
from services.video.object_store import ObjectStore
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from services.video.spool import Spool
from services.video.store_troubles import StoreWrites
from services.video.store_watch import StoreWatch
from services.video.weighing_follower import WeighingFollower
from services.weighing.directory_metrics import add_directory_metrics
from services.weighing.metrics import WeighingMetrics
from tests.contract.documents import ROOT

DOCUMENT = ROOT / "docs/operate/metrics.md"
ROW = re.compile(r"^\| `(zhichao_\w+)` \| (counter|gauge|histogram) \| (.*?) \|", re.MULTILINE)
NAME = re.compile(r"zhichao_\w+")
HISTOGRAM_SUFFIX = re.compile(r"_(bucket|sum|count)$")

# Bounded by the configuration, by the code or by the tree of divisions. No other label may come in unnoticed.
LABELS = {
    "component",
    "direction",
    "error",
    "group",
    "is_own",
    "kind",
    "level",
    "method",
    "origin",
    "platform",
    "reason",
    "server",
    "source",
    "state",
    "status",
    "stream",
    "trouble",
    "verdict",
    "version",
}


class NoLink:
    """A link that nobody looks at."""

    def status(self) -> LinkStatus:
        raise AssertionError("names are asked for, not values")


def no_store() -> ObjectStore:
    """Return a store that nobody asks."""
    missing = Path("nowhere")
    return S3ObjectStore(S3Settings("http://127.0.0.1:1", "none", missing, missing))


def no_channel() -> grpc.Channel:
    raise AssertionError("names are asked for, not values")


@pytest.fixture(scope="module")
def offered() -> Iterator[dict[str, tuple[str, ...]]]:
    """Return what a service would show that is everything at once."""
    metrics = Metrics("weighing", "141025")
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=2, application_name="test")
    journal = JournalMetrics(metrics, "weighing", engine)
    journal.watch_queue(lambda: 0)
    WeighingMetrics(metrics, journal)
    add_directory_metrics(metrics, dict, lambda: 0)
    add_access_metrics(metrics, Bootstrap("141025", None))
    add_relay_metrics(metrics, NoLink(), DownstreamLinks(SystemClock()))
    spool = Spool(Path("nowhere"), 0, timedelta(), SystemClock())
    watch = StoreWatch(engine, no_store(), SystemClock(), StoreWrites(SystemClock()))
    VideoMetrics(metrics, engine).watch(spool, 0, watch)
    never = timedelta()
    CompletenessMetrics(engine, "141025", never, never, SystemClock().now).add_to(
        metrics, WeighingFollower(engine, no_channel)
    )
    add_server_metrics(metrics, "weighing", {}, AccessKnowledge(SystemClock().monotonic), None)
    yield dict(metrics.offered)
    engine.dispose()


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    for name, kind, labels in ROW.findall(DOCUMENT.read_text(encoding="utf-8")):
        assert name not in found, f"{name} is described twice"
        found[name] = (kind, tuple(re.findall(r"`(\w+)`", labels)))
    return found


def test_the_document_and_the_code_name_the_same_figures(offered: dict[str, tuple[str, ...]]) -> None:
    assert {name: labels for name, (_, labels) in documented().items()} == offered


def test_counters_and_only_counters_end_in_total() -> None:
    wrong = [name for name, (kind, _) in documented().items() if (kind == "counter") != name.endswith("_total")]

    assert wrong == []


def test_labels_are_bounded(offered: dict[str, tuple[str, ...]]) -> None:
    assert {label for labels in offered.values() for label in labels} <= LABELS


@pytest.mark.parametrize("path", ["docs/operate/metrics.md", "deploy/k8s/components/metrics"])
def test_what_alarms_name_exists(offered: dict[str, tuple[str, ...]], path: str) -> None:
    files = [ROOT / path] if (ROOT / path).is_file() else sorted((ROOT / path).rglob("*.yaml"))
    # Names of recording rules have a colon before them or after.
    named = {name for file in files for name in NAME.findall(file.read_text(encoding="utf-8"))}
    known = offered.keys() | {"zhichao_build_info"}

    assert named
    assert [name for name in sorted(named) if HISTOGRAM_SUFFIX.sub("", name) not in known] == []


def test_an_alarm_on_the_age_of_evidence_fires_also_when_the_age_is_absent() -> None:
    """A scrubber or comparison that never comes to an end has no end whose age could be told."""
    rows = dict(
        re.findall(r"^\| `(zhichao_evidence_\w+)` \| gauge \|.*?\| (.*) \|$", DOCUMENT.read_text("utf-8"), re.M)
    )
    absent_before = {name for name, meaning in rows.items() if "absent before" in meaning}
    rules = yaml.safe_load((ROOT / "deploy/k8s/components/metrics/rules.yaml").read_text(encoding="utf-8"))
    expressions = [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    aged = {name for one in expressions if one.startswith("time() -") for name in NAME.findall(one)}
    told_when_absent = {name for one in expressions for name in NAME.findall(one.partition(" unless ")[2])}

    assert "zhichao_evidence_reconcile_timestamp_seconds" in aged & absent_before
    assert aged & absent_before - told_when_absent == set()
