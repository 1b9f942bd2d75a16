"""Small simulated data in the form in which methods get them."""

import pytest

from cellular_bench.benchmark.conformance import data


@pytest.fixture(scope="session")
def _example():
    return data.simulate()


@pytest.fixture
def train(_example):
    """240 cells of three types in two batches, in random order, with labels."""
    return _example.train.copy()


@pytest.fixture
def query(_example):
    """120 other cells, with labels."""
    return _example.query.copy()
