"""Benchmarks run one after the other, in one process: they measure."""

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Keep pytest-xdist from spreading them over the cores."""
    del config
    return 0
