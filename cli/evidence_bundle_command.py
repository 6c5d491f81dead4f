"""`zhichao evidence export` and `verify`: one file that proves a weighing and its evidence without any platform."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.access import CallerOptions, access_options, caller_access, open_channel, refusal
from cli.directive_options import made_id
from cli.evidence_options import PURPOSE, EvidenceNameType
from cli.service_reach import DATA, JSON

if TYPE_CHECKING:
    from cli.evidence_bundle.check import BundleCheck
    from cli.evidence_export.collecting import Order
    from cli.evidence_export.sources import Sources
    from cli.status_targets import Target
    from zhichao.video.v1 import evidence_pb2
    from zhichao.weighing.v1 import service_pb2 as weighing_pb

COSIGNED_WITHIN_SECONDS: Final = 15.0
"""Entries are pushed within a second, and cosignatures come back within another one; links that are cut take longer."""

RELAY_SECONDS_MAX: Final = 3.0

NEEDED: Final = ("registry", "weighing", "video")


@click.command("export")
@click.argument("weighing", metavar="WEIGHING")
@click.option(
    "--out",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, none that is there; evidence-ID.zip here unless given. 输出文件, 不覆盖已有文件。",
)
@PURPOSE
@click.option("--id", "bundle_id", default="", metavar="ID", help="Id of the bundle; made if none. 证据包编号。")
@click.option(
    "--evidence",
    "names",
    multiple=True,
    metavar="[PLATFORM/]UNIT/ID",
    type=EvidenceNameType(),
    help="Only this piece of the evidence; may be given often. 仅导出此件证据, 可多次给出。",
)
@click.option(
    "--part",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only this hundred of more than a hundred pieces. 证据超过百件时, 仅导出第 N 个百件。",
)
@click.option(
    "--allow-missing-bytes",
    "allows_missing_bytes",
    is_flag=True,
    help="Also when bytes are not here; their manifests are. 允许缺少原始字节。",
)
@click.option(
    "--cosigned-within",
    "cosigned_within_seconds",
    type=click.FloatRange(min=0),
    default=COSIGNED_WITHIN_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for the platform above to cosign. 等待上级联署的秒数。",
)
@DATA
@click.option(
    "--service",
    "addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Address of a service, instead of --data; name registry, weighing and video. 服务地址: 登记、称重、视频三个。",
)
@click.option(
    "--auditor-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Token of an auditor, who may read journals, unless the caller may. 审计员令牌文件, 用于读取日志证明。",
)
@JSON
@access_options
def export_(
    weighing: str,
    path: Path | None,
    purpose: str,
    bundle_id: str,
    names: "tuple[evidence_pb2.EvidenceName, ...]",
    part: int | None,
    allows_missing_bytes: bool,
    cosigned_within_seconds: float,
    data_directory: Path | None,
    addresses: tuple[str, ...],
    auditor_token_file: Path | None,
    as_json: bool,
    caller_options: CallerOptions,
) -> None:
    """Write one zip with a weighing, what judged it, its evidence, custody and proofs.

    将一次称重及其证据、判定依据、保管记录与证明导出为可离线核验的证据包。

    WEIGHING is UNIT/RECORD or PLATFORM:SEQUENCE. That it is exported is written into the custody of each piece first.
    Entries are read by an auditor: on the platform's own machine its local one. The bundle may hold personal data.

    A bundle holds 100 pieces of evidence and 1,500 custody events; what was left out stands in it.
    每包至多 100 件证据、1,500 条保管记录; 未收录的数量记入包内。

    Exit status: 0 written and checked; 1 refused; 2 wrong options; 3 broke off. 退出码: 0 完成; 1 被拒绝; 3 中断。
    """
    import grpc

    from cli.evidence_bundle.packing import NotRightError
    from cli.evidence_bundle.report import left_out_words
    from cli.evidence_export.collecting import Order, find_weighing
    from cli.evidence_export.pieces import Choice
    from cli.evidence_export.sources import ExportError
    from cli.evidence_transfer import ended_well
    from cli.terminal import Console

    if names and part is not None:
        raise click.UsageError("give --evidence or --part, not both 两者只能给出一个")
    console = Console(stderr=True)
    target = _target(data_directory, addresses, caller_options)
    officer = caller_access(target.options, target.data_directory, ("operator",))
    order = Order(
        bundle_id or made_id("bundle"),
        purpose,
        allows_missing_bytes,
        cosigned_within_seconds,
        Choice(names, part or 0),
        tell=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    with ended_well("export"):
        try:
            with _sources(target, auditor_token_file, purpose) as sources:
                held = find_weighing(sources, weighing)
                if not _has_upstream(target):
                    order.cosigned_within_seconds = 0.0
                place = f"{held.receipt.origin}-{held.receipt.sequence}"
                path = path or Path(f"evidence-{place}-{part}.zip" if part else f"evidence-{place}.zip")
                # Before anything is written into custody.
                if path.exists():
                    raise ExportError(f"{path} is there already: name another file 文件已存在, 请换用其他文件名")
                if not path.absolute().parent.is_dir():
                    raise ExportError(f"{path.parent} is no directory: make it, or name another file 目录不存在")
                check = _write(sources, held, order, path)
        except NotRightError as error:
            for finding in error.check.findings:
                order.tell(f"{finding.place}: {finding.detail}")
            raise click.ClickException(f"{path}: is not right as written, and not kept 核验不通过, 未保留") from error
        except ExportError as error:
            raise click.ClickException(str(error)) from error
        except ValueError as error:
            raise click.ClickException(f"it does not fit together: {error} 内容不一致") from error
        except grpc.RpcError as error:
            raise refusal(error, officer) from error
    index = check.index
    assert index is not None  # noqa: S101 - it was found right
    if left_out := left_out_words(index):
        order.tell(f"left out 未收录: {left_out}")
    document: dict[str, Any] = {
        "file": str(path),
        "bundle_id": order.bundle_id,
        "size_bytes": check.size,
        "evidence_count": len(check.contents.evidence),
        "evidence_left_out": index.evidence_left_out,
        "custody_count": len(check.contents.custody),
        "custody_left_out": {one.action: one.count for one in index.custody_left_out},
        "proof_count": check.proof_count,
        "is_cosigned": all(log.cosigners for log in check.logs),
    }
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        click.echo(
            f"{path}  {check.size:,} bytes, {len(check.contents.evidence)} pieces of evidence 件证据,"
            f" {check.proof_count} proofs 条证明"
        )


@click.command("verify")
@click.argument("path", metavar="BUNDLE.zip", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--key",
    "key_texts",
    multiple=True,
    metavar="NAME+HASH+BASE64",
    help="Key of a platform, as known. 已知的平台公钥。",
)
@JSON
def verify_(path: Path, key_texts: tuple[str, ...], as_json: bool) -> None:
    """Check a bundle offline: every byte, entry, proof and signature.

    离线核验证据包: 逐字节、逐条目、证明与签名。

    Needs no platform. Compare the keys that are shown with those that the platforms have published, or give them.

    Exit status: 0 all is right; 1 something is wrong; 2 it could not be looked at.
    退出码: 0 一致; 1 有问题; 2 无法核验。
    """
    from cli.evidence_verify import verify_bundle

    raise click.exceptions.Exit(verify_bundle(path, key_texts, as_json=as_json))


def _has_upstream(target: "Target") -> bool:
    """Return whether somebody above may cosign; also when the relay cannot be asked."""
    import grpc

    from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

    if "relay" not in target.addresses:
        return True
    with target.connect("relay", "operator") as channel:
        try:
            status = relay_pb2_grpc.RelayServiceStub(channel).GetRelayStatus(
                relay_pb2.GetRelayStatusRequest(), timeout=RELAY_SECONDS_MAX
            )
        except grpc.RpcError:
            return True
    return bool(status.state != relay_pb2.LINK_STATE_NO_UPSTREAM)


def _write(sources: "Sources", held: "weighing_pb.HeldWeighing", order: "Order", path: Path) -> "BundleCheck":
    from cli.evidence_bundle.packing import pack_checked
    from cli.evidence_export.collecting import Collection
    from cli.evidence_transfer import shown_bytes

    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        show(done)

    material = Collection(sources, order).collect(held, progress)
    total = sum(part.size_bytes for part in material.evidence if part.read is not None)
    with shown_bytes("exporting 导出", total) as show:
        return pack_checked(path, material)


def _target(data_directory: Path | None, addresses: Sequence[str], options: CallerOptions) -> "Target":
    from cli.one_platform import one_platform

    if data_directory is not None and addresses:
        raise click.UsageError("give --data or --service, not both 两者只能给出一个")
    target = one_platform([str(data_directory)] if data_directory is not None else addresses, options)
    if missing := [name for name in NEEDED if name not in target.addresses]:
        raise click.UsageError(f"{target.platform}: {', '.join(missing)} is needed too 还需要该服务的地址")
    return target


def _sources(target: "Target", auditor_token_file: Path | None, purpose: str) -> "Sources":
    """Open the services as the officer who exports, and for proofs as an auditor: who is named, or else who is here."""
    from dataclasses import replace

    from cli.evidence_export.sources import Sources

    auditor = replace(target.options, token_file=auditor_token_file or target.options.token_file)
    access = caller_access(auditor, target.data_directory, ("auditor",))
    return Sources(
        lambda service: target.connect(service, "operator"),
        lambda service: open_channel(target.addresses[service], access),
        purpose,
    )
