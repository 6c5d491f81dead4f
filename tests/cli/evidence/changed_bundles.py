"""Bundles that somebody has changed, with an index and a comment that fit; and what a check says of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.evidence_bundle.archive import Archive
from cli.evidence_bundle.archive_writer import BundleWriter
from cli.evidence_bundle.check import BundleCheck
from cli.evidence_bundle.index import INDEX_NAME, Index


def places(check: BundleCheck) -> set[str]:
    return {finding.place for finding in check.findings}


def details(check: BundleCheck) -> str:
    return "\n".join(finding.detail for finding in check.findings)


def repacked(bundle: Path, changes: Mapping[str, bytes | None], edit: Any = lambda index: index) -> Path:
    """Write the bundle again with other contents, with an index and a comment that fit: as somebody cunning would."""
    changed = bundle.with_name("changed.zip")
    with Archive.open(bundle) as archive:
        contents = {name: archive.content(name, 10**9) or b"" for name in archive.members}
    index = Index.from_json(contents.pop(INDEX_NAME))
    with BundleWriter(changed) as writer:
        for name, content in {**contents, **changes}.items():
            if content is not None:
                writer.add_bytes(name, content)
        writer.finish(edit(index))
    return changed
