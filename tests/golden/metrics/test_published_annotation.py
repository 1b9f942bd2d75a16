"""The study's published scores, from its published predictions of single cells."""

import csv
import gzip
from collections import defaultdict

import pytest

from cellular_bench.metrics import accuracy, balanced_accuracy, f1_weighted, per_label

DATASETS = ("Baron", "Zheng68k")


def _method(path):
    return path.name.removesuffix("_output.csv.gz").lower()


@pytest.fixture(scope="module", params=DATASETS)
def scored(request, shared):
    """Pairs of (published row, true labels, predicted labels) for every method and fold."""
    folder = shared / "published" / "annotation"
    folds = defaultdict(lambda: ([], []))
    for path in sorted((folder / "predictions" / request.param).glob("*.csv.gz")):
        with gzip.open(path, "rt", newline="") as file:
            for row in csv.DictReader(file):
                true, predicted = folds[_method(path), int(float(row["fold"]))]
                true.append(row["true_label"])
                predicted.append(row["pred"])
    with (folder / "scores_per_fold.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == request.param]
    return [(row, *folds[row["method"].lower(), int(row["fold"])]) for row in rows]


def test_every_published_fold_comes_out_exactly(scored):
    assert len(scored) == 12 * 5
    for row, true, predicted in scored:
        for name, function in (
            ("accuracy", accuracy),
            ("balanced_accuracy", balanced_accuracy),
            ("f1_score", f1_weighted),
        ):
            ours = function(true, predicted)
            assert ours == pytest.approx(float(row[name]), abs=1e-12), (row["method"], row["fold"], name)


def test_figures_per_label_add_up_to_the_published_scores(scored):
    for row, true, predicted in scored:
        figures = [label for label in per_label(true, predicted) if label.support]
        recall = sum(label.recall for label in figures) / len(figures)
        assert recall == pytest.approx(float(row["balanced_accuracy"]), abs=1e-12)
