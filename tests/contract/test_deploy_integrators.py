"""The component by which a platform asks its integrators for certificates: the services that they call ask, whoever has
to reach those can show one, and what the kubelet and Prometheus look at asks for nothing.
"""

import importlib
import os
from pathlib import Path

import pytest
import yaml

from services.common.settings import SECRETS_DIR_VARIABLE, load
from tests.contract.deployments import K8S, Pod, Site, build, site
from tests.contract.test_deploy_settings import SECRETS, mounted
from tests.contract.test_deploy_sites import check

ASKING = ("weighing", "video")
"""Services that integrators call."""


def variable(service: str) -> str:
    """Return the setting by which a service asks."""
    return f"ZHICHAO_{service.upper()}_REQUIRE_CLIENT_CERTIFICATE"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build a county that has the component and certificates of cert-manager."""
    directory = tmp_path_factory.mktemp("asking")
    up = os.path.relpath(K8S, directory)
    kustomization = {
        "resources": [f"{up}/sites/141025"],
        "components": [f"{up}/components/integrators-by-certificate"],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return Site("141025", build(directory))


def deployment(built: Site, name: str) -> Pod:
    (pod,) = [pod for pod in built.pods if pod.name == f"Deployment/{name}"]
    return pod


def test_the_site_is_valid(asking: Site) -> None:
    assert check(asking) == []


def test_only_services_that_integrators_call_ask(asking: Site) -> None:
    asked = {
        pod.name
        for pod in asking.pods
        for container in pod.containers()
        if any(name.endswith("_REQUIRE_CLIENT_CERTIFICATE") for name in asking.environment(container))
    }
    assert asked == {f"Deployment/{service}" for service in ASKING}


@pytest.mark.parametrize("service", ASKING)
def test_the_service_asks(asking: Site, service: str) -> None:
    (container,) = deployment(asking, service).spec["containers"]
    assert asking.environment(container)[variable(service)] == "true"
    environment = {**asking.environment(container), SECRETS_DIR_VARIABLE: ""}
    url = SECRETS[f"zhichao_{service}_database_url"]
    group = importlib.import_module(f"services.{service}.config").SETTINGS[-1]
    settings = load(group, {**environment, f"ZHICHAO_{service.upper()}_DATABASE_URL": url})
    assert settings.require_client_certificate


@pytest.mark.parametrize("service", ASKING)
def test_an_example_has_it(service: str) -> None:
    (container,) = deployment(site("140602"), service).spec["containers"]
    assert site("140602").environment(container)[variable(service)] == "true"


@pytest.mark.parametrize(("service", "callers"), [("weighing", ["relay", "video"]), ("video", ["relay"])])
def test_whoever_dials_the_service_has_a_certificate_for_that(asking: Site, service: str, callers: list[str]) -> None:
    dialling = [
        pod
        for pod in asking.pods
        for container in pod.containers()
        if any(name.endswith(f"_{service.upper()}_ADDRESS") for name in asking.environment(container))
    ]
    assert sorted(pod.name for pod in dialling) == [f"Deployment/{caller}" for caller in callers]
    for caller, pod in zip(callers, sorted(dialling, key=lambda one: one.name), strict=True):
        (container,) = pod.spec["containers"]
        files = mounted(pod, container)
        environment = asking.environment(container)
        assert files[environment["ZHICHAO_TLS_CERTIFICATE_FILE"]] == "tls.crt"
        assert files[environment["ZHICHAO_TLS_KEY_FILE"]] == "tls.key"
        (certificate,) = [one for one in asking.of_kind("Certificate") if one["metadata"]["name"] == caller]
        assert "client auth" in certificate["spec"]["usages"]


@pytest.mark.parametrize("service", ASKING)
def test_the_kubelet_and_prometheus_are_asked_for_nothing(asking: Site, service: str) -> None:
    (container,) = deployment(asking, service).spec["containers"]
    environment = asking.environment(container)
    asks = int(environment[f"ZHICHAO_{service.upper()}_LISTEN"].rpartition(":")[2])
    probed = {container[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probed == {int(environment[f"ZHICHAO_{service.upper()}_HEALTH_LISTEN"].rpartition(":")[2])}
    scraped = int(environment[f"ZHICHAO_{service.upper()}_METRICS_LISTEN"].rpartition(":")[2])
    assert asks not in {*probed, scraped}


def test_the_component_says_what_it_is_for() -> None:
    guide = (Path(K8S).parents[1] / "docs" / "operate" / "kubernetes.md").read_text(encoding="utf-8")
    assert "`integrators-by-certificate`" in guide
