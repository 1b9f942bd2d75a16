"""Attacks on the harness, by methods: one run fails with its reason, the others have the scores they had."""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cellular_bench.benchmark.isolation import scratch

HERE = Path(__file__).parent
VANDALS = HERE / "plugins" / "vandals.py"
TABLE = tomllib.loads((HERE / "attacks.toml").read_text(encoding="utf-8"))["attack"]
ROWS = {row["method"]: row for row in TABLE if row["kind"] == "method against harness" and "method" in row}
#: The best way to keep methods apart, and the others.
KINDS = ("namespaces", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("landlock", "process")))
LIMITS = {"time_limit_s": 30, "memory_limit_mib": 4000}
SPLIT = {"kind": "reference_query", "reference": ["batch1"]}


@pytest.fixture(scope="module")
def harmed(attack: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Let all vandals run in a kind of isolation, once, between healthy methods."""
    known: dict[str, Any] = {}

    def run(kind: str) -> Any:
        if kind not in known:
            root = tmp_path_factory.mktemp("harm") / kind
            methods = ["nearest_centroid", "steady", *ROWS, "random_label"]
            known[kind] = attack(root, methods, VANDALS, kind=kind, split=SPLIT, **LIMITS)
        return known[kind]

    return run


@pytest.fixture(scope="module")
def calm(attack: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The healthy methods alone."""
    root = tmp_path_factory.mktemp("calm") / "out"
    methods = ["nearest_centroid", "steady", "random_label"]
    return attack(root, methods, VANDALS, kind="process", split=SPLIT, **LIMITS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ROWS)
def test_attack_on_the_harness(harmed: Callable[[str], Any], method: str, kind: str) -> None:
    done, row = harmed(kind), ROWS[method]
    (record,) = done.of(method)
    right = [row["status"]] if isinstance(row["status"], str) else row["status"]
    assert record.status in right, record.reason
    assert re.search(row.get("reason", ""), record.reason or ""), record.reason
    if record.status != "ok":
        assert 5 < len(record.reason) < 1000
        assert record.reason.isprintable()
    assert record.cost is None or (record.cost.wall_time_s >= 0 and (record.cost.cpu_time_s or 0) >= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_runs_have_the_scores_that_they_have_without(
    harmed: Callable[[str], Any], calm: Any, kind: str
) -> None:
    for method in ("nearest_centroid", "steady", "random_label"):
        (here,), (there,) = harmed(kind).of(method), calm.of(method)
        assert (here.status, here.scores) == ("ok", there.scores)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left(harmed: Callable[[str], Any], kind: str) -> None:
    store = harmed(kind).store
    assert [path.name for path in store.root.iterdir() if path.name in {"views", "working"}] == []
    assert {path.name for path in scratch.home().iterdir()} <= {".lock", *forkserver_folders()}
    assert list(left(scratch.home(), store.root)) == []
    for path in store.root.rglob("*"):
        assert not path.is_symlink()
        assert path.is_file() or path.is_dir()


def forkserver_folders() -> set[str]:
    """Names of the folder of the socket that runs are forked through."""
    return {path.name for path in scratch.home().glob("pymp-*")}


def left(*folders: Path) -> Iterator[psutil.Process]:
    """Yield living processes that work in folders of runs."""
    for process in psutil.process_iter():
        try:
            where = Path(process.cwd())
        except psutil.Error:
            continue
        if any(where.is_relative_to(folder) for folder in folders):
            yield process
