"""Measure the effect of each difference between the presets of CELLULAR, and of tuning the classifier.

``python benchmarks/cellular_table.py --data baron_human_pancreas.h5ad`` reads cells with counts in ``X``,
``obs["cell_type"]`` and ``obs["batch"]`` and prepares them as the study did (genes in at least 20 cells, its
normalisation, ``StratifiedKFold(5, shuffle=True, random_state=42)``). In the folder ``--keep`` it appends one
line of JSON per fold and variant to ``results.jsonl``, and saves the models whose encoder several variants
share. Existing results are not computed again. Finally it prints the means as a Markdown table.
"""

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from anchors import prepared, study_folds

#: For each variant, the settings of its encoder and those of its classifier.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "softmax_before_loss": ({}, {"softmax_before_loss": True}),
    "warmup_from_zero": ({"warmup_from_zero": True}, {}),
    "validation weighs types": ({"validation_counts_cells": False}, {}),
    "tuned": ({}, {"n_trials": 100}),
    "tuned, study's widths": ({}, {"n_trials": 100, "tuning_widths": (64, 2048)}),
    "tuned, study's widths, no pruning": (
        {},
        {"n_trials": 100, "tuning_widths": (64, 2048), "prune_trials": False},
    ),
    "paper, not tuned": ({"preset": "paper", "n_trials": 0}, {}),
}
COLUMNS = ("silhouette", "accuracy", "balanced_accuracy", "f1_weighted", "validation_loss", "cpu_s")


def with_another_classifier(model, settings):
    """Return a model with the same encoder and no classifier yet."""
    other = copy.copy(model)
    other.progress = True
    other.settings = replace(model.settings, **settings)
    other._fitted = replace(model._fitted, classifier=None, classifier_history=None, classifier_settings=None)
    return other


def scores(model, test):
    """Return the scores of a fitted model on one fold; its classifier is trained here."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, silhouette_score

    start = time.process_time()
    predicted = model.predict(test)
    spent = time.process_time() - start
    known = test.obs["label"].astype(str).to_numpy()
    history = model.classifier_history
    return {
        "silhouette": (silhouette_score(model.embed(test), known) + 1) / 2,
        "accuracy": accuracy_score(known, predicted),
        "balanced_accuracy": balanced_accuracy_score(known, predicted),
        "f1_weighted": f1_score(known, predicted, average="weighted"),
        "validation_loss": history.epochs[history.best_epoch].validation["total"],
        "cpu_s": spent,
        "hidden": model._fitted.classifier_settings.hidden,
        "epochs": len(model.history.epochs),
        "best_epoch": model.history.best_epoch,
    }


def encoder(settings, cells, folder, *, seed):
    """Return a fitted model, from the disk if an earlier call saved it."""
    from cellular_bench.methods.cellular import Cellular

    if folder.is_dir():
        return Cellular.load(folder, device="cpu")
    start = time.process_time()
    model = Cellular(n_top_genes=2000, seed=seed, device="cpu", **settings)
    model.fit(cells, label_key="label", batch_key="batch")
    print(f"{folder.name}: {time.process_time() - start:.0f} s of processor time", flush=True)
    model.save(folder)
    return model


def measure(adata, fold, variants, *, seed, keep):
    """Train and score variants on one fold; variants with the same encoder share it."""
    train, test = (adata[rows] for rows in study_folds(adata)[fold - 1])
    for name in variants:
        of_encoder, of_classifier = VARIANTS[name]
        folder = keep / "-".join(
            [f"fold{fold}", f"seed{seed}", *(f"{key}={value}" for key, value in of_encoder.items())]
        )
        model = with_another_classifier(encoder(of_encoder, train, folder, seed=seed), of_classifier)
        result = {"fold": fold, "variant": name, "seed": seed, **scores(model, test)}
        with (keep / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


def results(keep):
    """Return the results so far."""
    file = keep / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def table(results):
    """Return the means over folds as Markdown, one line per variant."""
    lines = ["| variant | folds | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for name in VARIANTS:
        found = [result for result in results if result["variant"] == name]
        if found:
            means = [f"{np.mean([result[column] for result in found]):.4f}" for column in COLUMNS]
            runs = ", ".join(str(result["fold"]) for result in found)
            lines.append(f"| {name} | {runs} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="*", default=[1, 2, 3], choices=range(1, 6))
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(".benchmarks/cellular"))
    options = parser.parse_args()
    adata = prepared(options.data, label_key="cell_type", batch_key="batch", scale="mean")
    options.keep.mkdir(parents=True, exist_ok=True)
    for fold in options.folds:
        done = {r["variant"] for r in results(options.keep) if (r["fold"], r["seed"]) == (fold, options.seed)}
        wanted = [name for name in options.variants if name not in done]
        measure(adata, fold, wanted, seed=options.seed, keep=options.keep)
    print(table(results(options.keep)))


if __name__ == "__main__":
    main()
