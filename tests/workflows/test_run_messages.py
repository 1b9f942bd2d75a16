"""Notes at the end of a run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cellular_bench.benchmark.schema.records import Evaluation, Shortcut
from cellular_bench.workflows.run import notes

SHORTCUT = Shortcut(quantity="cells", description="Of a sample.", metric_ids=("leiden_nmi",))


def _record(profile, *shortcuts):
    return SimpleNamespace(evaluation=Evaluation(profile=profile, shortcuts=shortcuts), scores=())


@pytest.mark.parametrize(
    ("records", "profile", "expected"),
    [
        ([_record("fast", SHORTCUT)] * 2 + [_record("fast")], "full", "2 runs keep approximate scores"),
        ([_record("fast", SHORTCUT)], "fast", None),
        ([_record("full")], "fast", None),
        ([SimpleNamespace(evaluation=None, scores=())], "full", None),
    ],
)
def test_kept_scores_that_are_less_exact_than_asked_for_are_named(records, profile, expected):
    planned = SimpleNamespace(suite=SimpleNamespace(profile=profile), runs=())
    found = list(notes(planned, records, Path("out")))
    assert len(found) == (expected is not None)
    for note in found:
        assert note.startswith(expected)
        assert "run-benchmark rescore out --profile full" in note
