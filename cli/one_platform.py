"""Which one platform a command means that works on one alone: the one named, or the one that runs here."""

from collections.abc import Sequence

import click

from cli.access import CallerOptions
from cli.status_targets import Target, TargetError, find


class NotReachedError(click.ClickException):
    """The platform that is meant does not run, or nobody answers at an address; the text says which and why."""


def one_platform(named: Sequence[str], options: CallerOptions) -> Target:
    """Return the platform of the data directory or the addresses named, or the one that runs here when none is.

    Of a directory with the data of several, the one that runs is meant. Raises click.UsageError when it is none or
    several, NotReachedError when it cannot be reached.
    """
    try:
        targets = find(named, options)
    except TargetError as error:
        raise click.UsageError(str(error)) from error
    # Beside the one that runs, others may have run here before. Of addresses every one is meant; that one is nobody's
    # is told before that they are of several platforms.
    is_local = all(target.data_directory for target in targets)
    if is_local:
        targets = [target for target in targets if not target.problem] or targets[:1]
    for target in targets:
        if target.problem:
            raise NotReachedError(f"{target.platform}: {target.problem}")
    if len(targets) > 1:
        platforms = ", ".join(target.platform for target in targets)
        if is_local:
            raise click.UsageError(f"{platforms} run here: name one with --data 本机运行多个平台, 请用 --data 指定")
        raise click.UsageError(f"{platforms}: name one platform 请指定一个平台")
    return targets[0]
