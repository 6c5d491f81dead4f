"""Choose the operating system account that owns the server process: PostgreSQL refuses to run as root."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import structlog

from cli.postgres.errors import AccountUnusableError

log = structlog.get_logger()

# An account that exists for this and nothing else; created when root runs a platform and no fit account exists.
OWN_ACCOUNT = "zhichao-postgres"

# Tried in this order. `postgres` belongs to an installed PostgreSQL and has no other use, so only that server's
# administrators share it. `nobody` is left out on purpose: every unrelated program confined to it could read the
# database, connect to its socket or stop it.
FIT_ACCOUNTS = (OWN_ACCOUNT, "postgres")

# shadow-utils first (Debian, Red Hat), then BusyBox (Alpine).
CREATE_COMMANDS = (
    ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false"),
    ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false"),
)

# Account tools take locks on /etc/passwd; somebody else's hung tool must not hang a start for ever.
CREATE_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class Account:
    """An account to run the server under; `is_switched` when it is not the one of this process."""

    name: str
    uid: int
    gid: int
    is_switched: bool

    def can_enter(self, directory: Path) -> bool:
        """Say whether the account may pass through the directory and all its parents.

        Judged by permission bits. Where an access list grants more, the answer is the careful one.
        """
        if not self.is_switched:
            return True
        resolved = directory.resolve()
        return all(self._may(path.stat(), stat.S_IXUSR) for path in (resolved, *resolved.parents))

    def _may(self, status: os.stat_result, owner_bit: int) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & owner_bit)
        if status.st_gid == self.gid:
            return bool(status.st_mode & owner_bit >> 3)
        return bool(status.st_mode & owner_bit >> 6)


def choose(cluster: Path, requested: str | None) -> Account:
    """Choose the account for the server that keeps its files in `cluster`, which need not exist yet.

    Anyone but root runs the server as themselves. Root runs it as the owner of existing files, else as the account
    asked for, else as the first fit one, which is created when there is none.
    Raises AccountUnusableError, also when the files belong to someone the caller cannot become.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    own_uid = os.geteuid()
    if own_uid != 0:
        if owner is not None and owner != own_uid:
            raise AccountUnusableError(
                f"{cluster} belongs to {_name(owner)}, not to {_name(own_uid)}: run as {_name(owner)} or as root"
                " 目录属于其他账户, 请以该账户或 root 运行"
            )
        try:
            entry = pwd.getpwuid(own_uid)
        except KeyError:
            raise AccountUnusableError(
                f"user id {own_uid} has no entry in the passwd database, which initdb needs: add one"
                " 当前用户不在 passwd 数据库中, 请先添加"
            ) from None
        return Account(entry.pw_name, own_uid, os.getegid(), is_switched=False)
    if owner == 0:
        raise AccountUnusableError(
            f"{cluster} belongs to root, as whom PostgreSQL does not run: give it to an account"
            " 该目录属于 root, PostgreSQL 不能以 root 运行, 请改属其他账户"
        )
    if owner is not None:
        return _account(owner)
    if requested is not None:
        return _account(requested)
    for name in FIT_ACCOUNTS:
        try:
            return _account(name)
        except AccountUnusableError:
            continue
    return _create()


def _account(key: str | int) -> Account:
    try:
        entry = pwd.getpwnam(key) if isinstance(key, str) else pwd.getpwuid(key)
    except KeyError:
        raise AccountUnusableError(f"there is no account {key!r} on this machine 本机没有该账户") from None
    if entry.pw_uid == 0:
        raise AccountUnusableError(
            f"PostgreSQL does not run as {entry.pw_name}: name an account without privileges 请指定没有特权的账户"
        )
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, is_switched=True)


def _create() -> Account:
    for program, *arguments in CREATE_COMMANDS:
        path = shutil.which(program)
        if path is None:
            continue
        finished = subprocess.run(  # noqa: S603 - fixed arguments
            [path, *arguments, OWN_ACCOUNT], capture_output=True, text=True, timeout=CREATE_SECONDS_MAX, check=False
        )
        if finished.returncode == 0:
            log.info("account_created", account=OWN_ACCOUNT)
            return _account(OWN_ACCOUNT)
    raise AccountUnusableError(
        f"PostgreSQL does not run as root, and the account {OWN_ACCOUNT} could not be created: "
        "create it, name another one, or start the platform as an ordinary user"
        " PostgreSQL 不能以 root 运行, 且无法创建专用账户; 请创建或指定账户, 或以普通用户启动"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
