"""A page as users get it, with many methods, and a browser to read it with."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellular_bench.benchmark.schema.records import (
    Cost,
    DatasetIdentity,
    Environment,
    LabelScore,
    MethodIdentity,
    RunRecord,
    Score,
    SplitIdentity,
)
from cellular_bench.core.types import MetricSpec, Preprocessing
from cellular_bench.reports import build_report, write

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LABELS = (
    "beta", "alpha", "ductal", "acinar", "delta", "activated_stellate", "gamma", "endothelial",
    "quiescent_stellate", "macrophage", "mast", "epsilon", "schwann", "t_cell",
)  # fmt: skip
INTEGRATION = {
    "ilisi": "batch_correction", "kbet": "batch_correction", "graph_connectivity": "batch_correction",
    "pcr_comparison": "batch_correction", "bras": "batch_correction", "nmi_leiden": "bio_conservation",
    "ari_leiden": "bio_conservation", "silhouette_label": "bio_conservation", "clisi": "bio_conservation",
    "isolated_labels": "bio_conservation", "type_geometry": "structure", "state_kept": "structure",
}  # fmt: skip
ANNOTATION = {"accuracy": "annotation", "balanced_accuracy": "annotation", "f1_macro": "annotation"}
NOVELTY = {"auroc": "novelty", "auprc": "novelty", "fpr95": "novelty"}
TASK_METRICS = {"integration": INTEGRATION, "annotation": ANNOTATION, "novelty": NOVELTY}
NAMES = {"ilisi": "iLISI", "kbet": "kBET", "clisi": "cLISI", "auroc": "AUROC", "bras": "BRAS"}
#: Name, labels shown, control, quality.
METHODS = (
    ("PCA", "none", False, 0.45), ("Harmony", "none", False, 0.71), ("Scanorama", "none", False, 0.66),
    ("scVI", "none", False, 0.69), ("BBKNN", "none", False, 0.6), ("CELLULAR", "train", False, 0.84),
    ("scANVI", "train", False, 0.79), ("TOSICA", "train", False, 0.7), ("SciBet", "train", False, 0.62),
    ("scGen", "all", False, 0.8), ("Shuffled embedding", "none", True, 0.1),
    ("Perfect labels with jitter", "all", True, 0.95),
)  # fmt: skip
BOARDS = (
    ("integration", "baron_human", "Baron human pancreas", "leave_one_batch_out", 4, 4),
    ("integration", "one_donor", "One donor only", "kfold", 2, 1),
    ("annotation", "baron_human", "Baron human pancreas", "kfold", 5, 4),
    ("novelty", "baron_human", "Baron human pancreas", "unseen_label", 3, 4),
)
SETTINGS = (
    ("Harmony", Preprocessing(scale=True)),
    ("Harmony", Preprocessing(genes=500, scale=True)),
    ("Scanorama", Preprocessing(genes=500)),
)
ENVIRONMENT = Environment(
    python="3.11.7",
    platform="Linux-6.1-x86_64",
    cpu="Example CPU at 2.5 GHz",
    n_cpus=16,
    n_threads=1,
    packages={f"package-{i:02d}": f"1.{i}.0" for i in range(40)},
    git_commit="0123456789abcdef0123",
)


def _spec(metric_id: str, aspect: Any) -> MetricSpec:
    return MetricSpec(
        metric_id=metric_id,
        name=NAMES.get(metric_id, metric_id.replace("_", " ").capitalize()),
        aspect=aspect,
        function=lambda **arrays: 0.0,
        definition=f"What {metric_id} says about an embedding or a prediction, in a sentence or two.",
        minimum=-1.0 if metric_id.startswith("silhouette") else 0.0,
        higher_is_better=metric_id != "fpr95",
        doi="10.1038/s41592-021-01336-8",
    )


@pytest.fixture(scope="session")
def specs() -> dict[str, MetricSpec]:
    """Metrics of the three tasks."""
    pairs = {**INTEGRATION, **ANNOTATION, **NOVELTY}
    return {metric_id: _spec(metric_id, aspect) for metric_id, aspect in pairs.items()}


def _scores(task: str, quality: float, n_batches: int, rng: np.random.Generator) -> tuple[Score, ...]:
    scores = []
    for metric_id, aspect in TASK_METRICS[task].items():
        if n_batches == 1 and aspect == "structure":
            continue  # as in records from before there was such a score
        value: float | None = float(np.clip(quality + rng.normal(0, 0.06), 0, 1))
        reason = by = None
        if n_batches == 1 and metric_id in ("ilisi", "kbet", "pcr_comparison", "bras"):
            value, reason, by = None, "all cells are of one batch", "data"
        fields: Any = {"value": value, "reason": reason, "undefined_by": by}
        scores.append(Score(metric_id=metric_id, aspect=aspect, **fields))  # type: ignore[arg-type]
    return tuple(scores)


def _per_label(quality: float, rng: np.random.Generator) -> tuple[LabelScore, ...]:
    out = []
    for rank, label in enumerate(LABELS):
        f1 = float(np.clip(quality + 0.1 - 0.03 * rank + rng.normal(0, 0.05), 0, 1))
        undefined = label == "t_cell" and quality < 0.7
        value = None if undefined else f1
        support = 0 if undefined else max(1, 500 // (rank + 1) ** 2)
        out.append(
            LabelScore(
                label=label, support=support, n_predicted=support, precision=value, recall=value, f1=value
            )
        )
    return tuple(out)


def _record(
    board: tuple[Any, ...], method: tuple[Any, ...], split: int, seed: int, **changes: Any
) -> RunRecord:
    task, dataset_id, title, kind, _, n_batches = board
    name, labels, control, quality = method
    method_id = name.lower().replace(" ", "_")
    rng = np.random.default_rng([len(task), len(dataset_id), len(method_id), split, seed])
    fields: dict[str, Any] = {
        "run_id": f"{task}-{dataset_id}-{method_id}-{split}-{seed}",
        "suite_id": "core",
        "task": task,
        "method": MethodIdentity(
            method_id=method_id,
            name=name,
            version=1,
            labels=labels,
            is_control=control,
            inductive=labels == "train",
            is_reimplementation=name in ("SciBet", "TOSICA"),
            params={"n_latent": 50, "max_epochs": 400} if labels == "train" else {},
            doi="10.1038/s41592-019-0619-0",
            features="hvg",
            scaling="own" if name == "Scanorama" else "given",
        ),
        "dataset": DatasetIdentity(
            dataset_id=dataset_id, title=title, digest="ab12" * 16, n_obs=3607, n_vars=4000,
            n_batches=n_batches, n_labels=14, doi="10.1016/j.cels.2016.08.011", license="CC BY 4.0",
        ),
        "split": SplitIdentity(
            split_id=f"{kind}-{split}", kind=kind, digest=f"{split:04d}" * 16, n_train=2885, n_test=722,
            unseen_labels=("beta",) if kind == "unseen_label" else (), seed=0,
        ),
        "seed": seed,
        "status": "ok",
        "scores": _scores(task, quality, n_batches, rng),
        "per_label": _per_label(quality, rng) if task == "annotation" else (),
        "cost": Cost(
            wall_time_s=float(rng.uniform(0.5, 300)),
            cpu_time_s=float(rng.uniform(0.5, 300)),
            peak_rss_mib=float(rng.uniform(300, 4000)),
        ),
        "environment": ENVIRONMENT,
        "started_at": START,
        "finished_at": START + timedelta(minutes=3),
    }  # fmt: skip
    return RunRecord(**(fields | changes))


def _failing(board: tuple[Any, ...], name: str, split: int, seed: int) -> dict[str, Any]:
    """Give some runs an unhappy end."""
    lost: dict[str, Any] = {"scores": (), "per_label": (), "cost": None}
    if name == "BBKNN" and board[0] == "integration" and split == 1:
        log = 'Traceback (most recent call last):\n  File "<stdin>", line 1\nMemoryError: <b>& more</b>'
        return lost | {
            "status": "out_of_memory",
            "reason": "used 8,212 MiB, limit 8,000 MiB",
            "log_tail": log,
        }
    if name == "TOSICA" and board[0] == "annotation" and split == 0:
        return lost | {"status": "timeout", "reason": "ran past the limit of 3,600 s"}
    if name == "scVI" and board[0] == "annotation":
        return lost | {"status": "not_applicable", "reason": "the data set has no counts, which scvi reads"}
    return {}


@pytest.fixture(scope="session")
def records() -> list[RunRecord]:
    """Twelve methods on four boards, with failures and metrics that the data do not permit.

    The board of one donor has no score of structure, and so two weights to choose. Two methods of the first
    board were also run at other settings of the preprocessing.
    """
    found = []
    for board in BOARDS:
        for method in METHODS:
            for split in range(board[4]):
                for seed in range(2):
                    changes = _failing(board, method[0], split, seed)
                    found.append(_record(board, method, split, seed, **changes))
    return found + [
        _at_setting(record, setting)
        for record in found
        for name, setting in SETTINGS
        if record.method.name == name and record.dataset.dataset_id == BOARDS[0][1]
        if record.task == BOARDS[0][0]
    ]


def _at_setting(record: RunRecord, setting: Preprocessing) -> RunRecord:
    update = {"name": f"{record.method.name}, {setting.name}", "preprocessing": setting}
    method = record.method.model_copy(update=update)
    return record.model_copy(update={"run_id": f"{record.run_id}-{setting.name}", "method": method})


@pytest.fixture(scope="session")
def page_path(
    records: list[RunRecord], specs: dict[str, MetricSpec], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The page of those runs."""
    out = tmp_path_factory.mktemp("report")
    title = "Core suite: integration, annotation and novelty"
    return write(build_report(records, specs, title=title), out)[0]


@pytest.fixture(scope="session")
def open_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Start headless Chromium with a fresh profile; skip where it or its driver is absent."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs chromium and chromedriver on the PATH; install both to run the browser tests")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    started = []

    def start(*flags: str) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        profile = tmp_path_factory.mktemp("profile")
        for flag in (
            "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
            "disable-component-update", "disable-sync", "disable-quic", f"user-data-dir={profile}", *flags,
        ):  # fmt: skip
            options.add_argument(f"--{flag}")
        started.append(webdriver.Chrome(options=options, service=Service(driver)))
        started[-1].get("about:blank")  # its page of new tabs would go on loading
        return started[-1]

    yield start
    for browser_process in started:
        browser_process.quit()


@pytest.fixture(scope="module")
def browser(open_browser: Callable[..., Any], wait_for: Callable[..., None]) -> Any:
    """One browser for all tests of this file; on a busy machine its driver is done before the page is."""
    driver = open_browser()
    go = driver.get

    def get(url: str) -> None:
        go(url)
        wait_for(lambda: driver.execute_script("return document.readyState") == "complete", seconds=60)

    driver.get = get
    return driver
