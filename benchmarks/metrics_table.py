"""Measure the integration metrics and write ``docs/performance.md``.

``python benchmarks/metrics_table.py`` measures what is missing in the measurements kept below
``.benchmarks`` and writes the page; ``--again`` measures anew. Every measurement is a process of its own
on one core. Seconds of processor time are given, which other programs on the machine change far less
than the clock's.
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
    """Return cells of 14 labels in 6 batches; at 3,600 the pancreas embedding if it is at hand."""
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
    """Make the engine's shared quantities, and kBET per label, add up their own seconds."""
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
    """Compute the same metrics as scib-metrics' own benchmark does, with its own neighbours."""
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
    """Return the processor time of this process and its ended children."""
    return sum(os.times()[:4])


def measure(engine, n_obs, repeats, *, profile="full", n_jobs=1):
    """Evaluate in this process: the first time is cold, imports included, later ones are warm."""
    import numpy as np

    inputs = data(n_obs)
    rng = np.random.default_rng(1)
    times, walls, stages, shortcuts, spent = [], [], {}, [], None
    for repeat in range(repeats):
        if repeat:  # not the same numbers again
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
    """Return what was noted by hand beside kept measurements: made earlier, or under other circumstances."""
    names = {"ours": "ours", "peer": "scib-metrics"}
    noted = [row for row in rows if "remark" in row]
    return [f"- {names[row['engine']]}, {row['cells']:,} cells: {row['remark']}" for row in noted]


INTRODUCTION = """# How fast the integration metrics are

Written by `python benchmarks/metrics_table.py` on {date}, on one core of {machine}, Python {python}.
Do not edit: change the script and run it again.

All metrics of one embedding of 50 dimensions, from arrays in memory. *Cold* is the first evaluation of a
process and counts the import of libraries; compiled kernels come from the disk, as in every process but the
very first after installation, which compiles for about half a minute. *Warm* is a later evaluation in the
same process, the quickest where there were several. Seconds are processor time of one thread; on a busy
machine they are longer than on an idle one, since caches are shared: here a process had {share:.0%} of a
core to itself. At 3,600 cells the data are human pancreas, integrated by Harmony; larger ones are simulated:
14 labels, 6 batches. scib-metrics 0.5 computes the metrics that it shares with us, and finds neighbours
itself.
"""

STAGES_TEXT = """## Where the time goes

Seconds of the last evaluation in the process (warm, where there was more than one), by stage.
"""

LIMITS = """`run-benchmark score --jobs 1` on an npz of four embeddings of 3,607 cells took 6.2 s of processor
time in all, libraries and tables included, on 2026-11-25 (36 s by the clock, at a load of 40).

scib 1.1.7 took 72 s of processor time for the embedding of 3,607 cells, imports included, without kBET,
for which it needs R, and without the cell cycle (one run on one core, 2026-11-25; its program for LISI
compiled anew). The same ten metrics of ours take 1.7 s in a cold process (median of three): 42 times
less. Without imports it is 63 s against 0.64 s, 99 times.

One million cells (simulated as above) in the profile `fast` with two jobs, on 2026-11-25, one run on an
idle machine of two cores: **390 s by the clock**, 529 s of processor time, 5.9 GB. The search of
neighbours and silhouettes of the sample took 295 s (recall 95.4 %), k-means 24 s. Labels were sorted as
text for each standard error, which they no longer are. To do so: `python benchmarks/metrics_table.py
--measure ours --sizes 1000000 --repeats 1 --profile fast --n-jobs 2`.

## Distance from the floors

No exact method can do less than one product of matrices for all pairs of cells, one square root for each,
and one comparison with each cell's farthest known neighbour. Each pair is computed once and serves both
cells. With 50 dimensions the product takes 104 operations a pair; at about 38 GFLOP/s in single precision
that is 1.2 s for 30,000 cells on this machine, and the square roots 0.2 s. What the pass takes beyond
that is the choice of the nearest 91: most comparisons fail and are made many at a time, but each cell
still takes hundreds of candidates in and throws most of them out again, which costs about 30 microseconds
a cell.

Leiden is igraph's, with Python's random numbers, so that communities equal those of scib-metrics; each edge
is given once with twice its weight instead of twice, which changes no community and takes a third off.

kBET per label needs 100 eigenvectors of each label's matrix. ARPACK searches them in single precision, on
a cubic Chebyshev polynomial of the matrix, and values come from a Rayleigh quotient in double precision.
On ten labels of 970 to 8,600 cells that gave the same values in 0.6 times the time: 4.2 s instead of 6.8
s, side by side. Subspace iteration with a filter of high degree was tried before: 0.9 to 4 times as long
as ARPACK in double precision.

Leiden suffers most from other programs: its ten searches at 30,000 cells took 4.2 s on an idle machine,
6.4 s with one other program, and 7.9 s at a load of 26, since what they read no longer stays in the
cache. It is the largest part now.

The width of LISI's kernel is found by Newton's steps, three to four a cell, in a fifth of the time of
bisection.

## When approximate neighbours pay

`profile="full"` is exact. `fast` is approximate above 100,000 cells, averages silhouettes over a sample
of 5,000 cells, and gives Leiden and kBET per label 100,000 cells only, since these two took two thirds of
an evaluation of a million; `standard`, which `run` and `score` choose, above 500,000 with a sample of
20,000.

Four ways to find 91 approximate neighbours of 100,000 cells were measured on one thread of a busy
machine, in processor time; the exact pass takes 31 s and gives the sums of distances besides:

| | seconds | recall |
| --- | ---: | ---: |
| nearest-neighbour descent (pynndescent), of which about 50 s compile | 131 | 0.9998 |
| inverted file (faiss, 316 lists), 32 lists per cell | 30 | 0.994 |
| 158 lists from faiss, each compared by `faiss.knn` with the 32 nearest | 32 | 0.997 |
| 158 lists from faiss, each compared by our own pass with the 32 nearest | 11 | 1.0000 |

The last one is used: it computes each pair once for both cells, several pairs of lists at a time, and its
result does not depend on their number, as that of descent on several threads does. The recall is measured
in each evaluation on 500 cells and recorded; it depends on the data: of cells without any structure more
are missed."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--peer-sizes", type=int, nargs="*", default=PEER_SIZES)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--measure", choices=["ours", "peer"], help="measure one size in this process")
    parser.add_argument("--profile", default="full", help="of --measure ours")
    parser.add_argument("--n-jobs", type=int, default=1, help="of --measure ours")
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
