"""Reference values of other people's code on four embeddings of human pancreas."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import METRICS, evaluate

EMBEDDINGS = ("pca", "harmony", "noise", "jittered_labels")


@dataclass(frozen=True)
class Reference:
    """One embedding, what we give for it, and what scib-metrics and scib give for it."""

    name: str
    inputs: dict[str, object]
    ours: dict[str, float | UndefinedError]
    scib_metrics: dict[str, float]
    scib: dict[str, float | None]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="session", params=EMBEDDINGS)
def reference(request: pytest.FixtureRequest, golden: Path) -> Reference:
    arrays = np.load(golden / "metrics_baron.npz", allow_pickle=False)
    inputs = {
        "X_emb": arrays[f"emb_{request.param}"],
        "X_pre": arrays["emb_pca"],
        "batch": arrays["batch"],
        "label": arrays["label"],
    }
    ids = [
        spec.metric_id
        for spec in METRICS.values()
        if spec.aspect in ("bio_conservation", "batch_correction")
        and not spec.on_request
        and spec.metric_id != "cell_cycle_conservation"
    ]
    return Reference(
        name=request.param,
        inputs=inputs,
        ours=evaluate(ids, inputs),
        scib_metrics=json.loads((golden / "metrics_baron.json").read_text())[request.param],
        scib=json.loads((golden / "scib_baron.json").read_text())[request.param],
    )
