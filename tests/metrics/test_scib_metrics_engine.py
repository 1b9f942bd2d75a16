"""How what scib-metrics says is passed on; the library itself is run by slow tests."""

import sys

import pytest

from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.metrics import METRICS
from cellular_bench.metrics import scib_metrics_engine as engine


@pytest.fixture
def library(monkeypatch):
    """Stand in for the library: calls by the ids of our metrics."""

    def answer(calls):
        monkeypatch.setattr(engine, "find_spec", lambda name: object())
        monkeypatch.setattr(engine, "calls_for", lambda inputs: calls)
        return engine.score_with_scib_metrics({})

    return answer


def test_values_come_under_our_names(library):
    found = library({("bras",): lambda: 0.5, ("leiden_nmi", "leiden_ari"): lambda: {"nmi": 0.9, "ari": -0.1}})
    assert found == {"bras": 0.5, "leiden_nmi": 0.9, "leiden_ari": -0.1}


def test_a_failure_is_the_reason_of_its_metrics_alone(library):
    found = library({("kmeans_nmi", "kmeans_ari"): lambda: {}["x"], ("kbet",): lambda: 1})
    assert str(found["kmeans_ari"]) == "scib-metrics failed: KeyError: 'x'"
    assert isinstance(found["kmeans_nmi"], UndefinedError)
    assert found["kbet"] == 1.0


def test_what_is_no_number_is_no_value(library):
    found = library({("ilisi",): lambda: float("nan")})
    assert str(found["ilisi"]) == "scib-metrics returned nan"


def test_a_missing_embedding_from_before_is_told(library):
    found = library({("pcr_comparison",): lambda: engine.input_of({}, "X_pre")})
    assert "there is no 'X_pre'" in str(found["pcr_comparison"])


def test_what_the_library_says_goes_to_standard_error(library, capsys):
    def talkative():
        print("half done")
        return 0.25

    assert library({("bras",): talkative}) == {"bras": 0.25}
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "half done\n")


def test_an_absent_library_is_explained(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cellular-bench\[parity\]'"):
        engine.score_with_scib_metrics({})


@pytest.mark.slow  # importing the library takes longer than all other tests here
def test_every_name_is_that_of_a_metric():
    pytest.importorskip("scib_metrics")
    calls = engine.calls_for({"X_emb": [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]] * 10})
    assert {name for names in calls for name in names} < METRICS.keys()
    assert "scib_metrics" in sys.modules
