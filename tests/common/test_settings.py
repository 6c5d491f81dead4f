"""Settings are read once, errors name the variable and what it accepts, and secrets are never shown."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from services.common.settings import (
    PlatformSettings,
    ServiceSettings,
    SettingsError,
    check_config,
    load,
    masked,
    variable_name,
)


class WeighbridgeSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="ZHICHAO_WEIGHBRIDGE_")


PLATFORM = {"ZHICHAO_PLATFORM": "141025"}
SERVICE = {
    "ZHICHAO_WEIGHBRIDGE_DATABASE_URL": "postgresql://user:hunter2@localhost/weighbridge",
    "ZHICHAO_WEIGHBRIDGE_LISTEN": "127.0.0.1:7702",
}


def problems(environment: dict[str, str], cls: type[PlatformSettings | ServiceSettings] = PlatformSettings) -> str:
    with pytest.raises(SettingsError) as raised:
        load(cls, environment)
    return str(raised.value)


def test_defaults() -> None:
    settings = load(PlatformSettings, PLATFORM)

    assert (settings.platform, settings.journal_digest, settings.log_format) == ("141025", "sha256", "json")
    assert (settings.trust_domain, settings.plaintext_loopback) == ("zhichao", False)
    assert (settings.tls_certificate_file, settings.tls_key_file, settings.tls_ca_file) == (None, None, None)
    assert (settings.service_token_file, settings.credentials_stale_seconds) == (None, 3600.0)


def test_values_are_read() -> None:
    settings = load(WeighbridgeSettings, SERVICE | {"ZHICHAO_WEIGHBRIDGE_THREADS": "8"})

    assert (settings.listen, settings.threads, settings.health_listen) == ("127.0.0.1:7702", 8, None)


def test_process_environment_is_not_read_behind_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHICHAO_PLATFORM", "141025")

    assert "ZHICHAO_PLATFORM is not set" in problems({})


def test_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHICHAO_PLATFORM", "141025")

    assert load(PlatformSettings).platform == "141025"


def test_empty_is_unset() -> None:
    assert load(PlatformSettings, PLATFORM | {"ZHICHAO_LOG_FORMAT": ""}).log_format == "json"


def test_frozen() -> None:
    settings = load(PlatformSettings, PLATFORM)

    with pytest.raises(ValidationError):
        settings.platform = "140000"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("ZHICHAO_PLATFORM", "14102", "six-digit"),
        ("ZHICHAO_LOG_FORMAT", "xml", "'json' or 'console'"),
        ("ZHICHAO_JOURNAL_DIGEST", "md5", "'sha256' or 'sm3'"),
        ("ZHICHAO_PLAINTEXT_LOOPBACK", "perhaps", "boolean"),
        ("ZHICHAO_TRUST_DOMAIN", "spiffe://zhichao", "trust domain"),
        ("ZHICHAO_CREDENTIALS_STALE_SECONDS", "0", "registry cannot be asked"),
        ("ZHICHAO_TRACES_ENDPOINT", "https://collector", "host:port"),
        ("ZHICHAO_STOP_GRACE_SECONDS", "0", "greater than 0"),
    ],
)
def test_bad_value_names_variable_and_remedy(name: str, value: str, accepted: str) -> None:
    text = problems(PLATFORM | {name: value})

    assert text.startswith(f"{name}: ")
    assert accepted in text


def test_every_problem_is_named_at_once() -> None:
    text = problems({"ZHICHAO_WEIGHBRIDGE_THREADS": "many"}, WeighbridgeSettings)

    assert [line.split(":")[0].split(" ")[0] for line in text.splitlines()] == [
        "ZHICHAO_WEIGHBRIDGE_DATABASE_URL",
        "ZHICHAO_WEIGHBRIDGE_LISTEN",
        "ZHICHAO_WEIGHBRIDGE_THREADS",
    ]


@pytest.mark.parametrize(
    "address", ["7702", "localhost", "localhost:", "localhost:99999", ":7702", "unix:", "unix:///"]
)
def test_bad_address(address: str) -> None:
    assert "host:port" in problems(SERVICE | {"ZHICHAO_WEIGHBRIDGE_LISTEN": address}, WeighbridgeSettings)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:7702", "localhost:65535", "unix:/run/a.sock", "unix:a.sock"])
def test_good_address(address: str) -> None:
    assert load(WeighbridgeSettings, SERVICE | {"ZHICHAO_WEIGHBRIDGE_LISTEN": address}).listen == address


def test_password_of_a_bad_url_is_not_shown() -> None:
    text = problems(SERVICE | {"ZHICHAO_WEIGHBRIDGE_DATABASE_URL": "mysql://user:hunter2@h/d"}, WeighbridgeSettings)

    assert "postgresql://" in text
    assert "hunter2" not in text


def test_file_of_the_secrets_directory(tmp_path: Path) -> None:
    (tmp_path / "zhichao_weighbridge_database_url").write_text("postgresql:///weighbridge\n")
    environment = {"ZHICHAO_WEIGHBRIDGE_LISTEN": "127.0.0.1:1", "ZHICHAO_SECRETS_DIR": str(tmp_path)}

    assert load(WeighbridgeSettings, environment).database_url == "postgresql:///weighbridge"


def test_variable_beats_file(tmp_path: Path) -> None:
    (tmp_path / "zhichao_platform").write_text("140000")

    assert load(PlatformSettings, PLATFORM | {"ZHICHAO_SECRETS_DIR": str(tmp_path)}).platform == "141025"


def test_missing_secrets_directory(tmp_path: Path) -> None:
    assert "ZHICHAO_SECRETS_DIR" in problems(PLATFORM | {"ZHICHAO_SECRETS_DIR": str(tmp_path / "absent")})


def test_check_config_shows_everything_but_secrets() -> None:
    is_well, text = check_config([PlatformSettings, WeighbridgeSettings], PLATFORM | SERVICE)

    assert is_well
    assert "ZHICHAO_PLATFORM=141025" in text.splitlines()
    assert "ZHICHAO_WEIGHBRIDGE_DATABASE_URL=postgresql://user:***@localhost/weighbridge" in text.splitlines()
    assert "hunter2" not in text


def test_check_config_finds_a_misspelt_variable() -> None:
    _, text = check_config([PlatformSettings], PLATFORM | {"ZHICHAO_LOG_FROMAT": "json"})

    assert "# ZHICHAO_LOG_FROMAT is not used here; did you mean ZHICHAO_LOG_FORMAT?" in text.splitlines()


def test_check_config_says_what_became_of_a_setting_of_a_former_release() -> None:
    _, text = check_config([PlatformSettings], PLATFORM | {"ZHICHAO_ALLOW_PLAINTEXT_NETWORK": "true"})

    (line,) = [line for line in text.splitlines() if line.startswith("#")]
    assert line.startswith("# ZHICHAO_ALLOW_PLAINTEXT_NETWORK is gone; ")
    assert "docs/operate/upgrade.md" in line


@pytest.mark.parametrize("name", ["ZHICHAO_TLS_DIR", "ZHICHAO_TOKEN_FILE", "ZHICHAO_POSTGRES_BIN"])
def test_check_config_takes_no_variable_of_the_commands_for_a_slip(name: str) -> None:
    _, text = check_config([PlatformSettings], PLATFORM | {name: "x"})

    assert f"# {name} is not used here" in text.splitlines()


def test_check_config_collects_the_problems_of_all_groups() -> None:
    is_well, text = check_config([PlatformSettings, WeighbridgeSettings], {})

    assert not is_well
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://u:p%40ss@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=p&sslmode=require", "postgresql://h/d?user=u&password=***&sslmode=require"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
    ],
)
def test_masked_url(value: str, shown: str) -> None:
    assert masked("ZHICHAO_X_DATABASE_URL", value) == shown


def test_masked_secret() -> None:
    assert masked("ZHICHAO_API_TOKEN", "abc") == "***"


def test_place_of_a_secret_is_shown() -> None:
    assert masked("ZHICHAO_SERVICE_TOKEN_FILE", "/run/secrets/service.token") == "/run/secrets/service.token"


def test_repr_has_no_password() -> None:
    assert "hunter2" not in repr(load(WeighbridgeSettings, SERVICE))


def test_variable_name() -> None:
    assert variable_name(WeighbridgeSettings, "database_url") == "ZHICHAO_WEIGHBRIDGE_DATABASE_URL"
