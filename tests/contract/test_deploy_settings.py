"""The manifests and the code agree on settings: whatever is given is read, and whatever must be given is there."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from services.common.lifecycle import STOP_MARGIN_SECONDS
from services.common.settings import SECRETS_DIR_VARIABLE, check_config, load, schema_settings, variable_name
from tests.contract.deployments import IMAGE, SITES, WITH_DATABASE, Document, Pod, Site, site

Settings = type[BaseSettings]

# What the Secrets of a platform hold, where the content matters to whether settings can be read.
SECRETS = {
    f"zhichao_{name}_database_url": f"postgresql://{name}:secret@database-rw:5432/{name}" for name in WITH_DATABASE
}


def own(built: Site) -> list[tuple[Pod, Document]]:
    """Return the containers that run this project's image."""
    return [(pod, one) for pod in built.pods for one in pod.containers() if one["image"].startswith(f"{IMAGE}:")]


def groups(container: Document) -> tuple[Settings, ...]:
    """Return the groups of settings that the container's program reads."""
    arguments = [argument for argument in container["args"] if not argument.startswith("-")]
    is_migrating = arguments[0] == "migrate"
    found: dict[Settings, None] = {}
    for name in arguments[1:] if is_migrating else arguments:
        settings: tuple[Settings, ...] = importlib.import_module(f"services.{name}.config").SETTINGS
        # Migrating reads what a schema needs, of the service's own group.
        found.update(dict.fromkeys((schema_settings(settings[-1]),) if is_migrating else settings))
    return tuple(found)


def mounted(pod: Pod, container: Document) -> dict[str, str]:
    """Return the path of every file that Secrets put into the container, with its key."""
    files: dict[str, str] = {}
    for mount in container["volumeMounts"]:
        volume = pod.volumes()[mount["name"]]
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        sources += [volume["secret"]] if "secret" in volume else []
        for source in sources:
            keys = source.get("items") or [{"key": key, "path": key} for key in ("tls.crt", "tls.key", "ca.crt")]
            files |= {f"{mount['mountPath']}/{item['path']}": item["key"] for item in keys}
    return files


@pytest.mark.parametrize("name", SITES)
def test_every_variable_is_a_setting_of_what_runs_with_it(name: str) -> None:
    unknown = []
    for pod, container in own(site(name)):
        known = {variable_name(group, field) for group in groups(container) for field in group.model_fields}
        given = set(site(name).environment(container)) - {SECRETS_DIR_VARIABLE}
        unknown += [f"{pod.name} {container['name']}: {variable}" for variable in sorted(given - known)]

    assert unknown == []


@pytest.mark.parametrize("name", SITES)
def test_settings_can_be_read_as_the_container_gets_them(name: str, tmp_path: Path) -> None:
    """Read with the code's own checks, with the files that the Secrets mount under another root."""
    wrong = []
    for number, (pod, container) in enumerate(own(site(name))):
        root = tmp_path / str(number)
        for path, key in mounted(pod, container).items():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / path[1:]).write_text(SECRETS.get(key, key), encoding="utf-8")
        environment = {
            variable: f"{root}{value}" if value.startswith("/etc/zhichao/") else value
            for variable, value in site(name).environment(container).items()
        }
        is_well, text = check_config(groups(container), environment)
        if not is_well or "# " in text:
            wrong.append(f"{pod.name} {container['name']}: {text}")

    assert wrong == []


@pytest.mark.parametrize("name", SITES)
def test_files_that_settings_name_are_mounted(name: str) -> None:
    absent = []
    for pod, container in own(site(name)):
        files = mounted(pod, container)
        kept = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        for variable, value in site(name).environment(container).items():
            is_there = value in kept or any(path == value or path.startswith(f"{value}/") for path in files)
            if value.startswith("/") and not is_there:
                absent.append(f"{pod.name} {container['name']}: {variable}={value}")

    assert absent == []


@pytest.mark.parametrize("name", SITES)
def test_nothing_secret_is_in_a_variable(name: str) -> None:
    secret = [
        f"{pod.name}: {entry['name']}"
        for pod in site(name).pods
        for container in pod.containers()
        for entry in container.get("env", [])
        if "valueFrom" in entry or entry["name"].endswith(("_URL", "_PASSWORD", "_TOKEN", "_SECRET"))
    ]
    sources = [source for pod in site(name).pods for one in pod.containers() for source in one.get("envFrom", [])]

    assert secret == []
    assert [source for source in sources if "configMapRef" not in source] == []
    assert site(name).of_kind("Secret") == []


@pytest.mark.parametrize("name", SITES)
def test_a_stop_has_the_time_that_it_may_take(name: str) -> None:
    """preStop, then the grace for calls, then the margin after which the process ends by itself."""
    short = []
    for pod, container in own(site(name)):
        if pod.owner["kind"] == "Deployment" and container in pod.spec["containers"]:
            sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            given = site(name).environment(container)
            platform: Any = load(groups(container)[0], {k: v for k, v in given.items() if k != SECRETS_DIR_VARIABLE})
            needed = sleeps + platform.stop_grace_seconds + STOP_MARGIN_SECONDS
            if pod.spec["terminationGracePeriodSeconds"] < needed + 5:
                short.append(f"{pod.name}: {needed} s and a little")

    assert short == []


@pytest.mark.parametrize("name", SITES)
def test_ports_are_those_that_the_settings_listen_on(name: str) -> None:
    for pod, container in own(site(name)):
        if container not in pod.spec["containers"] or pod.owner["kind"] != "Deployment":
            continue
        listening = {
            variable.removesuffix("_LISTEN").rpartition("_")[2]: int(value.rpartition(":")[2])
            for variable, value in site(name).environment(container).items()
            if variable.endswith("_LISTEN")
        }
        health = next(port for part, port in listening.items() if part == "HEALTH")
        probed = {container[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}

        assert sorted(port["containerPort"] for port in container["ports"]) == sorted(listening.values())
        assert probed == {health}


@pytest.mark.parametrize("name", SITES)
def test_schemas_are_migrated_by_a_job_and_waited_for(name: str) -> None:
    """Each service with a database has a Job of this release and a gate, and does not migrate by itself."""
    jobs = {pod.spec["containers"][0]["args"][-1] for pod in site(name).pods if pod.owner["kind"] == "Job"}
    deployments = [pod for pod in site(name).pods if pod.owner["kind"] == "Deployment"]
    gates = {pod.spec["initContainers"][0]["args"][-1] for pod in deployments if "initContainers" in pod.spec}
    by_themselves = [
        pod.name
        for pod in deployments
        if "initContainers" in pod.spec
        and site(name).environment(pod.spec["containers"][0])["ZHICHAO_AUTO_MIGRATE"] != "false"
    ]

    assert jobs == gates == set(WITH_DATABASE)
    assert by_themselves == []


@pytest.mark.parametrize("name", SITES)
def test_a_job_does_not_change_when_a_site_changes_its_settings(name: str) -> None:
    """The pods of a Job cannot be changed, and a ConfigMap's name changes with its content."""
    changing = [
        pod.name
        for pod in site(name).pods
        if pod.owner["kind"] == "Job" and any("envFrom" in container for container in pod.containers())
    ]

    assert changing == []
