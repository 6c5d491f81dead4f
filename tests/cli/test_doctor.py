"""`zhichao doctor`: what it says of settings, files and the disk, and of everything together."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import platform_state
from cli.doctor import examination, settings
from cli.doctor.finding import Finding, Level, Text, ok
from cli.doctor.subject import Subject, SubjectError
from cli.main import main
from cli.pki.authority import Authority
from cli.platform_state import PlatformState
from services.common.access.tokens import new_secret
from tests.certificates import new_authority
from tests.cli.doctor_subject import closed_port, key_of, subject, tls_environment
from tests.cli.verified_journals import CITY, COUNTY

# Settings and files


def test_settings_that_suit_are_told(tmp_path: Path) -> None:
    environment = {
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "ZHICHAO_SIGNING_KEY_FILE": str(key_of(tmp_path)),
    }

    assert settings.check_settings(subject(environment=environment)).level is Level.OK


def test_a_missing_setting_is_named() -> None:
    found = settings.check_settings(subject())

    assert found.level is Level.FAIL
    assert "ZHICHAO_WEIGHING_DATABASE_URL is not set" in found.message.english


def test_a_misspelt_setting_is_named() -> None:
    environment = {
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "ZHICHAO_WEIGHING_THREATS": "4",
    }
    found = settings.check_settings(subject(environment=environment))

    assert found.level is Level.WARN
    assert "ZHICHAO_WEIGHING_THREADS" in found.message.english


def test_a_setting_of_a_former_release_is_named() -> None:
    environment = {
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "ZHICHAO_ALLOW_PLAINTEXT_NETWORK": "true",
    }
    found = settings.check_settings(subject(environment=environment))

    assert found.level is Level.WARN
    assert "ZHICHAO_ALLOW_PLAINTEXT_NETWORK is gone" in found.message.english


def test_a_variable_of_the_commands_is_no_warning() -> None:
    environment = {
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "ZHICHAO_TOKEN_FILE": "operator.token",
        "ZHICHAO_TLS_DIR": "tls",
    }

    assert settings.check_settings(subject(environment=environment)).level is Level.OK


def test_no_secret_is_told(tmp_path: Path) -> None:
    environment = {"ZHICHAO_WEIGHING_DATABASE_URL": "mysql://weighing:hunter2@db.example/weighing"}
    found = examination.examine(
        subject(environment=environment, database_urls={"weighing": "postgresql://u:hunter2@127.0.0.1:1/x"})
    )

    assert "hunter2" not in str(found)


def test_a_signing_key_is_read(tmp_path: Path) -> None:
    path = key_of(tmp_path)
    right = subject(environment={"ZHICHAO_SIGNING_KEY_FILE": str(path)})

    assert settings.check_signing_key(right).level is Level.OK
    path.chmod(0o644)
    assert settings.check_signing_key(right).level is Level.WARN
    path.write_text("no key")
    assert settings.check_signing_key(right).level is Level.FAIL
    path.unlink()
    assert settings.check_signing_key(right).level is Level.FAIL
    assert settings.check_signing_key(subject()).level is Level.FAIL


def test_a_service_token_is_read(tmp_path: Path) -> None:
    path = tmp_path / "service.token"
    right = subject(environment={"ZHICHAO_SERVICE_TOKEN_FILE": str(path)})

    assert settings.check_service_token(right).level is Level.FAIL
    path.write_text("too short\n")
    assert settings.check_service_token(right).level is Level.FAIL
    secret = new_secret()
    path.write_text(secret + "\n")
    path.chmod(0o600)
    found = settings.check_service_token(right)
    assert found.level is Level.OK
    assert secret not in str(found)
    path.chmod(0o644)
    assert settings.check_service_token(right).level is Level.WARN


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


def test_a_certificate_is_told_with_its_days(tmp_path: Path, authority: Authority) -> None:
    found = settings.check_certificate(subject(environment=tls_environment(tmp_path, authority, COUNTY)))

    assert found.level is Level.OK
    assert f"platform/{COUNTY}, 90 days left" in found.message.english


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path, authority: Authority) -> None:
    found = settings.check_certificate(subject(environment=tls_environment(tmp_path, authority, COUNTY, days=10)))

    assert found.level is Level.WARN


def test_the_certificate_of_another_platform_is_a_failure(tmp_path: Path, authority: Authority) -> None:
    found = settings.check_certificate(subject(environment=tls_environment(tmp_path, authority, CITY)))

    assert found.level is Level.FAIL
    assert CITY in found.message.english


def test_a_key_of_another_certificate_is_a_failure(tmp_path: Path, authority: Authority) -> None:
    one = tls_environment(tmp_path / "one", authority, COUNTY)
    other = tls_environment(tmp_path / "other", authority, COUNTY)
    mixed = one | {"ZHICHAO_TLS_KEY_FILE": other["ZHICHAO_TLS_KEY_FILE"]}
    found = settings.check_certificate(subject(environment=mixed))

    assert found.level is Level.FAIL
    assert "ZHICHAO_TLS_KEY_FILE" in found.message.english


def test_no_certificate_is_needed_on_loopback_only() -> None:
    alone = subject(addresses={"weighing": "127.0.0.1:7702"})

    assert settings.check_certificate(alone).level is Level.SKIP
    assert settings.check_certificate(replace(alone, addresses={"weighing": "192.0.2.1:7702"})).level is Level.FAIL
    upward = subject(environment={"ZHICHAO_RELAY_UPSTREAM": "192.0.2.1:7706"})
    assert settings.check_certificate(upward).level is Level.FAIL


@pytest.mark.parametrize(("free", "level"), [(10**12, Level.OK), (5 * 10**9, Level.WARN), (10**8, Level.FAIL)])
def test_the_room_on_the_disk_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=free))

    assert settings.check_disk(subject(data_directory=tmp_path)).level is level


# All together


def test_a_check_that_hangs_or_breaks_costs_no_other() -> None:
    released = threading.Event()

    def hang() -> Finding:
        released.wait()
        return ok("late")

    def break_down() -> Finding:
        raise ZeroDivisionError("a fault")

    found = examination.run([("hangs", hang), ("breaks", break_down), ("works", lambda: ok("well"))], 0.2)
    released.set()

    assert [(one.name, one.level) for one in found] == [
        ("hangs", Level.FAIL),
        ("breaks", Level.FAIL),
        ("works", Level.OK),
    ]
    assert "no answer within" in found[0].message.english


def test_everything_that_is_wrong_has_a_remedy_and_both_languages(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    state = PlatformState(
        COUNTY, "serving", 1, str(directory), addresses=dict.fromkeys(("registry", "weighing", "relay"), "")
    )
    platform_state.write(directory / "platform.json", state)
    found = examination.examine(Subject.of_directory(directory, {"ZHICHAO_RELAY_UPSTREAM": closed_port()}))

    bad = [one for one in found if one.level in (Level.WARN, Level.FAIL)]
    assert {"platform", "signing-key", "service-token", "upstream", "service weighing"} <= {one.name for one in bad}
    assert [one.name for one in bad if not one.remedy] == []
    assert [one.name for one in found if not one.message.english or (one in bad and not one.message.chinese)] == []


def test_the_environment_names_the_services_of_a_container() -> None:
    environment = {
        "ZHICHAO_PLATFORM": COUNTY,
        "ZHICHAO_WEIGHING_LISTEN": "0.0.0.0:7702",
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "PATH": "/bin",
    }
    found = Subject.of_environment(environment)

    assert (found.platform, found.services, found.is_running) == (COUNTY, ("weighing",), None)
    assert found.addresses == {"weighing": "127.0.0.1:7702"}
    assert "PATH" not in found.environment


def test_settings_that_are_files_are_found(tmp_path: Path) -> None:
    url = "postgresql://weighing:hunter2@db.example/weighing"
    (tmp_path / "zhichao_weighing_database_url").write_text(url + "\n")
    (tmp_path / "..data").mkdir()
    found = Subject.of_environment({"ZHICHAO_PLATFORM": COUNTY, "ZHICHAO_SECRETS_DIR": str(tmp_path)})

    assert (found.services, found.database_urls) == (("weighing",), {"weighing": url})


def test_a_directory_without_a_platform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="holds no platform"):
        Subject.of_directory(tmp_path, {})


def test_the_exit_status_tells_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(levels: list[Level], *options: str) -> tuple[int, str]:
        told, remedy = Text("told", "已告知"), Text("do", "处置")
        findings = [Finding(f"check {place}", level, told, remedy) for place, level in enumerate(levels)]
        monkeypatch.setattr(examination, "examine", lambda subject: findings)
        result = CliRunner().invoke(main, ["doctor", *options], env={"ZHICHAO_PLATFORM": COUNTY})
        return result.exit_code, result.stdout

    assert run([Level.OK, Level.SKIP, Level.WARN])[0] == 0
    assert run([Level.OK, Level.WARN], "--strict")[0] == 1
    code, printed = run([Level.OK, Level.FAIL], "--json")
    assert code == 1
    document = json.loads(printed)
    assert [check["level"] for check in document["checks"]] == ["ok", "fail"]
    _, shown_text = run([Level.FAIL])
    assert "fail check 0  told 已告知 -> do 处置" in shown_text


def test_without_a_platform_the_exit_status_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZHICHAO_PLATFORM", raising=False)

    assert CliRunner().invoke(main, ["doctor"]).exit_code == 2
    assert CliRunner().invoke(main, ["doctor", "--platform", "141025"]).exit_code == 2
