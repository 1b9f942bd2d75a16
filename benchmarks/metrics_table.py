"""Measure the integration metrics and write ``docs/performance.md``.

``python benchmarks/metrics_table.py`` takes the measurements that ``.benchmarks`` lacks and writes the page,
except what follows the comment ``BY_HAND``; ``--again`` repeats all of them. Each measurement runs in a
separate process on one core. The page reports processor time, because other programs on the machine affect it
much less than wall time.
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
BY_HAND = "<!-- written by hand from here -->"
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


def in_a_process(engine, n_obs=SIZES[0], repeats=2):
    command = [sys.executable, __file__, "--measure", engine]
    command += ["--sizes", str(n_obs), "--repeats", str(repeats)]
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
Do not edit what is above the comment "written by hand": change the script and run it again.

The table shows the time to compute all metrics of one embedding with 50 dimensions, from arrays in memory.
*Cold* is the first evaluation in a process and includes importing the libraries. Compiled kernels are loaded
from the disk; only the very first process after installation compiles them, which takes about half a minute.
*Warm* is a later evaluation in the same process, the fastest if there were several. Times are processor time
of one thread. They are longer on a busy machine, because programs share the caches; here each process had
{share:.0%} of a core. At 3,600 cells the data are human pancreas, integrated by Harmony. Larger data are
simulated, with 14 labels and 6 batches. scib-metrics 0.6 computes the metrics that it shares with us, and
finds the neighbours itself.
"""

STAGES_TEXT = """## Time by stage

Seconds of the last evaluation in the process (warm if there was more than one), by stage.
"""


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
    _, _, by_hand = PAGE.read_text("utf-8").partition(BY_HAND)
    PAGE.write_text(page(list(kept.values())) + BY_HAND + by_hand, encoding="utf-8")


if __name__ == "__main__":
    main()
