"""Which one platform a command means that works on one alone: the one named, or the one that runs here."""

from collections.abc import Sequence

import click

from cli.access import CallerOptions
from cli.status_targets import Target, TargetError, find


class NotReachedError(click.ClickException):
    """The platform that is meant does not run, or nobody answers at an address; the text says which and why."""


def one_platform(named: Sequence[str], options: CallerOptions) -> Target:
    """Return the platform of the data directory or the addresses named, or the one that runs here when none is.

    Raises click.UsageError when it is none or several, NotReachedError when it cannot be reached.
    """
    try:
        targets = find(named, options)
    except TargetError as error:
        raise click.UsageError(str(error)) from error
    if not named:
        targets = [target for target in targets if not target.problem] or targets[:1]
    # Of several addresses one may be that of nobody: that is told, and not that they are of several platforms.
    for target in targets:
        if target.problem:
            raise NotReachedError(f"{target.platform}: {target.problem}")
    if len(targets) > 1:
        platforms = ", ".join(target.platform for target in targets)
        if named:
            raise click.UsageError(f"{platforms}: name one platform 请指定一个平台")
        raise click.UsageError(f"{platforms} run here: name one with --data 本机运行多个平台, 请用 --data 指定")
    return targets[0]
