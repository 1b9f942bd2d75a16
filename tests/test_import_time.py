"""Listing and help are quick because of what they do not load."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "scanpy", "scvi", "anndata", "jax", "sklearn", "pandas", "scipy", "matplotlib")
PROBE = """
import sys
from cellular_bench.cli import group
group.main({arguments!r}, standalone_mode=False)
print("LOADED", *[name for name in {unwanted!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("--help", ("numpy", "pydantic", "rich", "cellular_bench.benchmark", "cellular_bench.cli.run")),
        ("run --help", ("rich",)),
        ("list methods", ("pydantic", "rich")),
        ("list metrics", ("pydantic", "rich")),
        ("list datasets", ("pydantic", "rich")),
        ("list suites", ("rich",)),
        ("datasets prepare --help", ("pydantic", "rich")),
        ("datasets list", ()),
    ],
)
def test_listing_and_help_load_nothing_heavy(command: str, more: tuple[str, ...]) -> None:
    code = PROBE.format(arguments=command.split(), unwanted=HEAVY + more)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"
