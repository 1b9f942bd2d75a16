"""Listing and help are quick because they load nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "scanpy", "scvi", "anndata", "jax", "sklearn", "pandas", "matplotlib")
PROBE = """
import sys
from cellular_bench.cli import group
group.main({arguments!r}, standalone_mode=False)
print("LOADED", *[name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list", "methods"],
        ["list", "metrics"],
        ["list", "datasets"],
        ["list", "suites", "--format", "json"],
    ],
    ids=" ".join,
)
def test_listing_and_help_load_nothing_heavy(arguments: list[str]) -> None:
    code = PROBE.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
