"""What the command line imports before it knows what to do."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "pandas", "scipy", "anndata", "torch", "cellular_bench.metrics")


@pytest.mark.parametrize(
    "module", ["cellular_bench", "cellular_bench.cli.run", "cellular_bench.benchmark.tasks"]
)
def test_help_needs_no_heavy_import(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
