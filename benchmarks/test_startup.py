"""How long a command takes that only shows something.

``pytest -s benchmarks/test_startup.py`` prints the processor time of each, the best of five, and asserts its
ratio to that of an interpreter that imports numpy, which holds on any machine.
"""

import resource
import subprocess
import sys

import pytest

MAIN = "from cellular_bench.cli import main; main()"


def seconds(code: str, *arguments: str) -> float:
    """Return the least processor time of five processes."""
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


@pytest.mark.parametrize(
    ("command", "most"),
    [("--help", 1.5), ("list methods", 4), ("list metrics", 4), ("list datasets", 4), ("list suites", 4)],
)
def test_what_only_shows_something_starts_quickly(command: str, most: float) -> None:
    numpy, ours = seconds("import numpy"), seconds(MAIN, *command.split())
    print(
        f"run-benchmark {command}: {ours:.2f} s, {ours / numpy:.1f} times the import of numpy ({numpy:.2f} s)"
    )
    assert ours < most * numpy
