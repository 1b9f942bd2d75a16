"""What belongs to a release says the same as the code."""

import csv
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cellular_bench
from cellular_bench.benchmark.plan.installed import TESTED

WORKFLOW = "examples/github-actions/benchmark-my-method.yml"


def project(repo: Path) -> dict:
    return tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_citation_names_this_version_and_licence_and_nobody_invented(repo: Path) -> None:
    cited = yaml.safe_load((repo / "CITATION.cff").read_text("utf-8"))
    assert str(cited["version"]) == cellular_bench.__version__
    assert cited["license"] == project(repo)["license"]
    assert cited["title"] == project(repo)["name"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["authors"] == [{"name": "cellular-bench developers"}]


def test_the_table_of_supported_versions_is_that_of_the_package(repo: Path) -> None:
    text = (repo / "docs" / "support.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([<>=][^|]*?) \|", text, re.MULTILINE))
    assert rows.pop("Python") == project(repo)["requires-python"]
    assert len(rows) >= 5
    for name, versions in rows.items():
        assert f"{name}{versions}" in project(repo)["dependencies"]
    assert f"R, for the methods that need it | >={lowest_r(repo)} " in text


def exact(repo: Path, name: str) -> dict[str, str]:
    lines = (repo / name).read_text("utf-8").splitlines()
    pins = [line.partition(";")[0].split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pins}


def test_the_tested_versions_are_those_of_the_constraints(repo: Path) -> None:
    oldest, newest = (exact(repo, name) for name in ("constraints.txt", "constraints-latest.txt"))
    pythons = [line.rpartition(" ")[2] for line in project(repo)["classifiers"] if "Python :: 3." in line]
    expected = {"python": (pythons[0], pythons[-1])}
    for line in project(repo)["dependencies"]:
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        versions = [Version(pins[name]) for pins in (oldest, newest)]
        assert versions[0] <= versions[1], name
        assert all(wanted.specifier.contains(version) for version in versions), line
        expected[name] = tuple(f"{version.major}.{version.minor}" for version in versions)
    rows = list(csv.reader(TESTED.read_text("utf-8").splitlines()))[1:]
    assert rows == [[name, *expected[name]] for name in sorted(expected)]


def test_tox_tests_every_python_that_is_named(repo: Path) -> None:
    tox = (repo / "tox.ini").read_text("utf-8")
    for line in project(repo)["classifiers"]:
        if "Python :: 3." in line:
            assert f"py{line.rpartition(' ')[2].replace('.', '')}" in tox


def lowest_r(repo: Path) -> str:
    declared = tomllib.loads((repo / "methods" / "environments" / "seurat.toml").read_text("utf-8"))
    return declared["r"]["version"]


def test_what_the_security_notes_say_of_loading_is_so(repo: Path) -> None:
    """No pickle is read: neither by its module, nor through numpy or torch."""
    sources = [path for folder in ("benchmark", "methods", "metrics", "datasets", "reports")
               for path in (repo / folder).rglob("*.py")]  # fmt: skip
    text = {path: path.read_text("utf-8") for path in sources}
    assert len(text) > 150
    for path, source in text.items():
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b", source, re.MULTILINE), (
            path
        )
        for call in re.findall(r"(?:np|numpy)\.load\([^\n]*", source):
            assert "allow_pickle=False" in call, path
        for call in re.findall(r"torch\.load\([^\n]*", source):
            assert "weights_only=True" in call, path


def commands(repo: Path, dataset: str) -> list[list[str]]:
    """The commands of ours in the example workflow, as its shell would split them."""
    workflow = yaml.safe_load((repo / WORKFLOW).read_text("utf-8"))
    values = {**workflow["env"], "DATASET": dataset}
    found = []
    for step in workflow["jobs"]["benchmark"]["steps"]:
        for line in step.get("run", "").splitlines():
            if line.startswith("run-benchmark"):
                text = re.sub(r"\$([A-Z]+)", lambda name: str(values[name[1]]), line)
                found.append(shlex.split(text)[1:])
    return found


def test_the_example_workflow_is_safe_and_complete(repo: Path) -> None:
    text = (repo / WORKFLOW).read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow[True] == {"pull_request": None}  # YAML 1.1 reads the key `on` as a boolean
    assert workflow["permissions"] == {"contents": "read"}
    for step in workflow["jobs"]["benchmark"]["steps"]:
        assert "${{" not in step.get("run", ""), "text of a pull request in a shell line can be code"
    assert [words[0] for words in commands(repo, "baron")] == ["doctor", "check", "run", "run", "compare"]
    assert workflow["env"]["DATASET"] in json.dumps(
        [path.stem for path in (repo / "datasets/manifests").iterdir()]
    )


@pytest.mark.parametrize(("change", "code"), [(None, 0), ("worse", 1)])
def test_the_example_workflow_fails_where_a_method_got_worse(
    run_benchmark, repo: Path, tmp_path: Path, change: str | None, code: int
) -> None:
    assert run_benchmark("new", "method", "my_method", cwd=tmp_path).returncode == 0
    (tmp_path / "before").mkdir()
    method = tmp_path / "my_method.py"
    shutil.copy(method, tmp_path / "before")
    if change == "worse":
        good = "distance.argmin(axis=1)"
        assert good in method.read_text("utf-8")
        worse = method.read_text("utf-8").replace(good, "distance.argsort(axis=1)[:, 1]")
        method.write_text(worse, encoding="utf-8")
    *steps, compare = [words for words in commands(repo, "simulated_small") if words[0] != "check"]
    for words in steps:
        done = run_benchmark(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
    assert run_benchmark(*compare, cwd=tmp_path).returncode == code
    assert (tmp_path / "results/after/leaderboard.html").exists()
