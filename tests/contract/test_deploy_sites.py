"""Every site under deploy/k8s builds, and every document in it is one that Kubernetes and the operators understand."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.contract.deployments import K8S, SERVICES, SITES, Document, Site, build, site

VERSIONS = ("1.32", "1.37")
"""The oldest and the newest Kubernetes that the manifests are for (docs/operate/kubernetes.md)."""

CUSTOM: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text(encoding="utf-8"))


def kind_of(document: Document) -> str:
    return f"{document['apiVersion']}/{document['kind']}"


def problems(document: Document) -> list[str]:
    """Return what is wrong with a document, by the schemas of Kubernetes or by ours for operators."""
    name = f"{kind_of(document)} {document['metadata']['name']}"
    if kind_of(document) in CUSTOM:
        schema = CUSTOM[kind_of(document)] | {"definitions": CUSTOM["definitions"]}
        errors = jsonschema.Draft7Validator(schema).iter_errors(document["spec"])
        return [f"{name}: {error.json_path}: {error.message}" for error in errors]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name} in {version}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{name}: there is no such kind in Kubernetes {version}")
    return found


def check(built: Site) -> list[str]:
    return [problem for document in built.documents for problem in problems(document)]


def test_the_worked_examples_are_there() -> None:
    assert {"140000", "140600", "140602", "141000", "141025"} <= set(SITES)


@pytest.mark.parametrize("name", SITES)
def test_a_site_builds_and_is_valid(name: str) -> None:
    assert check(site(name)) == []


def test_the_check_finds_what_is_wrong() -> None:
    wrong = [
        {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "gone"}, "spec": {}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "misspelt"}, "spec": {"porst": []}},
        {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Database", "metadata": {"name": "short"}, "spec": {}},
    ]

    assert [bool(problems(document)) for document in wrong] == [True, True, True]


@pytest.mark.parametrize("name", SITES)
def test_nothing_is_there_twice(name: str) -> None:
    keys = [(kind_of(document), document["metadata"]["name"]) for document in site(name).documents]

    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize("name", SITES)
def test_all_of_a_site_is_in_its_namespace(name: str) -> None:
    cluster_wide = {"Namespace", "PriorityClass"}
    namespaces = {
        document["metadata"].get("namespace")
        for document in site(name).documents
        if document["kind"] not in cluster_wide
    }

    assert namespaces == site(name).names("Namespace") == {f"zhichao-{name}"}


@pytest.mark.parametrize("name", SITES)
def test_a_site_is_who_it_says_in_settings_and_certificates(name: str) -> None:
    (platform,) = [data for key, data in site(name).config_maps().items() if key.startswith("platform-")]
    certificates = [document["spec"] for document in site(name).of_kind("Certificate")]
    uris = {uri for certificate in certificates for uri in certificate.get("uris", [])}

    assert platform["ZHICHAO_PLATFORM"] == name
    assert uris == {f"spiffe://{platform['ZHICHAO_TRUST_DOMAIN']}/platform/{name}"}


@pytest.mark.parametrize("name", SITES)
def test_what_is_reached_by_a_name_has_it_in_its_certificate(name: str) -> None:
    """The upstream of one site is the relay of another one; own services are called by their Services' names."""
    names = {
        certificate["metadata"]["name"]: set(certificate["spec"]["dnsNames"])
        for certificate in site(name).of_kind("Certificate")
    }
    assert [service for service in names if service not in names[service]] == []
    upstream = [data for key, data in site(name).config_maps().items() if key.startswith("upstream-")]
    for settings in upstream:
        host, _, port = settings["ZHICHAO_RELAY_UPSTREAM"].rpartition(":")
        above = site(settings["ZHICHAO_RELAY_UPSTREAM_PLATFORM"])
        (relay,) = [entry for entry in above.of_kind("Certificate") if entry["metadata"]["name"] == "relay"]
        (peers,) = [entry for entry in above.of_kind("Service") if entry["metadata"]["name"] == "relay-peers"]

        assert host in relay["spec"]["dnsNames"]
        assert int(port) in [entry["port"] for entry in peers["spec"]["ports"]]


def test_a_new_county_is_one_small_folder(tmp_path: Path) -> None:
    """What the documents tell to do: copy a county, change its code, name and networks."""
    shutil.copytree(K8S / "sites" / "141025", tmp_path / "141024")
    lines = 0
    for path in (tmp_path / "141024").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8").replace("141025", "141024")
        # The copy of the test lies elsewhere; a real one needs no such change.
        text = re.sub(r"\.\./\.\./(?=levels|components)", f"{os.path.relpath(K8S, tmp_path / '141024')}/", text)
        path.write_text(text, encoding="utf-8")
        lines += len(text.splitlines())
    made = Site("141024", build(tmp_path / "141024"))

    assert check(made) == []
    assert made.names("Namespace") == {"zhichao-141024"}
    assert lines <= 60


def test_levels_and_components_that_no_example_uses_build_too(tmp_path: Path) -> None:
    """A county that stands alone, with certificates as files and the first credential's token."""
    up = os.path.relpath(K8S, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "namespace": "zhichao-141025",
                "resources": [f"{up}/levels/county"],
                "components": [f"{up}/components/postgres-outside", f"{up}/components/first-credential"],
                "configMapGenerator": [{"name": "platform", "literals": ["ZHICHAO_PLATFORM=141025"]}],
            }
        ),
        encoding="utf-8",
    )

    assert check(Site("alone", build(tmp_path))) == []


@pytest.mark.parametrize("name", SITES)
def test_every_service_runs_at_every_site(name: str) -> None:
    assert site(name).names("Deployment") == set(SERVICES)


def test_every_component_is_used_by_an_example_or_a_test() -> None:
    used = {
        component
        for name in SITES
        for component in re.findall(r"components/([\w-]+)", (K8S / "sites" / name / "kustomization.yaml").read_text())
    }
    of_levels = {
        component
        for path in (K8S / "levels").glob("*/kustomization.yaml")
        for component in re.findall(r"components/([\w-]+)", path.read_text(encoding="utf-8"))
    }

    assert {path.name for path in (K8S / "components").iterdir()} - used - of_levels == {"first-credential"}
