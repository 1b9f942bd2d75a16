"""``run-benchmark list`` by name, and the cards of metrics."""

import json

import pytest

from cellular_bench.cli.listing import command
from cellular_bench.core.errors import UnknownNameError, UserError


@pytest.fixture
def listed(capsys):
    def run(*arguments: str) -> str:
        command.main(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_a_named_metric_shows_its_card(listed):
    text = listed("metrics", "mcc", "brier")
    assert text.index("### Matthews correlation (`mcc`)") < text.index("### Brier score (`brier`)")
    assert "- Range: -1 to 1; higher is better" in text
    assert "- Fooled by: comparison across data sets." in text
    assert ">>> brier(" in text


def test_the_document_is_what_is_printed(listed, repo):
    assert listed("metrics", "--format", "markdown") == (repo / "docs" / "metrics.md").read_text("utf-8")


def test_json_holds_the_card_of_each_metric(listed):
    for row in json.loads(listed("metrics", "--format", "json")):
        assert row["formula"], row
        assert row["fooled_by"], row
        assert row["example"].startswith(">>>"), row
        assert row["needs"], row


def test_other_kinds_can_be_named_too(listed):
    (row,) = json.loads(listed("methods", "harmony", "--format", "json"))
    assert row["method_id"] == "harmony"
    assert "simulated_small" in listed("datasets", "simulated_small")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("metrics", "acuracy", "Unknown metric 'acuracy'. Did you mean 'accuracy'"),
        ("datasets", "barom", "Unknown data set 'barom'. Did you mean 'baron'"),
    ],
)
def test_an_unknown_name_is_explained(listed, kind, name, message):
    with pytest.raises(UnknownNameError, match=message):
        listed(kind, name)


def test_only_metrics_have_cards(listed):
    with pytest.raises(UserError, match="--format markdown is for metrics"):
        listed("methods", "--format", "markdown")


def test_methods_tell_who_takes_unseen_cells_and_what_is_reimplemented(listed, monkeypatch):
    rows = {row["method_id"]: row for row in json.loads(listed("methods", "--format", "json"))}
    assert (rows["harmony"]["inductive"], rows["harmony"]["reimplementation"]) == (False, False)
    assert (rows["symphony"]["inductive"], rows["symphony"]["reimplementation"]) == (True, True)
    named = {name for name, row in rows.items() if row["needs_names"]}
    assert named == {"precomputed", "precomputed_classifier"}
    assert listed("methods", "precomputed").rstrip().endswith("ready; gets the names of cells")
    monkeypatch.setenv("COLUMNS", "160")
    shown = [line.split() for line in listed("methods", "harmony", "scibet").splitlines()[-2:]]
    assert shown[0] == ["harmony", "integration", "none", "no", "common", "ready"]
    assert shown[1][-4:] == ["common", "ready;", "reimplemented:", "equal"]
    assert rows["scibet"]["agreement"]["comparisons"][0]["agreement"] == [1.0, 1.0]
    assert rows["harmony"]["agreement"] is None
