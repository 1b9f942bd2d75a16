"""Building and checking the documentation."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def docs(repo: Path) -> Path:
    """The folder of the documentation's sources."""
    return repo / "docs"
