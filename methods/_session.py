"""Run libraries reproducibly: seeded, silent, on one thread, without changes to global state."""

from __future__ import annotations

import importlib
import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

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
    """Import libraries and train networks with them: seeded, silent and on one thread.

    At these matrix sizes several threads spend their time waiting for each other, and they change the last
    digits of results. The global generators of Python, numpy and torch, the number of threads and the
    levels of loggers are restored at the end.
    """
    import torch

    threads = torch.get_num_threads()
    with warnings.catch_warnings(), unchanged_random_state(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for name in libraries:
            importlib.import_module(name)
        torch.set_num_threads(1)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the generator that the library reads
        torch.manual_seed(seed)
        try:
            with _silent():
                yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the global generators of Python and numpy at the end, even if a library seeds them."""
    state = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - the state to be restored
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)  # noqa: NPY002 - as above


@contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, which set initial weights and dropout, and restore them at the end."""
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def available_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _silent() -> Iterator[None]:
    """Restrict loggers to errors. Libraries set them up on import, so this must come after it."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
