"""Measure the integration metrics and write ``docs/performance.md``.

``python benchmarks/metrics_table.py`` takes the measurements that ``.benchmarks`` lacks and writes the page;
``--again`` repeats all of them. Each measurement runs in a separate process on one core. The page reports
processor time, because other programs on the machine affect it much less than wall time.
"""

import argparse
import inspect
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CELLULAR_BENCH_SHARED", REPO.parent / "shared"))
KEPT = REPO / ".benchmarks" / "metrics.json"
PAGE = REPO / "docs" / "performance.md"
SIZES = (3_600, 13_500, 30_000, 100_000)
PEER_SIZES = (3_600,)
N_DIMS = 50
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
STAGES = {
    "neighbours and distance sums": ("shared_distances",),
    "kBET per label": ("kbet_per_label",),
    "Leiden, ten resolutions": ("leiden_clusters",),
    "graph": ("graph",),
    "perplexity search": ("neighbor_weights",),
    "k-means": ("kmeans_clusters",),
}


def data(n_obs):
    """Return cells of 14 labels in 6 batches; at 3,600 cells the pancreas embedding if it is available."""
    import numpy as np

    golden = SHARED / "golden" / "metrics_baron.npz"
    if n_obs == SIZES[0] and golden.is_file():
        arrays = np.load(golden)
        names = {"X_emb": "emb_harmony", "X_pre": "emb_pca", "label": "label", "batch": "batch"}
        return {name: arrays[key] for name, key in names.items()}
    rng = np.random.default_rng(0)
    label = rng.choice(14, n_obs, p=0.9 * rng.dirichlet(np.ones(14)) + 0.1 / 14)
    batch = np.where(label == 0, rng.integers(2, size=n_obs), rng.integers(6, size=n_obs))
    scale = 6 / np.sqrt(1 + np.arange(N_DIMS))
    X = (rng.normal(size=(14, N_DIMS))[label] + 0.45 * rng.normal(size=(n_obs, N_DIMS))) * scale
    X += 0.15 * rng.normal(size=(n_obs, 8)) @ rng.normal(size=(8, N_DIMS))
    X += 0.2 * rng.normal(size=(6, N_DIMS))[batch] * scale
    before = X + 0.3 * rng.normal(size=(6, N_DIMS))[batch] * scale
    names = {"label": label.astype(str), "batch": batch.astype(str)}
    return {"X_emb": X.astype(np.float32), "X_pre": before.astype(np.float32), **names}


def timed_stages():
    """Let the shared quantities of the engine, and kBET per label, record the seconds they take."""
    from dataclasses import replace

    from cellular_bench.metrics import METRICS, engine

    spent = {}

    def timed(name, function):
        @wraps(function)
        def call(*positional, **named):
            start = time.process_time()
            found = function(*positional, **named)
            spent[name] = spent.get(name, 0.0) + time.process_time() - start
            return found

        call.__signature__ = inspect.signature(function)
        return call

    for name, function in list(engine.DERIVED.items()):
        engine.DERIVED[name] = timed(name, function)
    spec = METRICS["kbet_per_label"]
    METRICS["kbet_per_label"] = replace(spec, function=timed("kbet_per_label", spec.function))
    return spent


def run_ours(inputs, *, profile="full", n_jobs=1):
    from cellular_bench.metrics import METRICS, evaluate

    needed = set(inputs) | {"neighbors"}
    ids = [
        name
        for name, spec in METRICS.items()
        if spec.aspect in ("bio_conservation", "batch_correction")
        and not spec.on_request
        and all(
            p.name in needed
            for p in inspect.signature(spec.function).parameters.values()
            if p.default is p.empty
        )
    ]
    return evaluate(ids, inputs, profile=profile, n_jobs=n_jobs)


