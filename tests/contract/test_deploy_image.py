"""The image: what its Dockerfile promises, what the package in it holds, and the list of images for closed networks.

No container engine is needed; `tools/try_dockerfile.py` runs the build stage's commands, which needs a package index.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.contract.deployments import IMAGE, SITES, site
from tests.contract.documents import ROOT
from tools.try_dockerfile import LEFT_OUT, Instruction, stages

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"


@pytest.fixture(scope="module")
def parsed() -> list[list[Instruction]]:
    """Return the stages of the Dockerfile."""
    return stages(DOCKERFILE.read_text(encoding="utf-8"))


def of(stage: list[Instruction], name: str) -> list[str]:
    """Return the arguments of one kind of instruction."""
    return [argument for instruction, argument in stage if instruction == name]


@pytest.mark.skipif(sys.platform != "linux", reason="hadolint comes as a wheel for Linux only")
def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_both_stages_begin_with_the_image_that_is_given_by_digest(parsed: list[list[Instruction]]) -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")

    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE_IMAGE}", "${BASE_IMAGE}"]
    # No default: a digest that nobody chose is as good as a tag.
    assert re.findall(r"^ARG BASE_IMAGE.*", text, re.MULTILINE) == ["ARG BASE_IMAGE", "ARG BASE_IMAGE"]
    guard = next(argument for argument in of(parsed[0], "RUN") if "@sha256:" in argument)
    outcomes = [
        subprocess.run(
            ["/bin/sh", "-ec", guard], env={"BASE_IMAGE": image}, capture_output=True, check=False
        ).returncode
        for image in ("python:3.13-slim", f"python:3.13-slim@sha256:{0:064x}")
    ]
    assert outcomes == [1, 0]


def test_the_final_stage_runs_as_nobody_in_particular_and_builds_nothing(parsed: list[list[Instruction]]) -> None:
    build, final = parsed
    names = [name for name, _ in final]
    after_user = names[names.index("USER") + 1 :]

    assert of(final, "USER") == ["10001:10001"]
    assert not {"RUN", "COPY", "ADD"} & set(after_user)
    assert of(final, "ENTRYPOINT") == ['["python", "-m", "services"]']
    assert of(final, "COPY") == ["--from=build /opt/zhichao /opt/zhichao"]
    assert not [argument for argument in of(final, "RUN") if re.search(r"pip install|apt-get|apk ", argument)]
    assert len(of(build, "COPY")) >= 4


def test_users_of_image_and_manifests_are_the_same(parsed: list[list[Instruction]]) -> None:
    (user,) = of(parsed[1], "USER")
    ours = [pod for pod in site("141025").pods if any(one["image"].startswith(IMAGE) for one in pod.containers())]
    contexts = [pod.spec["securityContext"] for pod in ours]

    assert {f"{context['runAsUser']}:{context['runAsGroup']}" for context in contexts} == {user}


def test_everything_that_is_installed_is_locked_by_hash(parsed: list[list[Instruction]]) -> None:
    installs = [part.strip() for text in of(parsed[0], "RUN") for part in text.split("&&") if " install " in part]
    # Our own wheel, made just before: named by its file, and without anything that it depends on.
    locked = [part for part in installs if not part.endswith("install --no-deps /wheels/*.whl")]

    assert len(locked) == len(installs) - 1
    assert [part for part in locked if "--require-hashes" not in part or "--only-binary :all:" not in part] == []


def test_what_is_left_out_is_in_the_lock(parsed: list[list[Instruction]]) -> None:
    """A name that left the lock would stay in the Dockerfile for ever."""
    (left_out,) = re.findall(r"left_out='([^']+)'", " ".join(of(parsed[0], "RUN")))
    locked = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))

    assert set(left_out.split("|")) - locked == set()
    assert set(left_out.split("|")) >= LEFT_OUT


def test_what_is_copied_is_let_through_by_dockerignore(parsed: list[list[Instruction]]) -> None:
    copied = {source for argument in of(parsed[0], "COPY") for source in argument.split()[:-1]}
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()

    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_the_wheel_holds_all_that_services_need(tmp_path: Path) -> None:
    """Built like in the image, from what the Dockerfile copies, with the build backend of the environment."""
    source = tmp_path / "source"
    for name in ("services", "cli", "gen"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--wheel-dir", tmp_path, source],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(root).as_posix()
        for root, packages in ((source, ("services", "cli")), (source / "gen", ("zhichao",)))
        for package in packages
        for path in (root / package).rglob("*")
        if path.is_file()
    }

    assert held == expected
    assert {"services/registry/migrations/versions/0001_registry.py", "zhichao/weighing/v1/service_pb2.py"} <= held


def images() -> set[str]:
    """Return every image that a site names."""
    found = {container["image"] for name in SITES for pod in site(name).pods for container in pod.containers()}
    return found | {cluster["spec"]["imageName"] for name in SITES for cluster in site(name).of_kind("Cluster")}


def test_the_list_of_images_is_complete() -> None:
    listed = (ROOT / "deploy" / "images.txt").read_text(encoding="utf-8").splitlines()

    assert [line for line in listed if line and not line.startswith("#")] == sorted(images())
