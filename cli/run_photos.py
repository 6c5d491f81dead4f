"""Which weighings have a photo and which have none: by what cameras were told is sealed, and by what levels hold."""

from collections.abc import Mapping
from pathlib import Path

from cli.run_ledger import Acknowledged, read_lines, record_key


class Photos:
    """Sealed photos of acknowledged weighings."""

    def __init__(self, records: Mapping[bytes, bytes], weighing_count: int) -> None:
        # Keys of records by keys of the evidence that shows them.
        self._records = records
        self._weighing_count = weighing_count
        self.count = len(set(records.values()))

    @classmethod
    def read(cls, path: Path, acknowledged: Acknowledged) -> "Photos":
        """Read the ledger of the cameras. A last line that was cut by a kill is not sealed yet."""
        records = {}
        for line in read_lines(path):
            record = record_key(line["source_unit_id"], line["record_id"])
            if not line["is_clip"] and record in acknowledged.keys:
                records[record_key(line["source_unit_id"], line["evidence_id"])] = record
        return cls(records, acknowledged.count)

    @property
    def lacking_count(self) -> int:
        """Acknowledged weighings without a sealed photo."""
        return self._weighing_count - self.count

    def record_of(self, evidence: bytes) -> bytes | None:
        """Return the key of the weighing that a photo shows, None when it is no photo of one."""
        return self._records.get(evidence)


class PhotoCheck:
    """Counts the weighings whose photo's manifest one level holds."""

    def __init__(self, photos: Photos) -> None:
        self._photos = photos
        self._held: set[bytes] = set()

    def note(self, evidence: bytes) -> None:
        """Note a manifest that is held, by the key of its evidence."""
        if (record := self._photos.record_of(evidence)) is not None:
            self._held.add(record)

    @property
    def held_count(self) -> int:
        """Weighings with a photo here."""
        return len(self._held)


def photo_line(photos: Photos, *, every: int, left_out_count: int) -> str:
    """Say in English and Chinese how many weighings have a photo, how many have none, and why."""
    total = photos.count + photos.lacking_count
    have, lack = f"{photos.count:,}", f"{photos.lacking_count:,}"
    if not photos.lacking_count:
        return f"PHOTOS: each of the {total:,} weighings has one.\n照片: {total:,} 条称重记录均有照片。"
    if not every:
        why, why_zh = "none were asked for (--photo-every 0)", "按设置不拍照 (--photo-every 0)"
    else:
        reasons, reasons_zh = [], []
        if every > 1:
            reasons.append(f"one of {every} is photographed on purpose (--photo-every)")
            reasons_zh.append(f"按设置每 {every} 次称重拍一张 (--photo-every)")
        if left_out_count:
            reasons.append(
                f"{left_out_count:,} were left out because this machine does not keep up; weigh at a lower rate"
            )
            reasons_zh.append(f"其中 {left_out_count:,} 张因本机处理不及而未拍, 请降低速率")
        why = "; ".join(reasons) or "they were not sealed"
        why_zh = "; ".join(reasons_zh) or "未能封存"
    return (
        f"PHOTOS: {have} of {total:,} weighings have one, {lack} have none: {why}.\n"
        f"照片: {total:,} 条称重记录中 {have} 条有照片, {lack} 条没有: {why_zh}。"
    )