def run_peer(inputs):
    """Compute the same metrics with scib-metrics, as its Benchmarker does, with its own neighbours."""
    import scib_metrics as peer
    from scib_metrics.nearest_neighbors import pynndescent

    X, label, batch = inputs["X_emb"], inputs["label"], inputs["batch"]
    near = pynndescent(X, n_neighbors=90, random_state=0, n_jobs=1)
    return {
        "silhouette_label": peer.silhouette_label(X, label),
        "silhouette_batch": peer.silhouette_batch(X, label, batch),
        "bras": peer.bras(X, label, batch),
        "isolated_labels": peer.isolated_labels(X, label, batch),
        "kmeans": peer.nmi_ari_cluster_labels_kmeans(X, label),
        "leiden": peer.nmi_ari_cluster_labels_leiden(near.subset_neighbors(n=15), label),
        "ilisi": peer.ilisi_knn(near, batch),
        "clisi": peer.clisi_knn(near, label),
        "kbet": peer.kbet(near.subset_neighbors(n=50), batch),
        "kbet_per_label": peer.kbet_per_label(near.subset_neighbors(n=50), batch, label),
        "graph_connectivity": peer.graph_connectivity(near.subset_neighbors(n=15), label),
        "pcr_comparison": peer.pcr_comparison(inputs["X_pre"], X, batch, categorical=True),
    }


def cpu_seconds():
    """Return the processor time of this process and its finished children."""
    return sum(os.times()[:4])


def measure(engine, n_obs, repeats, *, profile="full", n_jobs=1):
    """Evaluate in this process: the first evaluation is cold and includes imports, later ones are warm."""
    import numpy as np

    inputs = data(n_obs)
    rng = np.random.default_rng(1)
    times, walls, stages, shortcuts, spent = [], [], {}, [], None
    for repeat in range(repeats):
        if repeat:  # change the numbers
            noise = 1e-3 * rng.normal(size=inputs["X_emb"].shape)
            inputs["X_emb"] = (inputs["X_emb"] + noise).astype(np.float32)
        wall, start = time.perf_counter(), cpu_seconds()
        if engine == "ours":
            spent = timed_stages() if spent is None else spent
            spent.clear()
            found = run_ours(inputs, profile=profile, n_jobs=n_jobs)
            shortcuts = [shortcut.description for shortcut in found.shortcuts]
            stages = dict(spent)
        else:
            run_peer(inputs)
        times.append(cpu_seconds() - start)
        walls.append(time.perf_counter() - wall)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"engine": engine, "n_obs": n_obs, "cold": times[0], "cold_wall": walls[0], "peak_mib": peak}
    warm = {"warm": min(times[1:]), "warm_wall": min(walls[1:])} if repeats > 1 else {}
    return found | warm | {"stages": stages, "cells": len(inputs["label"]), "shortcuts": shortcuts}


