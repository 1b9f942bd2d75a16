"""The examples in the documentation of the modules run and give what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "catalog",
    "genes",
    "preprocess",
    "quality",
    "readers",
    "recipes",
    "simulator",
    "splits",
    "subsample",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(f"cellular_bench.datasets.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
