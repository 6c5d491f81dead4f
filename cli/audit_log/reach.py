"""Which services of which platform a command about the audit log means."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.access import CallerOptions

if TYPE_CHECKING:
    import grpc

    from cli.audit_log.check import LogCheck
    from cli.audit_log.manifest import Manifest
    from cli.status_targets import Target

CALLER: Final = ("auditor",)
"""Whose token is shown on a local platform: nobody else may read the audit log."""

LIST_SECONDS_MAX: Final = 30.0


@contextmanager
def reach_services(
    data_directory: Path | None, addresses: tuple[str, ...], caller_options: CallerOptions
) -> "Iterator[tuple[Target, Mapping[str, grpc.Channel]]]":
    """Reach every service of the one platform that is meant that keeps records."""
    from cli.one_platform import one_platform

    if data_directory is not None and addresses:
        raise click.UsageError("give --data or --service, not both 两者只能给出一个")
    target = one_platform([str(data_directory)] if data_directory is not None else addresses, caller_options)
    with ExitStack() as stack:
        channels = {
            name: stack.enter_context(target.connect(name, *CALLER)) for name in target.addresses if name != "relay"
        }
        if not channels:
            raise click.UsageError(
                "the relay keeps no records itself: name the other services with --service"
                " 转发服务不存记录, 请用 --service 指定其他服务"
            )
        yield target, channels


def logs_of(
    target: "Target", channels: "Mapping[str, grpc.Channel]", origins: Sequence[str], *, all_origins: bool
) -> Mapping[str, Sequence[str]]:
    """Return by service whose logs are meant: the platform's own, those named, or all that are held."""
    import grpc

    from services.common.rpc_client import service_error
    from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

    if not (origins or all_origins):
        return dict.fromkeys(channels, (target.platform,))
    found = {}
    for name, channel in channels.items():
        try:
            answer = journal_pb2_grpc.JournalServiceStub(channel).ListPositions(
                journal_pb2.ListPositionsRequest(), timeout=LIST_SECONDS_MAX
            )
        except grpc.RpcError as error:
            refused = service_error(error)
            raise click.ClickException(f"{name}: {refused.message} ({refused.reason}) {refused.message_zh}") from error
        held = [position.origin for position in answer.positions if position.size]
        found[name] = held if all_origins else [one for one in origins if one in held]
    if missing := set(origins) - {one for held in found.values() for one in held}:
        raise click.UsageError(f"--origin {', '.join(sorted(missing))}: no log of it is held there 未持有该平台日志")
    return found


def compare_with(
    manifest: "Manifest", checks: "Sequence[LogCheck]", against: Sequence[str], options: CallerOptions
) -> None:
    """Add to the checks what a platform, named by directory or addresses, says of the same logs today."""
    from cli.audit_log.online import compare
    from cli.status_targets import TargetError, find
    from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub

    try:
        targets = find(against, options)
    except TargetError as error:
        raise click.UsageError(str(error)) from error
    for one in targets:
        if one.problem:
            raise click.UsageError(f"--against {one.platform}: {one.problem}")
    (target, *others) = targets
    if others:
        raise click.UsageError(f"--against {', '.join(against)}: names several platforms 请只指定一个平台")
    for exported, check in zip(manifest.logs, checks, strict=False):
        if exported.head.stream not in target.addresses:
            check.findings.append(
                f"{target.platform} was not asked: its {exported.head.stream} service is not named 未指定该服务"
            )
            continue
        with target.connect(exported.head.stream, *CALLER) as channel:
            compare(exported, check, JournalServiceStub(channel))
