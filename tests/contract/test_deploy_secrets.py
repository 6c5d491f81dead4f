"""The script that makes the Secrets of a new platform: all that a site needs, in the form in which it is read, once."""

import base64
import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from services.common.access.tokens import bearer, format_service_token, format_token, presented_token
from services.common.settings import SECRETS_DIR_VARIABLE, load
from services.journal.notes import Signer, signer_name
from services.video.config import VideoSettings
from tests.contract.deployments import K8S, KUBECTL, SITES, WITH_DATABASE, Site, site
from tests.contract.test_deploy_references import documented_secrets, secrets_of

Secrets = dict[str, dict[str, bytes]]

EVIDENCE_KEYS = ("access-key", "secret-key", "ca.crt")
"""Files of the Secret evidence-store, and of the directory that --evidence names."""


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the script with the kubectl of the environment; it needs no cluster."""
    return subprocess.run(
        [K8S / "secrets.sh", *map(str, words)],
        env={"PATH": f"{KUBECTL.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def read(directory: Path) -> Secrets:
    """Return what the Secrets in a directory hold, by name and key."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(directory.iterdir())]
    return {
        document["metadata"]["name"]: {key: base64.b64decode(value) for key, value in document["data"].items()}
        for document in documents
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of one run with everything."""
    root = tmp_path_factory.mktemp("secrets")
    (root / "ca.crt").write_text("a certificate", encoding="utf-8")
    done = run("--s3", root / "ca.crt", root / "made")
    assert done.returncode == 0, done.stderr
    return root / "made"


@pytest.fixture(scope="module")
def secrets(directory: Path) -> Secrets:
    """Return what that run made."""
    return read(directory)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the keys of an object store that somebody else runs."""
    made = tmp_path_factory.mktemp("keys")
    for file in EVIDENCE_KEYS:
        (made / file).write_text(f"the {file}", encoding="utf-8")
    return made


def keys_that_pods_read(built: Site) -> set[tuple[str, str]]:
    """Return every (Secret, key) that a pod of a site mounts."""
    found = set()
    for pod in built.pods:
        for volume in pod.volumes().values():
            for source in [
                *(one["secret"] for one in volume.get("projected", {}).get("sources", [])),
                volume.get("secret", {}),
            ]:
                name = source.get("name", source.get("secretName"))
                found |= {(name, item["key"]) for item in source.get("items", [])}
    return found


@pytest.mark.parametrize("name", SITES)
def test_all_that_a_site_does_not_make_is_made(name: str, secrets: Secrets) -> None:
    needed, made = secrets_of(site(name))
    read_by_pods = {pair for pair in keys_that_pods_read(site(name)) if pair[0] in secrets}

    # The certificate authority of a database outside is its operator's.
    assert needed - made - set(secrets) <= {"database-ca"}
    assert {(secret, key) for secret, key in read_by_pods if key not in secrets[secret]} == set()


def test_nothing_is_made_that_the_guide_does_not_tell_of(secrets: Secrets) -> None:
    assert set(secrets) <= documented_secrets()


def test_nobody_else_can_read_it(directory: Path) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_the_code_reads_what_was_made(secrets: Secrets, tmp_path: Path) -> None:
    for name in WITH_DATABASE:
        for content in (secrets[f"{name}-database"], secrets[f"{name}-database-owner"]):
            for key, value in content.items():
                (tmp_path / key).write_bytes(value)
            group = importlib.import_module(f"services.{name}.config").SETTINGS[-1]
            (container,) = next(
                pod.spec["containers"] for pod in site("141025").pods if pod.name == f"Deployment/{name}"
            )
            given = site("141025").environment(container) | {SECRETS_DIR_VARIABLE: str(tmp_path)}
            settings: Any = load(group, given)
            assert settings.database_url.endswith("?sslmode=verify-full&sslrootcert=/etc/zhichao/database/ca.crt")
    (tmp_path / "signing.pem").write_bytes(secrets["signing-key"]["signing.pem"])
    Signer.from_pem_file(signer_name("141025"), tmp_path / "signing.pem")
    service = format_service_token(secrets["service-token"]["token"].decode())
    first = format_token("bootstrap", secrets["first-credential"]["token"].decode())
    assert [presented_token(dict(bearer(token))["authorization"]) is not None for token in (service, first)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("name", WITH_DATABASE)
def test_urls_and_the_database_s_roles_agree(name: str, secrets: Secrets) -> None:
    for secret, role in ((f"{name}-database", name), (f"{name}-database-owner", f"{name}_owner")):
        url = urlsplit(secrets[secret][f"zhichao_{name}_database_url"].decode())
        held = secrets[f"database-role-{role.replace('_', '-')}"]
        assert (url.username, url.password) == (held["username"].decode(), held["password"].decode())
        assert (url.hostname, url.path, held["username"].decode()) == ("database-rw", f"/{name}", role)
    assert len({held["password"] for key, held in secrets.items() if key.startswith("database-role-")}) == 2 * len(
        WITH_DATABASE
    )


def test_the_roles_are_those_of_the_site(secrets: Secrets) -> None:
    (cluster,) = site("141025").of_kind("Cluster")
    roles = {role["passwordSecret"]["name"]: role["name"] for role in cluster["spec"]["managed"]["roles"]}
    granted = {
        entry["value"]
        for pod in site("141025").pods
        for container in pod.containers()
        for entry in container.get("env", [])
        if entry["name"].endswith("_RUNTIME_ROLE")
    }

    assert {key: secrets[key]["username"].decode() for key in roles} == roles
    assert granted == {role for role in roles.values() if not role.endswith("_owner")}


def test_the_object_store_knows_who_backs_up_and_who_keeps_evidence(secrets: Secrets) -> None:
    identities = json.loads(secrets["s3-identities"]["identities.json"])["identities"]
    known = {one["name"]: [(key["accessKey"], key["secretKey"]) for key in one["credentials"]] for one in identities}

    assert known == {
        name: [(secrets[f"{name}-store"]["access-key"].decode(), secrets[f"{name}-store"]["secret-key"].decode())]
        for name in ("backup", "evidence")
    }


def test_neither_of_them_may_touch_the_bucket_of_the_other(secrets: Secrets) -> None:
    identities = json.loads(secrets["s3-identities"]["identities.json"])["identities"]
    buckets = {one["name"]: {action.partition(":")[2] for action in one["actions"]} for one in identities}

    assert buckets == {"backup": {"backup"}, "evidence": {VideoSettings.model_fields["s3_bucket"].default}}


def test_keys_of_an_object_store_outside_are_taken_as_they_are(keys: Path, tmp_path: Path) -> None:
    done = run("--evidence", keys, tmp_path / "made")
    made = read(tmp_path / "made")

    assert done.returncode == 0
    assert made["evidence-store"] == {file: f"the {file}".encode() for file in EVIDENCE_KEYS}
    assert not {"s3-identities", "backup-store"} & set(made)


def test_a_second_run_replaces_nothing(directory: Path, keys: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    done = run("--evidence", keys, directory)

    assert done.returncode == 1
    assert "name a new directory" in done.stderr
    assert "请指定新目录" in done.stderr
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_database_outside_has_its_address_in_the_urls(keys: Path, tmp_path: Path) -> None:
    done = run("--database", "database.example:6432", "--evidence", keys, tmp_path / "made")
    made = read(tmp_path / "made")
    url = urlsplit(made["weighing-database"]["zhichao_weighing_database_url"].decode())

    assert done.returncode == 0
    assert (url.hostname, url.port) == ("database.example", 6432)
    assert not [name for name in made if name.startswith("database-role-")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "usage: secrets.sh"),
        (("--s3", "absent", "made"), "--s3 absent: cannot be read"),
        (("--evidence", "absent", "made"), "--evidence absent: access-key cannot be read"),
        (("made",), "name the object store"),
        (("--s3", "/dev/null", "--evidence", "keys", "made"), "not both"),
        (("--database",), "--database HOST:PORT"),
        (("--other", "made"), "--other: no such option"),
        (("one", "two"), "usage: secrets.sh"),
    ],
)
def test_wrong_words_are_refused(words: tuple[str, ...], told: str, keys: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("made", "one", "two")} | {"keys": keys}
    done = run(*(places.get(word, word) for word in words))

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_is_no_mistake() -> None:
    done = run("--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: secrets.sh")


def test_nothing_is_begun_without_the_programs(keys: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "sh").symlink_to("/bin/sh")
    done = subprocess.run(
        ["/bin/sh", K8S / "secrets.sh", "--evidence", keys, tmp_path / "made"],
        env={"PATH": str(bare)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "openssl is not on the path" in done.stderr
    assert not (tmp_path / "made").exists()
