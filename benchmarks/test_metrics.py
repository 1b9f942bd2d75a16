"""Time and memory of all integration metrics of an embedding, compared with scib-metrics if installed.

``pytest benchmarks/test_metrics.py`` measures processor time. Both sides run in separate processes and take
turns, so a busy machine slows both equally. ``benchmarks/metrics_table.py`` writes the figures to a page.
"""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("metrics_table.py")
N_OBS = 3_600
#: Required speed-up over scib-metrics in a cold and in a warm process, and share of its memory.
COLD, WARM, MEMORY = 25, 8, 1 / 4


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("metrics_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measure(script):
    return script.in_a_process


def test_warm_evaluation(benchmark, script):
    inputs = script.data(N_OBS)
    script.run_ours(inputs)
    found = benchmark.pedantic(script.run_ours, args=(inputs,), rounds=3)
    assert 0 < found["silhouette_label"] < 1


def test_time_grows_no_faster_than_the_pairs_of_cells(measure):
    measure("ours", repeats=1)  # compiles the kernels if they are not in the cache
    small, large = measure("ours", 3_600), measure("ours", 10_800)
    assert large["warm"] < 9 * small["warm"]
    assert large["peak_mib"] < 2 * small["peak_mib"]


@pytest.mark.skipif(importlib.util.find_spec("scib_metrics") is None, reason="scib-metrics is not installed")
def test_ratio_to_scib_metrics(measure):
    measure("ours", repeats=1)
    ours, peer, again = measure("ours", repeats=3), measure("peer"), measure("ours", repeats=3)
    for key, wanted in (("cold", COLD), ("warm", WARM)):
        ratio = peer[key] / ((ours[key] + again[key]) / 2)
        assert ratio > wanted, f"{key}: {ratio:.1f} times faster than scib-metrics; wanted {wanted}"
    assert ours["peak_mib"] < MEMORY * peer["peak_mib"]
