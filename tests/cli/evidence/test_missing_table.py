"""What is missing is shown with what is there and does not count."""

from rich.console import Console

from cli.evidence_display import missing_table
from zhichao.video.v1 import service_pb2 as pb


def test_what_shows_another_time_is_named_beside_what_is_missing() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(
            missing_table(
                [
                    pb.MissingEvidence(record_id="r-1", lacks_clip=True, has_clip_of_other_time=True),
                    pb.MissingEvidence(record_id="r-2", lacks_clip=True, lacks_photo=True),
                ]
            )
        )
    first, second = [line for line in captured.get().splitlines() if "r-" in line]
    assert "clip 视频 (another time 时间不符)" in first
    assert "clip 视频, photo 照片" in second
