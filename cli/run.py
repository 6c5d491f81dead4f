"""`zhichao run`: a county, a city and a province on this machine, with simulated trucks; ends with a proof."""

import json
import sys
from pathlib import Path

import click

from cli.platform_layout import DEFAULT_BASE_PORT, PORT_BLOCK_SIZE
from cli.simulate.options import TrafficOptions
from cli.simulate.site import SEED_MAX, UNITS_MAX

# More than any machine of a demonstration takes; the schedule would only fall behind.
_RATE_MAX = 10_000.0
# Every weighing has its photo on a usual machine of two cores: one costs the three platforms some 180 ms of a core, so
# that this fills half of the two.
_RATE_DEFAULT = 5.0
# Every one, as a site has to.
_PHOTO_EVERY_DEFAULT = 1
# The platforms lie at the base port and the two hundreds above it.
_PORT_MAX = 65_535 - 200 - PORT_BLOCK_SIZE
_OVERLOAD_RATE = TrafficOptions().overload_rate


EPILOG = """\b
Exit status 退出码:
  0    verified 核验通过
  1    something differs or could not be verified 不一致或无法核验
  2    wrong options 参数错误
  3    data directory unusable or not empty 数据目录不可用或非空
  4    a port is taken 端口被占用
  6    a platform did not start or ended 平台未能启动或中途退出
  130  stopped before the end 中途停止
"""


@click.command(epilog=EPILOG)
@click.option(
    "--rate",
    type=click.FloatRange(0, _RATE_MAX, min_open=True),
    default=_RATE_DEFAULT,
    show_default=True,
    help="Records a second over all terminals. 每秒记录数。",
)
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Seconds to weigh; 0, the default, goes on until Ctrl-C. 持续秒数, 默认直到 Ctrl-C。",
)
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_MAX),
    default=1,
    show_default=True,
    help="Same seed, same units and trucks. 随机种子。",
)
@click.option(
    "--units", type=click.IntRange(1, UNITS_MAX), default=12, show_default=True, help="Source units. 源头单位数量。"
)
@click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the platforms' data; by default a temporary one, with --keep var/run. 数据目录。",
)
@click.option(
    "--port",
    "base_port",
    type=click.IntRange(0, _PORT_MAX),
    default=DEFAULT_BASE_PORT,
    show_default=True,
    help="Base port of the county; city and province lie 100 and 200 above it. 0 finds free ones. 县级起始端口。",
)
@click.option(
    "--overload-rate",
    type=click.FloatRange(0, 1),
    default=_OVERLOAD_RATE,
    show_default=True,
    help="Loaded trucks that are truly overloaded. 真实超限比例。",
)
@click.option(
    "--photo-every",
    type=click.IntRange(min=0),
    default=_PHOTO_EVERY_DEFAULT,
    show_default=True,
    help="Photograph one of so many weighings, and film suspected ones; 0 for none. Weighings never wait for photos: "
    "what the machine cannot take is left out and counted. 每多少次称重拍照一次(疑似超限另录视频), 0 为不拍; "
    "称重不等待照片, 来不及拍的不拍并计数。",
)
@click.option("--sample", type=click.IntRange(min=0), default=100, show_default=True,
              help="Inclusion proofs to check per level. 每级抽查的包含证明数。")  # fmt: skip
@click.option("--keep", "is_kept", is_flag=True, help="Keep the data, and go on with what is there. 保留并续用数据。")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, no table. 以 JSON 输出结果。")
def run(
    rate: float,
    seconds: float,
    seed: int,
    units: int,
    data_directory: Path | None,
    base_port: int,
    overload_rate: float,
    photo_every: int,
    sample: int,
    is_kept: bool,
    as_json: bool,
) -> None:
    """Start 古县 141025, 临汾市 141000 and 山西省 140000 here, weigh trucks at the county, and prove what arrives.

    在本机启动县、市、省三级平台, 在县级模拟称重, 并核验逐级上报的数据。

    Weighings are photographed, and suspected overloads filmed too; the pictures are drawn, with plate, weight and time.
    Each platform has an evidence store of its own. 称重拍照, 疑似超限另附视频, 均为模拟画面。

    Ctrl-C ends the weighing, waits until the province holds everything and verifies; a second one stops at once.
    """
    from rich.console import Console

    from cli import run_verdict
    from cli.run_interrupts import EXIT_INTERRUPTED, Interrupts
    from cli.run_session import EXIT_DIFFERS, RunError, RunOptions, RunSession, report

    console = Console(stderr=as_json)
    options = RunOptions(
        records_per_second=rate,
        seconds=seconds or None,
        seed=seed,
        unit_count=units,
        data_directory=data_directory,
        base_port=base_port,
        is_kept=is_kept,
        sample=sample,
        traffic=TrafficOptions(overload_rate=overload_rate),
        photo_every=photo_every,
    )
    with Interrupts() as interrupts:
        try:
            outcome = RunSession(options, console, interrupts, is_quiet=as_json).run()
        except RunError as error:
            click.echo(f"zhichao run: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("zhichao run: stopped, nothing was verified 已停止, 未核验", err=True)
            sys.exit(EXIT_INTERRUPTED)
    if as_json:
        document = run_verdict.as_document(
            outcome.verdict,
            outcome.simulation.counters,
            evidence=outcome.simulation.evidence.counters if outcome.simulation.evidence else None,
            photo_every=photo_every,
            seed=seed,
            unanswered=outcome.unanswered,
            seconds=outcome.seconds,
            data_directory=str(outcome.data_directory),
        )
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        report(outcome, console, photo_every=photo_every)
    sys.exit(0 if outcome.is_right else EXIT_DIFFERS)
