"""The file of measured agreement with the originals, and what is shown of it."""

import csv

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis import fidelity
from cellular_bench.benchmark.analysis.fidelity import (
    DATA,
    DISTANCES,
    MEASURES,
    VERDICTS,
    Agreement,
    Comparison,
    agreement_of,
    agreement_of_run,
    agreements,
)
from cellular_bench.benchmark.plan.identity import method_identity


@pytest.fixture(scope="module")
def comparisons():
    return [one for agreement in agreements().values() for one in agreement.comparisons]


def comparison(**changes):
    given = {
        "method_id": "toy", "original": "toy 1.0", "data": "pbmc", "measure": "labels",
        "agreement": (0.9, 0.92), "original_agreement": (0.904, 0.904), "n_seeds": 3, "n_original_seeds": 2,
        "verdict": "within seeds", "why": "",
    }  # fmt: skip
    return Comparison(**{**given, **changes})


def test_every_reimplemented_method_says_how_far_it_agrees():
    specs = [spec for spec in registry.built_in_specs().values() if spec.is_reimplementation]
    assert len(specs) > 10
    assert [spec.method_id for spec in specs if agreement_of(spec.method_id) is None] == []


def test_rows_are_of_methods_that_are_there_and_sorted(comparisons):
    names = [one.method_id for one in comparisons]
    assert set(names) <= set(registry.built_in_specs())
    path = fidelity.files("cellular_bench.methods") / "data" / "fidelity.csv"
    rows = [row["method_id"] for row in csv.DictReader(path.read_text("utf-8").splitlines())]
    assert rows == sorted(rows)


def test_a_row_is_complete_and_in_range(comparisons):
    for one in comparisons:
        assert one.verdict in VERDICTS, one
        if one.verdict == "not compared":
            assert (one.agreement, one.measure, one.data) == (None, "", ""), one
            assert one.why.endswith("."), one
            continue
        assert one.original, one
        assert one.data in DATA, one
        assert one.measure in MEASURES, one
        assert one.n_seeds >= 1, one
        assert one.n_original_seeds >= 1, one
        assert one.agreement is not None, one
        for low, high in filter(None, (one.agreement, one.original_agreement)):
            assert 0 <= low <= high, one
            assert high <= 1 or one.measure in DISTANCES, one


def test_a_verdict_fits_the_figures(comparisons):
    """What is equal is equal to rounding, or to the digits that are stored; what differs says why."""
    for one in comparisons:
        if one.verdict == "equal" and one.measure in DISTANCES:
            assert one.agreement[1] <= (1e-4 if "digits" in one.why else 1e-5), one
        elif one.verdict == "equal" and one.measure != "spearman":
            assert one.agreement[0] == 1, one
        assert one.verdict != "differs" or one.why.endswith("."), one
        if one.verdict == "within seeds" and one.original_agreement and one.measure not in DISTANCES:
            # Two hundredths below what the original has with itself are not seen as a difference.
            assert one.agreement[1] >= one.original_agreement[0] - 0.02, one


@pytest.mark.parametrize(("name", "of"), [("cellular_centroid", "cellular"), ("scgen_paper", "scgen")])
def test_variants_have_what_their_method_has(name, of):
    assert agreement_of(name) == agreement_of(of) is not None


def test_what_calls_the_authors_library_has_no_agreement():
    assert agreement_of("harmony") is None
    assert agreement_of("no_such_method") is None


def test_figures_and_verdict_in_words():
    rows = (
        comparison(),
        comparison(data="baron", agreement=(1.0, 1.0), original_agreement=None, verdict="equal"),
        comparison(original="toy 2.0", measure="difference", agreement=(0.0, 7e-8), original_agreement=None),
    )
    found = Agreement(comparisons=rows)
    assert found.verdict == "within seeds"
    assert found.figures == (
        "toy 1.0: share of equal labels 1.000 on baron, 0.900 to 0.920 on pbmc (original by seed 0.904)",
        "toy 2.0: largest difference 0 to 7e-08 on pbmc",
    )
    assert found.text == f"within seeds. {found.figures[0]}. {found.figures[1]}."


def test_a_part_that_was_not_compared_shows_in_the_verdict():
    nothing = {"agreement": None, "original_agreement": None, "measure": "", "data": "", "original": ""}
    left_out = comparison(verdict="not compared", why="It was not run.", **nothing)
    assert Agreement(comparisons=(left_out,)).text == "not compared. It was not run."
    both = Agreement(comparisons=(comparison(verdict="equal"), left_out))
    assert both.verdict == "equal, in part"
    assert both.text.endswith("(original by seed 0.904). It was not run.")


def test_a_run_of_another_version_has_no_agreement():
    method = registry.method("scibet")
    now = method_identity(method, method.defaults)
    assert agreement_of_run(now) == agreement_of("scibet") is not None
    assert agreement_of_run(now.model_copy(update={"version": now.version + 1})) is None
    assert agreement_of_run(now.model_copy(update={"source_digest": "c0ffee"})) is None
