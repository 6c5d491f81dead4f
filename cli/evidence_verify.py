"""Checks an evidence bundle and shows the result: what `zhichao verify` and `zhichao evidence verify` both do."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

EXIT_DIFFERS: Final = 1
EXIT_CANNOT_LOOK: Final = 2
EXIT_INTERRUPTED: Final = 130


def verify_bundle(path: Path, key_texts: Sequence[str], *, as_json: bool) -> int:
    """Check a bundle and print what was found; return the exit status. Raises click.BadParameter for a bad key."""
    from cli.audit_log.progress import shown_progress
    from cli.evidence_bundle.check import check_bundle
    from cli.evidence_bundle.report import check_document, show_check
    from cli.terminal import Console
    from cli.verifier.notes import PublicKey, UnreadableNoteError

    try:
        keys = [PublicKey.read(text) for text in key_texts]
    except UnreadableNoteError as error:
        raise click.BadParameter(str(error), param_hint="--key") from error
    try:
        total = path.stat().st_size
        with shown_progress() as progress:
            count = 0

            def advance(more: int) -> None:
                nonlocal count
                count += more
                progress("checking 核验中", count, total)

            check = check_bundle(path, keys, advance)
    except OSError as error:
        click.echo(f"zhichao verify: {path}: {error.strerror} 无法读取", err=True)
        return EXIT_CANNOT_LOOK
    except KeyboardInterrupt:
        click.echo("zhichao verify: stopped, nothing is said 已停止, 无结论", err=True)
        return EXIT_INTERRUPTED
    if as_json:
        click.echo(json.dumps(check_document(path, check), ensure_ascii=False))
    else:
        show_check(Console(), path, check)
    return 0 if check.is_right else EXIT_DIFFERS
