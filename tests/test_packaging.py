"""The package as it ships: one import name, every module and data file, nobody else's folders."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

FOLDERS = ["benchmark", "methods", "metrics", "datasets", "reports"]


def tracked(repo: Path, *places: str) -> list[str]:
    """Files that git knows."""
    command = ["git", "ls-files", *places]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True).stdout.splitlines()


def shipped(repo: Path) -> set[str]:
    """Every file that git tracks in the linked folders, by its name inside the package."""
    names = {
        name.removeprefix("src/cellular_bench/")
        for name in tracked(repo, *FOLDERS, "src/cellular_bench/*.py")
    }
    return {f"cellular_bench/{name}" for name in names if not name.endswith(".md")}


@pytest.fixture(scope="module")
def built(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source distribution, built from a copy: building writes beside the sources."""
    copy, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    for name in tracked(repo):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repo / name, copy / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def test_links_stay_inside_the_repository(repo: Path) -> None:
    for folder in FOLDERS:
        link = repo / "src" / "cellular_bench" / folder
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert link.resolve() == repo / folder


def test_datasets_is_a_namespace_folder_so_that_others_can_be_imported_from_here(repo: Path) -> None:
    assert not (repo / "datasets" / "__init__.py").exists()


@pytest.mark.wheel
def test_the_wheel_holds_every_module_and_data_file_and_nothing_outside_its_name(
    repo: Path, built: Path
) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert shipped(repo) <= names, sorted(shipped(repo) - names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cellular_bench"}
    assert {"cellular_bench/py.typed", "cellular_bench/api.py"} <= names


@pytest.mark.wheel
def test_the_wheel_says_what_it_is(built: Path) -> None:
    import cellular_bench

    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        parts = {name.rpartition("/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
        facts = wheel.read(parts["METADATA"]).decode()
        entries = wheel.read(parts["entry_points.txt"]).decode()
    assert "run-benchmark = cellular_bench.cli:main" in entries
    assert f"Version: {cellular_bench.__version__}" in facts.splitlines()
    assert "License-Expression: BSD-3-Clause" in facts.splitlines()
    assert "LICENSE" in parts
    assert "Provides-Extra: parquet" in facts.splitlines()


@pytest.mark.wheel
def test_the_wheel_stays_small(built: Path) -> None:
    assert next(built.glob("*.whl")).stat().st_size < 6_000_000


@pytest.mark.wheel
def test_the_source_distribution_holds_what_the_wheel_needs(repo: Path, built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in shipped(repo)} <= names
    # The first line of the README needs the constraints; the others belong to whoever builds from it.
    assert {
        "constraints.txt",
        "constraints-latest.txt",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "README.md",
    } <= names
    assert "notebooks/tour.ipynb" in names
    assert "examples/github-actions/benchmark-my-method.yml" in names


def test_version_comes_from_one_place() -> None:
    from importlib.metadata import version

    import cellular_bench

    assert version("cellular-bench") == cellular_bench.__version__