def in_a_process(engine, n_obs, repeats):
    command = [
        sys.executable,
        __file__,
        "--measure",
        engine,
        "--sizes",
        str(n_obs),
        "--repeats",
        str(repeats),
    ]
    environment = os.environ | ONE_THREAD | {"PYTHONWARNINGS": "ignore"}
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def page(rows):
    """Return the page in Markdown."""
    ours = {row["n_obs"]: row for row in rows if row["engine"] == "ours"}
    peer = {row["n_obs"]: row for row in rows if row["engine"] == "peer"}
    lines = [
        INTRODUCTION.format(
            date=datetime.now(UTC).date(),
            machine=platform.machine(),
            python=platform.python_version(),
            share=sum(row["cold"] for row in rows) / sum(row["cold_wall"] for row in rows),
        ),
        "| cells | cold | warm | peak memory | scib-metrics cold | warm | peak memory | ratio cold | warm |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(row, peer.get(n_obs, {})) for n_obs, row in sorted(ours.items())]
    lines += ["", *_remarks(rows)]
    lines += [
        "",
        STAGES_TEXT,
        "| seconds | " + " | ".join(f"{row['cells']:,}" for row in _sorted(ours)) + " |",
    ]
    lines += ["| --- |" + " ---: |" * len(ours)]
    for stage, names in STAGES.items():
        lines.append(f"| {stage} | " + " | ".join(_stage(row, names) for row in _sorted(ours)) + " |")
    lines += [
        f"| all the rest | {' | '.join(_rest(row) for row in _sorted(ours))} |",
        "",
        LIMITS,
    ]
    return "\n".join(lines) + "\n"


def _sorted(rows):
    return [row for _, row in sorted(rows.items())]


def _seconds(row, key):
    return f"{row[key]:.1f} s" if key in row else "not measured"


def _memory(row):
    return f"{row['peak_mib']:.0f} MiB" if row else "not measured"


def _ratio(ours, peer, key):
    return f"{peer[key] / ours[key]:.0f}" if key in peer and key in ours else ""


def _row(ours, peer):
    cells = [f"{ours['cells']:,}", _seconds(ours, "cold"), _seconds(ours, "warm"), _memory(ours)]
    cells += [_seconds(peer, "cold"), _seconds(peer, "warm"), _memory(peer)]
    return "| " + " | ".join([*cells, _ratio(ours, peer, "cold"), _ratio(ours, peer, "warm")]) + " |"


def _stage(row, names):
    return f"{sum(row['stages'].get(name, 0.0) for name in names):.2f}"


def _rest(row):
    last = row.get("warm_last", row.get("warm", row["cold"]))
    named = sum(row["stages"].get(name, 0.0) for names in STAGES.values() for name in names)
    return f"{max(0.0, last - named):.2f}"


def _remarks(rows):
    """Return the remarks that were added by hand to measurements made earlier or under other conditions."""
    names = {"ours": "ours", "peer": "scib-metrics"}
    noted = [row for row in rows if "remark" in row]
    return [f"- {names[row['engine']]}, {row['cells']:,} cells: {row['remark']}" for row in noted]


INTRODUCTION = """# Speed of the integration metrics

Written by `python benchmarks/metrics_table.py` on {date}, on one core of {machine}, Python {python}.
Do not edit: change the script and run it again.

The table shows the time to compute all metrics of one embedding with 50 dimensions, from arrays in memory.
*Cold* is the first evaluation in a process and includes importing the libraries. Compiled kernels are loaded
from the disk; only the very first process after installation compiles them, which takes about half a minute.
*Warm* is a later evaluation in the same process, the fastest if there were several. Times are processor time
of one thread. They are longer on a busy machine, because programs share the caches; here each process had
{share:.0%} of a core. At 3,600 cells the data are human pancreas, integrated by Harmony. Larger data are
simulated, with 14 labels and 6 batches. scib-metrics 0.5 computes the metrics that it shares with us, and
finds the neighbours itself.
"""

STAGES_TEXT = """## Time by stage

Seconds of the last evaluation in the process (warm if there was more than one), by stage.
"""

LIMITS = """`run-benchmark score --jobs 1` on an npz of four embeddings of 3,607 cells took 6.2 s of processor
time in total, including libraries and tables, on 2026-11-25 (36 s of wall time, at a load of 40).

scib 1.1.7 took 72 s of processor time for the embedding of 3,607 cells, including imports, but without
kBET (which needs R) and without the cell cycle (one run on one core, 2026-11-25; its program for LISI
was recompiled). Our implementation of the same ten metrics takes 1.7 s in a cold process (median of
three): 42 times less. Without imports it is 0.64 s instead of 63 s: 99 times less.

One million cells (simulated as above) in the profile `fast` with two jobs took **390 s of wall time**,
529 s of processor time and 5.9 GB (2026-11-25, one run on an idle machine with two cores). Finding the
neighbours and the silhouettes of the sample took 295 s (recall 95.4 %), k-means 24 s. At that time,
labels were sorted as text for each standard error, which is no longer the case. To repeat it: `python
benchmarks/metrics_table.py --measure ours --sizes 1000000 --repeats 1 --profile fast --n-jobs 2`.

## Lower bounds

An exact method needs at least one matrix product for all pairs of cells, one square root for each pair,
and one comparison with each cell's farthest known neighbour. We compute each pair once and use it for
both cells. With 50 dimensions, the product needs 104 operations per pair. At about 38 GFLOP/s in single
precision, that is 1.2 s for 30,000 cells on this machine, plus 0.2 s for the square roots. The rest of
the time goes into selecting the nearest 91. Most comparisons fail and are vectorised. But each cell
still accepts hundreds of candidates and discards most of them again, which takes about 30 microseconds
per cell.

Leiden is igraph's implementation with Python's random numbers, so the communities equal those of
scib-metrics. Each edge is passed once with double weight instead of twice. This changes no community
and saves a third of the time.

kBET per label needs 100 eigenvectors of each label's matrix. ARPACK computes them in single precision,
on a cubic Chebyshev polynomial of the matrix, and a Rayleigh quotient in double precision gives the
eigenvalues. On ten labels of 970 to 8,600 cells, this gave the same values in 0.6 times the time,
measured side by side: 4.2 s instead of 6.8 s. An earlier attempt, subspace iteration with a filter of
high degree, took 0.9 to 4 times as long as ARPACK in double precision.

Leiden is slowed down most by other programs: its ten searches on 30,000 cells took 4.2 s on an idle
machine, 6.4 s next to one other program, and 7.9 s at a load of 26, because its data no longer stay in
the cache. It is now the largest part.

Newton's method finds the width of LISI's kernel in three to four steps per cell, in a fifth of the time
of bisection.

## When to use approximate neighbours

`profile="full"` is exact. Above 100,000 cells, `fast` uses approximate neighbours, averages silhouettes
over a sample of 5,000 cells, and runs Leiden and kBET per label on 100,000 cells only, because these
two took two thirds of an evaluation of a million cells. `standard`, the default of `run` and `score`,
is approximate above 500,000 cells and samples 20,000.

We measured four ways to find 91 approximate neighbours of 100,000 cells on one thread of a busy
machine, in processor time. The exact computation takes 31 s and also gives the sums of distances:

| | seconds | recall |
| --- | ---: | ---: |
| nearest-neighbour descent (pynndescent), including about 50 s of compilation | 131 | 0.9998 |
| inverted file (faiss, 316 lists), 32 lists per cell | 30 | 0.994 |
| 158 lists from faiss, each compared by `faiss.knn` with the 32 nearest | 32 | 0.997 |
| 158 lists from faiss, each compared by our own code with the 32 nearest | 11 | 1.0000 |

We use the last one. It computes each pair once for both cells and processes several pairs of lists in
parallel. Unlike nearest-neighbour descent with several threads, its result does not depend on the
number of threads. Each evaluation measures the recall on 500 cells and records it. The recall depends
on the data: more neighbours are missed among cells without any structure."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--peer-sizes", type=int, nargs="*", default=PEER_SIZES)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="repeat all measurements")
    parser.add_argument("--measure", choices=["ours", "peer"], help="measure one size in this process")
    parser.add_argument("--profile", default="full", help="for --measure ours")
    parser.add_argument("--n-jobs", type=int, default=1, help="for --measure ours")
    options = parser.parse_args()
    if options.measure:
        how = {"profile": options.profile, "n_jobs": options.n_jobs}
        print(json.dumps(measure(options.measure, options.sizes[0], options.repeats, **how)))
        return
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    wanted = [("ours", n) for n in options.sizes] + [("peer", n) for n in options.peer_sizes]
    KEPT.parent.mkdir(exist_ok=True)
    for engine, n_obs in wanted:
        if options.again or f"{engine} {n_obs}" not in kept:
            kept[f"{engine} {n_obs}"] = in_a_process(engine, n_obs, options.repeats)
            KEPT.write_text(json.dumps(kept, indent=1))
    PAGE.write_text(page(list(kept.values())), encoding="utf-8")


if __name__ == "__main__":
    main()
