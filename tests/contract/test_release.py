"""One release, one version: whatever names it says what pyproject.toml says, and the release before it is the one that
neighbours may still run.
"""

import importlib.metadata
import re
import shutil
from pathlib import Path

import pytest

from services.common.metrics import software_version
from services.relay.identity import Identity
from tests.contract.deployments import IMAGE, SITES, WITH_DATABASE, site
from tests.contract.documents import ROOT
from tests.journal.paper_log import signer_of
from tests.system.previous_release import RELEASE
from tools.release import NAMED, behind, dashed, files, in_step, version_of

VERSION = version_of()


def test_what_is_deployed_names_this_release() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in behind()} == set()


@pytest.mark.parametrize("form", NAMED)
def test_every_form_in_which_it_is_named_is_found(form: str) -> None:
    """A form that no file has any more would be kept in step for ever, and its successor would not."""
    assert any(NAMED[form].search(path.read_text(encoding="utf-8")) for path in files())


def test_nothing_that_is_deployed_names_this_release_in_another_form() -> None:
    """It would be left behind by the next release."""
    rest = {path: in_step(path.read_text(encoding="utf-8"), "") for path in files()}

    assert [path.name for path, text in rest.items() if VERSION in text or dashed(VERSION) in text] == []


def test_a_release_is_written_everywhere_by_one_command(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (tmp_path / "docs" / "operate").mkdir(parents=True)
    shutil.copy2(ROOT / "docs" / "operate" / "kubernetes.md", tmp_path / "docs" / "operate")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "12.34.56"\n', encoding="utf-8")

    changed = behind(tmp_path)
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")

    named = {path.relative_to(tmp_path).as_posix() for path in changed}
    assert behind(tmp_path) == {}
    assert {f"deploy/k8s/base/{service}/migration.yaml" for service in WITH_DATABASE} <= named
    assert {"deploy/images.txt", "deploy/Dockerfile", "docs/operate/kubernetes.md"} <= named
    assert "name: weighing-migrate-12-34-56" in changed[tmp_path / "deploy/k8s/base/weighing/migration.yaml"]


@pytest.mark.parametrize("name", SITES)
def test_every_site_runs_the_release_that_its_jobs_migrate_to(name: str) -> None:
    images = {container["image"] for pod in site(name).pods for container in pod.containers()}
    ours = {image for image in images if image.startswith(f"{IMAGE}:")}

    assert ours == {f"{IMAGE}:{VERSION}"}
    assert site(name).names("Job") == {f"{service}-migrate-{dashed(VERSION)}" for service in WITH_DATABASE}


def test_a_platform_says_the_release_that_it_runs() -> None:
    """In handshakes, metrics and traces; `zhichao --version` reads the same."""
    assert importlib.metadata.version("zhichao") == VERSION, "run make setup"
    assert software_version() == VERSION
    assert Identity.of("141025", signer_of("141025")).software_version == VERSION


def test_the_release_before_is_one_minor_release_older() -> None:
    """The one that tests/system/test_version_skew.py runs beside this one."""
    major, minor, _ = map(int, VERSION.split("."))
    before = tuple(map(int, RELEASE["version"].split(".")))

    assert before[:2] == (major, minor - 1)


def test_the_changelog_begins_with_this_release() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert headings[:2] == [VERSION, RELEASE["version"]]
