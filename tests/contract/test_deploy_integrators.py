"""The component by which a platform asks its integrators for certificates: the service asks, whoever has to reach it
can show one, and what the kubelet and Prometheus look at asks for nothing.
"""

import os
from pathlib import Path

import pytest
import yaml

from services.common.settings import load
from services.weighing.config import WeighingSettings
from tests.contract.deployments import K8S, Pod, Site, build, site
from tests.contract.test_deploy_settings import SECRETS, mounted
from tests.contract.test_deploy_sites import check

VARIABLE = "ZHICHAO_WEIGHING_REQUIRE_CLIENT_CERTIFICATE"


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


def test_only_the_weighing_service_asks(asking: Site) -> None:
    asked = {
        pod.name
        for pod in asking.pods
        for container in pod.containers()
        if asking.environment(container).get(VARIABLE) == "true"
    }
    assert asked == {"Deployment/weighing"}
    (container,) = deployment(asking, "weighing").spec["containers"]
    environment = {**asking.environment(container), "ZHICHAO_SECRETS_DIR": ""}
    url = SECRETS["zhichao_weighing_database_url"]
    settings = load(WeighingSettings, {**environment, "ZHICHAO_WEIGHING_DATABASE_URL": url})
    assert settings.require_client_certificate


def test_an_example_has_it() -> None:
    (container,) = deployment(site("140602"), "weighing").spec["containers"]
    assert site("140602").environment(container)[VARIABLE] == "true"


def test_whoever_dials_the_service_has_a_certificate_for_that(asking: Site) -> None:
    callers = [
        pod
        for pod in asking.pods
        for container in pod.containers()
        if "ZHICHAO_RELAY_WEIGHING_ADDRESS" in asking.environment(container)
    ]
    assert [pod.name for pod in callers] == ["Deployment/relay"]
    (container,) = callers[0].spec["containers"]
    files = mounted(callers[0], container)
    environment = asking.environment(container)
    assert files[environment["ZHICHAO_TLS_CERTIFICATE_FILE"]] == "tls.crt"
    assert files[environment["ZHICHAO_TLS_KEY_FILE"]] == "tls.key"
    (certificate,) = [one for one in asking.of_kind("Certificate") if one["metadata"]["name"] == "relay"]
    assert "client auth" in certificate["spec"]["usages"]


def test_the_kubelet_and_prometheus_are_asked_for_nothing(asking: Site) -> None:
    (container,) = deployment(asking, "weighing").spec["containers"]
    environment = asking.environment(container)
    asks = int(environment["ZHICHAO_WEIGHING_LISTEN"].rpartition(":")[2])
    probed = {container[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probed == {int(environment["ZHICHAO_WEIGHING_HEALTH_LISTEN"].rpartition(":")[2])}
    scraped = int(environment["ZHICHAO_WEIGHING_METRICS_LISTEN"].rpartition(":")[2])
    assert asks not in {*probed, scraped}


def test_the_component_says_what_it_is_for() -> None:
    guide = (Path(K8S).parents[1] / "docs" / "operate" / "kubernetes.md").read_text(encoding="utf-8")
    assert "`integrators-by-certificate`" in guide
