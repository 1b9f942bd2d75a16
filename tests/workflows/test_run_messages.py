"""What ``run`` says at its end."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from cellular_bench.benchmark.schema.records import Evaluation, Shortcut
from cellular_bench.cli.run import _say_what_is_less_exact

SHORTCUT = Shortcut(quantity="cells", description="Of a sample.", metric_ids=("leiden_nmi",))


def _record(profile, *shortcuts):
    return SimpleNamespace(evaluation=Evaluation(profile=profile, shortcuts=shortcuts))


@pytest.mark.parametrize(
    ("records", "profile", "said"),
    [
        ([_record("fast", SHORTCUT)] * 2 + [_record("fast")], "full", "2 runs keep approximate scores"),
        ([_record("fast", SHORTCUT)], "fast", ""),
        ([_record("full")], "fast", ""),
        ([None, SimpleNamespace(evaluation=None)], "full", ""),
    ],
)
def test_kept_scores_that_are_less_exact_than_asked_for_are_named(records, profile, said):
    console = Console(file=StringIO(), width=200)
    _say_what_is_less_exact(records, profile, out=Path("out"), console=console)
    printed = console.file.getvalue()
    assert printed.startswith(said)
    assert ("run-benchmark rescore out --profile full" in printed) == bool(said)
