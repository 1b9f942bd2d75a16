"""A session with a library that trains networks: silent, seeded, on one thread, and without traces."""

from __future__ import annotations

import importlib
import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from cellular_bench.methods._support import unchanged_random_state

_LOGGERS = (
    "concord",
    "drvi.scvi_tools_based",
    "jax",
    "lightning",
    "lightning.fabric",
    "lightning.pytorch",
    "scvi",
)


@contextmanager
def session(seed: int, libraries: Sequence[str] = ()) -> Iterator[None]:
    """Import libraries and train with them: silent, seeded and on one thread.

    Several threads wait for each other at matrices this small, and change the last digits. Generators of
    Python, numpy and torch, threads and levels of loggers are put back in the end.
    """
    import torch

    threads = torch.get_num_threads()
    with warnings.catch_warnings(), unchanged_random_state(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for name in libraries:
            importlib.import_module(name)
        torch.set_num_threads(1)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the generator that the library draws from
        torch.manual_seed(seed)
        try:
            with _silent():
                yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _silent() -> Iterator[None]:
    """Let loggers say errors only: they are set up when the libraries are imported, so this comes after."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
