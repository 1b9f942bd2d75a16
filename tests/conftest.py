"""Fixtures for every test."""

import os
from pathlib import Path

import pytest

# Before numpy or torch are imported anywhere: one compute thread per process, as in a run.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference data and golden numbers; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CELLULAR_BENCH_SHARED", REPO.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("reference data not found; set CELLULAR_BENCH_SHARED to the folder that holds them")
    return folder
