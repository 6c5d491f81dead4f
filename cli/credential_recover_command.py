"""`zhichao credential recover`: the way back when the tokens of all security administrators are lost."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zhichao.access.v1 import credential_pb2

EXIT_FAILED = 1


@click.command("recover")
@click.option("--reason", required=True, help="Why; kept for ever in the journal. 原因, 永久保存于日志。")
@click.option(
    "--data",
    "data_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Data directory of the platform, which may run; without it the registry's settings say where its database is. "
    "平台数据目录。",
)
@click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask. 不再询问。")
@click.option(
    "--postgres-bin",
    "binaries",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="ZHICHAO_POSTGRES_BIN",
    help="Programs of an installed PostgreSQL instead of the bundled one. 使用已安装的 PostgreSQL",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON. 以 JSON 输出。")
def recover(reason: str, data_directory: Path | None, is_confirmed: bool, binaries: Path | None, as_json: bool) -> None:
    """Revoke all security administrators' credentials because their tokens are lost, so that the bootstrap token is
    accepted again.

    安全管理员令牌全部遗失时, 吊销其凭证, 恢复使用初始令牌。

    For whoever has the registry's database and the platform's signing key: on the machine of `zhichao up`, or in the
    registry's pod. The registry may run. Who did it is not known to the platform: the journal says `recovery`, with the
    reason, and so do the access records that auditors read, here and at every platform above.
    """
    from cli.registry_database import RegistryDatabaseError, registry_database
    from services.common.database import SchemaError
    from services.common.errors import ServiceError
    from services.common.logs import configure
    from services.common.settings import SettingsError
    from services.journal.log_writer import LogIdentityError
    from services.registry.lost_administrators import AdministratorsChangedError, LostAdministrators

    # One line of it is meant to be seen.
    configure("console", "warning")
    try:
        with registry_database(data_directory, binaries) as database:
            lost = LostAdministrators.of(database.platform, database.url)
            try:
                found = lost.found()
                if found and not is_confirmed:
                    _ask(database.platform.platform, found)
                revoked = lost.revoke([one.credential_id for one in found], reason)
            finally:
                lost.close()
            _show(database.platform.platform, revoked, database.data_directory, as_json=as_json)
    except ServiceError as error:
        _fail(f"{error.message} {error.message_zh}".rstrip())
    except (
        RegistryDatabaseError,
        SettingsError,
        SchemaError,
        LogIdentityError,
        AdministratorsChangedError,
    ) as error:
        _fail(str(error))


def _ask(platform: str, found: "Sequence[credential_pb2.Credential]") -> None:
    from cli.credential_display import local_day

    click.echo(f"Security administrators of {platform} 安全管理员:", err=True)
    for one in found:
        click.echo(f"  {one.credential_id}, ends 到期 {local_day(one.expire_time)}", err=True)
    click.confirm(
        "Revoke them all, for ever? Whoever still has a token need not do this. 全部吊销?", abort=True, err=True
    )


def _show(platform: str, revoked: "Sequence[credential_pb2.Credential]", data_directory: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"platform": platform, "revoked": [one.credential_id for one in revoked]}))
        return
    for one in revoked:
        click.echo(f"revoked 已吊销: {one.credential_id}")
    if not revoked:
        click.echo("No valid credential of a security administrator there: nothing to revoke. 无有效凭证, 无需吊销。")
    where = (
        f"start the platform again, which appoints its own, or use {data_directory}/secrets/bootstrap.token"
        if data_directory
        else "give the registry ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE with a new secret and start it again"
    )
    click.echo(f"The registry accepts the bootstrap token: {where}. Appoint two. 登记服务已重新接受初始令牌。")


def _fail(message: str) -> NoReturn:
    click.echo(f"zhichao credential recover: {message}", err=True)
    raise click.exceptions.Exit(EXIT_FAILED)
