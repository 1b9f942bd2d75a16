"""Measure what canary embeddings gain on every metric and write ``metrics/data/fooled_by.csv``.

``python benchmarks/fooled_by.py`` measures the bundled pancreas (Baron);
``python benchmarks/fooled_by.py --kang kang_pbmc_ifnb.h5ad`` also 3,000 cells of Kang 2018 (GSE96583; batches
``batch``, types ``cell_type``). Lines of data that are not measured stay as they are. Takes minutes.
"""

import argparse
import csv
import tempfile
from pathlib import Path

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.fooled import fooled
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.results.store import Store
from cellular_bench.metrics import METRICS
from cellular_bench.metrics.fooled_by import FILE, KEYS
from cellular_bench.workflows.requests import RunRequest
from cellular_bench.workflows.run import run

SUITE = """title = "What fools which metric"
study_metrics = true
leak_canary = false
canaries = true
profile = "full"

[[blocks]]
task = "integration"
datasets = ["baron"]
methods = ["harmony"]
splits = ["all"]
"""
KANG = {"batch_key": "batch", "label_key": "cell_type", "subsample": 3000}


def measure(name, folder, **data):
    """Run the canaries on a data set; return a row per metric."""
    suite = folder / "fooled.toml"
    suite.write_text(SUITE, encoding="utf-8")
    run(RunRequest.of(suite=suite, out=folder / name, figures=False, **data))
    (board,) = build_boards(Store.open(folder / name).records(), METRICS.values())
    found = fooled(board)
    known = registry.built_in_canaries()
    titles = [known[row.method.method_id].canary for row in found.canaries]
    for metric_id, gains in found.metrics.items():
        values = {t: round(g, 4) + 0.0 for t, g in zip(titles, gains, strict=True) if g is not None}
        if values:
            yield {"data": name, "metric_id": metric_id, "version": METRICS[metric_id].version, **values}


def main():
    """Measure, and replace the lines of the data that were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kang", type=Path, help="h5ad file of Kang 2018 with counts in X")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(measure("Baron", Path(folder)))
        if given.kang is not None:
            rows += measure("Kang", Path(folder), adata=given.kang, **KANG)
    done = {row["data"] for row in rows}
    if FILE.exists():
        with FILE.open(encoding="utf-8", newline="") as file:
            rows += [row for row in csv.DictReader(file) if row["data"] not in done]
    order = list(METRICS)
    rows.sort(key=lambda row: (row["data"], order.index(row["metric_id"])))
    columns = [*KEYS, *(spec.canary for spec in registry.built_in_canaries().values())]
    with FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
