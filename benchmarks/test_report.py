"""Cost of the page: time and memory to write it, its size, and the time until it can be used.

``pytest benchmarks/test_report.py -m "slow or not slow" -s`` prints the measurements. The time to write the
page is the processor time of a separate process, including imports; memory is its peak resident memory. The
time of the browser is the processor time of the page's thread, so a busy machine has little effect.
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from cellular_bench.benchmark.schema.record_files import sharing
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports import build_report, write

pytestmark = pytest.mark.slow

SECONDS, MEGABYTES, PAGE_BYTES, INTERACTIVE_S = 10.0, 300, 4_000_000, 1.0
METRICS = [f"metric_{i}" for i in range(10)]
ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux",
    "cpu": "a CPU",
    "n_cpus": 2,
    "n_threads": 1,
    "packages": {f"package-{i}": "1.0" for i in range(40)},
}


def specs():
    """Half of the metrics of each aspect of integration."""
    return {
        name: MetricSpec(
            metric_id=name,
            name=name.capitalize(),
            aspect="batch_correction" if i < 5 else "bio_conservation",
            function=float,
            definition="What it says.",
        )
        for i, name in enumerate(METRICS)
    }


def records(n_methods, n_datasets, n_folds, n_seeds):
    """Records of every method on every fold of every data set with every seed; two methods are controls."""
    rng = np.random.default_rng(0)
    known = specs()
    now = datetime(2026, 3, 1, tzinfo=UTC).isoformat()
    for dataset in range(n_datasets):
        data = {
            "dataset_id": f"data_{dataset}",
            "title": f"Data set {dataset}",
            "digest": f"{dataset:04d}" * 16,
            "n_obs": 5000,
            "n_vars": 2000,
            "n_batches": 4,
            "n_labels": 12,
        }
        for method, fold, seed in product(range(n_methods), range(n_folds), range(n_seeds)):
            quality = 0.9 * method / n_methods + 0.05
            values = np.clip(quality + rng.normal(0, 0.03, len(METRICS)), 0, 1)
            yield RunRecord.model_validate(
                {
                    "run_id": f"{dataset}-{method}-{fold}-{seed}",
                    "suite_id": "grid",
                    "task": "integration",
                    "method": {
                        "method_id": f"method_{method}",
                        "name": f"Method {method}",
                        "version": 1,
                        "is_control": method in (0, n_methods - 1),
                        "params": {"n_latent": 50},
                    },
                    "dataset": data,
                    "split": {
                        "split_id": f"fold-{fold}",
                        "kind": "kfold",
                        "digest": f"{fold:02d}" * 32,
                        "n_train": 4000,
                        "n_test": 1000,
                    },
                    "seed": seed,
                    "status": "ok",
                    "scores": [
                        {"metric_id": name, "aspect": known[name].aspect, "value": float(value)}
                        for name, value in zip(METRICS, values, strict=True)
                    ],
                    "cost": {"wall_time_s": 10.0, "cpu_time_s": 9.0 + method, "peak_rss_mib": 900.0},
                    "environment": ENVIRONMENT,
                    "started_at": now,
                    "finished_at": now,
                }
            )


def measured(counts, out):
    """Write a page in a separate process; return its costs, without the creation of the records."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, counts), str(out)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_hundred_thousand_scores_become_a_page(tmp_path):
    found = measured((20, 10, 10, 5), tmp_path)
    print(found)
    assert found["n_scores"] == 100_000
    assert found["cpu_s"] < SECONDS
    assert found["peak_mb"] < MEGABYTES


def test_twenty_methods_on_ten_data_sets_are_a_page_of_four_megabytes(tmp_path):
    found = measured((20, 10, 5, 3), tmp_path)
    print(found)
    assert found["n_bytes"] < PAGE_BYTES


def test_the_page_can_be_used_within_a_second(tmp_path):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("needs chromium and chromedriver on the PATH")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    report = build_report(records(20, 10, 5, 3), specs(), title="Grid")
    page = write(report, tmp_path, formats=["html"])[0]
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        seconds = [_interactive(browser, page) for _ in range(5)]
    finally:
        browser.quit()
    print(seconds)
    assert statistics.median(seconds) < INTERACTIVE_S


def _interactive(browser, page):
    """Return the processor time of the page's thread until its script has run and a frame has been drawn."""
    browser.get("about:blank")
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    before = _task_seconds(browser)
    browser.get(page.as_uri())
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));"
    )
    return _task_seconds(browser) - before


def _task_seconds(browser):
    found = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(metric["value"] for metric in found if metric["name"] == "TaskDuration")


if __name__ == "__main__":
    *shape, folder = sys.argv[1:]
    runs = list(sharing(records(*map(int, shape))))  # as if read from a folder
    before = time.process_time()
    path = write(build_report(runs, specs(), title="Grid"), Path(folder), formats=["html"])[0]
    cost = {
        "n_scores": sum(len(run.scores) for run in runs),
        "cpu_s": round(time.process_time() - before, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "n_bytes": path.stat().st_size,
    }
    print(json.dumps(cost))
