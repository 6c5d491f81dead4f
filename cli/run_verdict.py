"""The verdict of `zhichao run` as a table, one line in English and Chinese, and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.run_check import LevelVerdict, Verdict
from cli.run_evidence import LevelEvidence
from cli.run_photos import photo_line
from cli.simulate.evidence import EvidenceCounters
from cli.simulate.ledger import Counters
from cli.verify_report import as_document as examined_document

# Differences shown; the JSON has all.
_LINES_MAX = 10


def show(console: Console, verdict: Verdict, *, photo_every: int, photos_left_out: int) -> None:
    """Print table, differences, how many weighings have a photo, and the line."""
    console.print(verdict_table(verdict))
    for line in verdict.differences[:_LINES_MAX]:
        console.print(Text(line, "red"))
    if len(verdict.differences) > _LINES_MAX:
        console.print(Text(f"and {len(verdict.differences) - _LINES_MAX:,} more 另有更多", "red"))
    photos = photo_line(verdict.photos, every=photo_every, left_out_count=photos_left_out)
    console.print(Text(photos, "yellow" if verdict.photos.lacking_count else "green"), soft_wrap=True)
    console.print(Text(verdict_line(verdict), "bold green" if verdict.is_right else "bold red"), soft_wrap=True)


def verdict_line(verdict: Verdict) -> str:
    """Say how it ended."""
    count = f"{verdict.acknowledged.count:,}"
    if verdict.is_right:
        return (
            f"VERIFIED: {count} acknowledged weighings held at all levels, once each, unchanged.\n"
            f"核验通过: 已确认的 {count} 条称重记录在三级平台各存一份, 内容一致, 证明有效。"
        )
    return (
        f"DIFFERS: {len(verdict.differences)} findings about {count} acknowledged weighings.\n"
        f"核验不通过: 已确认 {count} 条称重记录, 发现 {len(verdict.differences)} 处不一致。"
    )


def verdict_table(verdict: Verdict) -> Table:
    """Make the table with one column per level."""
    table = Table(title="Verification 核验", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Check 检查项", no_wrap=True)
    for one in verdict.levels:
        table.add_column(f"{one.level.code}\n{one.level.name}", justify="right", no_wrap=True)

    def row(name: str, *cells: Text) -> None:
        table.add_row(name, *cells)

    levels = verdict.levels
    total = verdict.acknowledged.count
    row("Acknowledged, held 已确认且在库", *(_count(one.ledger.held_count, total) for one in levels))
    row("Held twice 重复", *(_none(one.ledger.twice_count) for one in levels))
    row("Not acknowledged 未见确认", *(Text(f"{one.ledger.unacknowledged_count:,}") for one in levels))
    row("Weighings with photo 有照片的称重", *(_count(one.photos.held_count, verdict.photos.count) for one in levels))
    if verdict.evidence:
        sealed = verdict.sealed.count
        row("Evidence sealed, held 已封存证据清单", *(_count(one.manifests.held_count, sealed) for one in levels))
        row("Clips of suspected, here 疑似超限视频", *(_clips(one) for one in verdict.evidence))
        row("Read back, as sealed 读取与封存一致", *(_read_back(one) for one in verdict.evidence))
    row("Logs right, from bytes 逐字节核验日志", *(_right_logs(one) for one in levels))
    row("Entries checked 核验条目", *(Text(f"{_entries(one):,}") for one in levels))
    row("Roots equal to below 与下级根一致", *(_equal(one) for one in levels))
    row("Checkpoints checked 核验检查点", *(Text(f"{_checkpoints(one):,}") for one in levels))
    row("Cosigned to the end 联署至末条", *(_cosigned(one) for one in levels))
    row("Inclusion proofs valid 包含证明有效", *(_proofs(one) for one in levels))
    return table


def as_document(
    verdict: Verdict | None,
    counters: Counters,
    *,
    evidence: EvidenceCounters | None,
    photo_every: int,
    seed: int,
    unanswered: int,
    seconds: float,
    data_directory: str,
) -> Mapping[str, Any]:
    """Return plain values for JSON."""
    document: dict[str, Any] = {
        "is_right": verdict is not None and verdict.is_right,
        "seed": seed,
        "seconds": round(seconds, 3),
        "data_directory": data_directory,
        "terminals": {**asdict(counters), "unanswered": unanswered},
    }
    if verdict is not None:
        document["acknowledged"] = verdict.acknowledged.count
        document["evidence"] = {
            **(asdict(evidence) if evidence is not None else {}),
            "sealed": verdict.sealed.count,
            "photo_every": photo_every,
            "weighings_with_photo": verdict.photos.count,
            "weighings_without_photo": verdict.photos.lacking_count,
            "levels": [
                {
                    "platform": one.code,
                    "clips_of_suspected": one.clip_count,
                    "clips_of_suspected_here": one.clips_held_count,
                    "looked_at": one.looked_at_count,
                    "here": one.held_count,
                    "read": one.read_count,
                    "read_as_sealed": one.right_count,
                }
                for one in verdict.evidence
            ],
        }
        document["differences"] = verdict.differences
        document["levels"] = [
            {
                "platform": one.level.code,
                "held": one.ledger.held_count,
                "missing": one.ledger.missing_count,
                "manifests_missing": one.manifests.missing_count,
                "weighings_with_photo": one.photos.held_count,
                "twice": one.ledger.twice_count,
                "unacknowledged": one.ledger.unacknowledged_count,
                "equal_logs": one.equal_count,
                "unequal_logs": one.unequal,
                "uncosigned_logs": one.uncosigned,
                "inclusion_proofs": _proof_count(one),
            }
            for one in verdict.levels
        ]
        document["journals"] = examined_document([one.examined for one in verdict.levels], seconds=seconds)["platforms"]
    return document


def _count(found: int, expected: int) -> Text:
    """Write a number that has to be another one; that one too when it is not."""
    return Text(f"{found:,}", "green") if found == expected else Text(f"{found:,} / {expected:,}", "bold red")


def _none(count: int) -> Text:
    return Text(f"{count:,}", "bold red" if count else "green")


def _clips(one: LevelEvidence) -> Text:
    return _count(one.clips_held_count, one.clip_count) if one.clip_count else Text("-", "dim")


def _read_back(one: LevelEvidence) -> Text:
    return _count(one.right_count, one.read_count) if one.read_count else Text("-", "dim")


def _right_logs(one: LevelVerdict) -> Text:
    results = one.examined.results
    return _count(sum(result.is_right for result in results), len(results))


def _entries(one: LevelVerdict) -> int:
    return sum(result.checked for result in one.examined.results)


def _checkpoints(one: LevelVerdict) -> int:
    return sum(result.checkpoint_count for result in one.examined.results)


def _equal(one: LevelVerdict) -> Text:
    total = one.equal_count + len(one.unequal)
    return _count(one.equal_count, total) if total else Text("-", "dim")


def _cosigned(one: LevelVerdict) -> Text:
    if not one.level.upstream:
        return Text("-", "dim")
    own = [result for result in one.examined.results if result.is_own]
    return _count(len(own) - len(one.uncosigned), len(own))


def _proof_count(one: LevelVerdict) -> int:
    return sum(result.proof_count for result in one.examined.results)


def _proofs(one: LevelVerdict) -> Text:
    bad = sum(finding.fault == "proof_invalid" for result in one.examined.results for finding in result.findings)
    return _count(_proof_count(one), _proof_count(one) + bad)
