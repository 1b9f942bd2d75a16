"""The examples in docstrings run and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "cellular_bench"


def with_examples() -> list[str]:
    """Return the name of every module of the package whose text holds an example."""
    folders = [ROOT, *(path for path in sorted(ROOT.iterdir()) if path.is_dir())]
    found = []
    for folder in folders:
        real = folder.resolve()
        for path in sorted(real.glob("*.py") if folder == ROOT else real.rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                place = folder.relative_to(ROOT) / path.relative_to(real).with_suffix("")
                found.append(".".join(part for part in place.parts if part != "__init__"))
    return found


@pytest.mark.parametrize("name", with_examples())
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"cellular_bench.{name}")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
