"""A small result folder, worked out by hand: every kind of row that a report must tell apart."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports import write

EVIL = "<script>alert('x')</script>|a*b"
SPECS = {
    "ilisi": ("iLISI", "batch_correction"),
    "kbet": ("kBET", "batch_correction"),
    "ari": ("ARI", "bio_conservation"),
    "clisi": ("cLISI", "bio_conservation"),
    "accuracy": ("Accuracy", "annotation"),
    "auroc": ("AUROC", "novelty"),
}


@pytest.fixture(scope="session")
def specs() -> dict[str, MetricSpec]:
    """Metrics; ARI goes from -1 to 1."""
    fields: dict[str, Any] = {"function": float, "definition": "What <it> says.", "doi": "10.1000/xyz"}
    found = {}
    for metric_id, (name, aspect) in SPECS.items():
        least = -1.0 if metric_id == "ari" else 0.0
        given: dict[str, Any] = {"metric_id": metric_id, "name": name, "aspect": aspect, "minimum": least}
        found[metric_id] = MetricSpec(**(given | fields))
    return found


def _scores(values: Mapping[str, float | str]) -> list[dict[str, Any]]:
    """A text is a reason; its first word says what forbids the metric."""
    out = []
    for metric_id, value in values.items():
        score: dict[str, Any] = {"metric_id": metric_id, "aspect": SPECS[metric_id][1], "value": value}
        if isinstance(value, str):
            score |= {"value": None, "reason": value, "undefined_by": value.split()[0]}
        out.append(score)
    return out


@pytest.fixture(scope="session")
def make() -> Callable[..., RunRecord]:
    """Return a function that makes a run of a method on a split."""

    def record(name: str, split: int, values: Mapping[str, float | str], **changes: Any) -> RunRecord:
        method_id = "".join(filter(str.isalnum, name.lower()))[:12]
        method = {"method_id": method_id, "name": name, "version": 1, "params": {"k": 5, "alpha": 0.5}}
        method["inductive"] = True
        fields: dict[str, Any] = {
            "suite_id": "core",
            "task": "integration",
            "dataset": {
                "dataset_id": "toy", "title": "Toy & co", "digest": "f00d" * 16, "n_obs": 1200,
                "n_vars": 300, "n_batches": 2, "n_labels": 3, "doi": "https://doi.org/10.1000/toy",
            },
            "split": {
                "split_id": f"fold-{split}", "kind": "kfold", "digest": f"{split}" * 64,
                "n_train": 960, "n_test": 240, "seed": 7,
            },
            "seed": 3,
            "status": "ok",
            "scores": _scores(values),
            "cost": {"wall_time_s": 10.0 + split, "cpu_time_s": 8.0, "peak_rss_mib": 1500.0},
            "environment": {
                "python": "3.11.7", "platform": "Linux", "cpu": "a CPU", "n_cpus": 2, "n_threads": 1,
                "packages": {"numpy": "2.1.0"}, "git_commit": "c0ffee" * 6, "git_dirty": True,
            },
            "started_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
            "finished_at": datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        }  # fmt: skip
        fields |= {"method": method | changes.pop("method", {})} | changes
        fields["run_id"] = f"{fields['task']}-{method_id}-{split}"
        return RunRecord(**fields)

    return record


@pytest.fixture(scope="session")
def records(make: Callable[..., RunRecord]) -> list[RunRecord]:
    """Two splits of seven methods on an integration board; annotation and novelty boards of one run."""
    trained, control = {"labels": "train"}, {"is_control": True, "inductive": False}
    crash = {"status": "failed", "reason": "ValueError: <b>bad</b> | input", "log_tail": "a < b\nlast line"}
    no_cost = {"cost": None}
    found = []
    for split, up in enumerate((0.0, 0.2)):
        plain = {"ilisi": 0.5 + up, "kbet": 0.3 + up, "ari": 0.2, "clisi": 0.8}
        found += [
            make("Harmony", split, plain, method={"inductive": False}),
            make("PCA", split, {"ilisi": 0.1, "kbet": 0.1, "ari": 0.2, "clisi": 0.8}),
            make("CELLULAR", split, {"ilisi": 0.9, "kbet": 0.9, "ari": 0.8, "clisi": 0.9}, method=trained),
            make(EVIL, split, plain | {"kbet": "data only one batch"}),
            make("Flat", split, plain | {"clisi": "output all cells coincide"}),
            make("Shuffled", split, plain | {"clisi": 0.0}, method=control),
        ]
    found.append(make("Crasher", 0, {"ilisi": 0.99, "kbet": 0.99, "ari": 0.99, "clisi": 0.99}))
    found.append(make("Crasher", 1, {}, **crash, **no_cost))
    labels = [
        {"label": "alpha", "support": 30, "n_predicted": 31, "precision": 0.9, "recall": 0.8, "f1": 0.85},
        {"label": "rare <1>", "support": 0, "n_predicted": 0, "precision": None, "recall": None, "f1": None},
    ]
    found.append(make("SciBet", 0, {"accuracy": 0.91}, task="annotation", per_label=labels, method=trained))
    found.append(make("SciBet", 0, {"auroc": 0.75}, task="novelty", warnings=["slow | <i>"], method=trained))
    return found


@pytest.fixture(scope="session")
def report(
    records: list[RunRecord], specs: dict[str, MetricSpec], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder with the report of those runs."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    write(records, specs, out, title="Toy <results>")
    return out
