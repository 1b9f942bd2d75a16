"""Write the cost of each method on Baron and PBMC into ``docs/methods/costs.csv``, which the site shows.

``python benchmarks/method_costs.py runs RESULTS...`` uses the runs of result folders with a method's default
parameters and its own choice of genes, on all cells of the data, without stress.
``python benchmarks/method_costs.py rates --data FILE METHOD...`` is for methods that train for hours. It
trains them for a few epochs on all cells of an h5ad file and multiplies the time of an epoch.

A row replaces an older one of the same method and data. Rows that neither command can produce (TOSICA,
MixMatch on PBMC, scGen on Baron) are entered by hand; ``how`` states their source. CPU time is the mean over
runs of fit, embed and predict. Memory is the maximum over runs, including libraries and data. One thread is
used.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

from cellular_bench.benchmark import registry
from cellular_bench.results import Results

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods" / "costs.csv"
DATA = {"baron": "Baron", "pbmc_multistudy": "PBMC"}
COLUMNS = (
    "method_id", "data", "task", "n_train", "n_test", "n_vars", "cpu_time_s", "peak_rss_mib", "n_runs", "how",
    "measured",
)  # fmt: skip
MEASURED = "whole runs"
#: Parameter for the epochs -> default number. None in scvi-tools means 400 for up to 20,000 cells.
EPOCHS = {
    "scvi": {"max_epochs": 400},
    "scanvi": {"max_epochs": 400, "label_epochs": 20},
    "sysvi": {"max_epochs": 400},
    "drvi": {"max_epochs": 400},
    "scgen": {"max_epochs": 100},
}


#: Cells times epochs that are enough to separate the time of an epoch from that of imports.
TIMED_CELLS = 60_000


def costs_of_runs(folders):
    """Yield a row per method and data."""
    found = defaultdict(list)
    for folder in folders:
        for run in Results(folder).records:
            if run.status == "ok" and run.dataset.dataset_id in DATA and is_plain(run):
                found[run.method.method_id, run.dataset.dataset_id, run.task, run.split.kind].append(run)
    for (method_id, dataset_id, task, _), runs in found.items():
        yield {
            "method_id": method_id,
            "data": DATA[dataset_id],
            "task": task,
            "n_train": round(mean(run.split.n_train for run in runs)),
            "n_test": round(mean(run.split.n_test for run in runs)),
            "n_vars": runs[0].dataset.n_vars,
            "cpu_time_s": round(mean(run.cost.cpu_time_s for run in runs), 2),
            "peak_rss_mib": round(max(run.cost.peak_rss_mib for run in runs)),
            "n_runs": len(runs),
            "how": MEASURED,
            "measured": max(run.finished_at for run in runs).date().isoformat(),
        }


def is_plain(run):
    method = registry.method(run.method.method_id)
    needed = set(method.spec.needs_params) | {"gene_sets"}
    params = {name: value for name, value in run.method.params.items() if name not in needed}
    defaults = {name: value for name, value in method.defaults.items() if name not in needed}
    whole = run.dataset.subsample is None and run.split.stress is None
    plain = json.dumps(params, sort_keys=True) == json.dumps(defaults, sort_keys=True)
    return plain and run.method.features == method.spec.features and whole


def cost_by_rate(method_id, path, keys):
    """Return a row extrapolated from a few epochs: the time of one epoch of each kind times their number."""
    epochs = EPOCHS[method_id]
    once = dict.fromkeys(epochs, 1)
    first = timed(method_id, path, keys, once)
    seconds, peak = first["cpu_time_s"], first["peak_rss_mib"]
    extra = TIMED_CELLS // first["n_obs"]
    for kind, n in epochs.items():
        more = timed(method_id, path, keys, once | {kind: 1 + extra})
        seconds += (n - 1) * (more["cpu_time_s"] - first["cpu_time_s"]) / extra
        peak = max(peak, more["peak_rss_mib"])
    return {
        "method_id": method_id,
        "data": next(name for name in DATA.values() if name.lower() in path.name.lower()),
        "task": "integration",
        "n_train": first["n_obs"],
        "n_test": 0,
        "n_vars": first["n_vars"],
        "cpu_time_s": float(f"{seconds:.2g}"),
        "peak_rss_mib": round(peak),
        "n_runs": 0,
        "how": " + ".join(map(str, epochs.values())) + " epochs, by the time of one",
        "measured": datetime.now(UTC).date().isoformat(),
    }


def timed(method_id, path, keys, epochs):
    """Train in a separate process; return the time and memory, and the size of the data."""
    command = [sys.executable, __file__, "train", method_id, str(path), *keys, json.dumps(epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def train(method_id, path, label_key, batch_key, params):
    """Train on all cells, and print the time and memory."""
    from anchors import prepared

    from cellular_bench.core.genes import variable_genes

    adata = prepared(Path(path), label_key=label_key, batch_key=batch_key, scale="1e4")
    adata = adata[:, variable_genes(adata.X)].copy()
    start = time.process_time()
    registry.method(method_id).factory(**json.loads(params)).fit(adata)
    taken = {
        "cpu_time_s": time.process_time() - start,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
    }
    print(json.dumps(taken))


def written(rows):
    """Write rows into the table, replacing older ones of the same method, data and task."""
    with PAGE.open(encoding="utf-8", newline="") as file:
        kept = {row_key(row): row for row in csv.DictReader(file)}
    kept |= {row_key(row): row for row in rows}
    with PAGE.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(kept[key] for key in sorted(kept))


def row_key(row):
    return row["method_id"], row["data"], row["task"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ways = parser.add_subparsers(dest="way", required=True)
    runs = ways.add_parser("runs")
    runs.add_argument("folders", type=Path, nargs="+")
    rates = ways.add_parser("rates")
    rates.add_argument("--data", type=Path, required=True)
    rates.add_argument("--label-key", default="cell_type")
    rates.add_argument("--batch-key", default="batch")
    rates.add_argument("methods", choices=EPOCHS, nargs="+")
    one = ways.add_parser("train")
    for name in ("method_id", "path", "label_key", "batch_key", "params"):
        one.add_argument(name)
    asked = vars(parser.parse_args())
    way = asked.pop("way")
    if way == "train":
        train(**asked)
    elif way == "runs":
        written(costs_of_runs(asked["folders"]))
    else:
        for method_id in asked["methods"]:
            written([cost_by_rate(method_id, asked["data"], (asked["label_key"], asked["batch_key"]))])


if __name__ == "__main__":
    main()
