"""Attacks through the command: its console shows no traceback of the harness, and nothing is left of it."""

import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from cellular_bench.benchmark.results.store import Store

PLUGINS = Path(__file__).parent / "plugins"
FEW = ("everything_removed", "not_applicable_without_words", "mute_error", "leaves_daemons")
MORE = (
    *("folder_as_answer", "pipe_as_answer", "unknown_status", "link_to_passwd", "no_file_may_grow"),
    *("closes_everything", "prints_no_text", "error_of_megabytes", "patched_os", "patched_harness"),
)
#: Says the first label; every metric of the harness has the value 1 where this is imported.
PATCHER = """
import numpy as np
from cellular_bench import MethodSpec, Prediction
from cellular_bench.metrics import METRICS

for spec in METRICS.values():
    object.__setattr__(spec, "function", lambda *args, **more: 1.0)


class Patcher:
    spec = MethodSpec(
        method_id="patcher", name="Patcher", tasks=("annotation",), labels="train", inductive=True
    )

    def __init__(self, *, seed=0):
        pass

    def fit(self, train):
        self.label = str(train.obs["label"].iloc[0])

    def predict(self, query):
        return Prediction(label_pred=np.full(query.n_obs, self.label))
"""


def run(
    program: list[str], tmp_path: Path, methods: tuple[str, ...], *options: str
) -> tuple[Store, subprocess.CompletedProcess[str]]:
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    command = [*program, "run", "--dataset", "simulated_small", "--task", "annotation", "--split", "all"]
    command += ["--plugin", str(PLUGINS / "vandals.py"), "--method", ",".join(methods), "--jobs", "2"]
    command += ["--out", str(out), "--seeds", "0", "--no-figures", "--no-leak-canary", *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=150,
        env={**os.environ, "TMPDIR": str(temporary), "TERM": "xterm-256color"},
    )
    return Store.open(out), done


def check_console(tmp_path: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode in {0, 1}, done.stderr
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", printed.replace("\r\n", "\n")), "for a terminal"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [one for one in psutil.process_iter() if str(tmp_path) in variables(one)] == []


def variables(process: psutil.Process) -> str:
    try:
        return process.environ().get("TMPDIR", "")
    except psutil.Error:
        return ""


@pytest.mark.parametrize(
    ("methods", "options"),
    [
        (FEW, ("--no-sandbox",)),
        pytest.param((*FEW, *MORE), (), marks=pytest.mark.slow),
        pytest.param((*FEW, *MORE), ("--no-sandbox",), marks=pytest.mark.slow),
    ],
    ids=["few", "many", "many without a sandbox"],
)
def test_attack_leaves_no_traceback_on_the_console(
    program: list[str], tmp_path: Path, methods: tuple[str, ...], options: tuple[str, ...]
) -> None:
    store, done = run(program, tmp_path, ("nearest_centroid", *methods), *options)
    check_console(tmp_path, done)
    ends = {one.method.method_id: one for one in store.records()}
    assert set(ends) == {"nearest_centroid", *methods}
    assert ends["nearest_centroid"].status == "ok"
    assert all(one.reason for one in ends.values() if one.status != "ok")


def test_attack_by_metrics_that_are_patched_at_import(program: list[str], tmp_path: Path) -> None:
    """By a method's module, which is imported in the process of the harness, too, but not where it scores."""
    plugin = tmp_path / "patcher.py"
    plugin.write_text(PATCHER)
    store, done = run(
        program, tmp_path, ("nearest_centroid", "random_label", "patcher"), "--plugin", str(plugin)
    )
    check_console(tmp_path, done)
    accuracy = {one.method.method_id: one.value("accuracy") for one in store.records()}
    assert accuracy["random_label"] < 0.6, "a patch gave every method 1.0"
    assert accuracy["patcher"] < 0.6, "nor did it give itself"
    assert set(accuracy) == {"nearest_centroid", "random_label", "patcher"}
