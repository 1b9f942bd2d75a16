"""Credit for near misses, on an ontology small enough to check by eye."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError, UnknownNameError, UserError
from cellular_bench.metrics import (
    accuracy,
    evaluate,
    map_labels,
    ontology_accuracy,
    ontology_f1,
    parse_obo,
    read_obo,
)
from cellular_bench.metrics.annotation.ontology import relation

#          cell
#        /      \
#  lymphocyte   acinar cell
#    /    \
# T cell  B cell
#   |
# CD4 T cell
OBO = """format-version: 1.2
ontology: test

[Term]
id: CL:0
name: cell

[Term]
id: CL:1
name: lymphocyte
is_a: CL:0 ! cell

[Term]
id: CL:2
name: T cell
alt_id: CL:22
synonym: "T lymphocyte" EXACT []
synonym: "thymocyte" RELATED []
is_a: CL:1 {is_inferred="true"} ! lymphocyte

[Term]
id: CL:3
name: B cell
synonym: "a \\"B\\" cell" EXACT []
synonym: "shared name" EXACT []
is_a: CL:1

[Term]
id: CL:4
name: CD4-positive, alpha-beta T cell
synonym: "shared name" EXACT []
is_a: CL:2
is_a: GO:1 ! of another ontology

[Term]
id: CL:5
name: acinar cell
is_a: CL:0
is_a: CL:6
relationship: part_of CL:7 ! pancreas
relationship: has_part CL:9

[Term]
id: CL:6
name: obsolete gland cell
is_obsolete: true

[Term]
id: CL:7
name: pancreas

[Typedef]
id: part_of
name: part of
"""


@pytest.fixture(scope="module")
def ontology():
    return parse_obo(OBO)


@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("T cell", "CL:2"),
        ("t_cell", "CL:2"),
        ("T cells", "CL:2"),
        ("CL:2", "CL:2"),
        ("CL:22", "CL:2"),
        ("T lymphocyte", "CL:2"),
        ('a \\"B\\" cell', "CL:3"),
        ("CD4 positive, alpha beta T cell", "CL:4"),
        ("thymocyte", None),  # not an exact synonym
        ("shared name", None),  # of two terms
        ("obsolete gland cell", None),
        ("neuron", None),
    ],
)
def test_labels_are_found_by_id_name_and_exact_synonym(ontology, label, term):
    assert ontology.term(label) == term


def test_part_of_leads_upwards_where_it_is_asked_to(ontology):
    assert ontology.parents["CL:5"] == {"CL:0"}
    assert parse_obo(OBO, part_of=True).parents["CL:5"] == {"CL:0", "CL:7"}


def test_lineage_leaves_roots_out(ontology):
    assert ontology.lineage("CL:4") == {"CL:4", "CL:2", "CL:1"}
    assert ontology.lineage("CL:0") == {"CL:0"}


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ("T cell", "T cell", "exact"),
        ("T cell", "T lymphocyte", "exact"),
        ("neuron", "neuron", "exact"),
        ("T cell", "lymphocyte", "parent"),
        ("lymphocyte", "T cell", "child"),
        ("T cell", "B cell", "sibling"),
        ("CD4-positive, alpha-beta T cell", "B cell", "none"),
        ("CD4-positive, alpha-beta T cell", "lymphocyte", "none"),
        ("T cell", "neuron", "none"),
    ],
)
def test_relations(ontology, true, predicted, expected):
    assert relation(true, predicted, ontology) == expected


LABEL = np.array(["T cell", "T cell", "T cell", "T cell", "B cell", "acinar cell"])
PRED = np.array(["T cell", "lymphocyte", "B cell", "acinar cell", "neuron", "acinar cell"])


def test_accuracy_by_hand(ontology):
    assert ontology_accuracy(LABEL, PRED, ontology) == pytest.approx((1 + 0.5 + 0.25 + 0 + 0 + 1) / 6)
    rejected = np.array([True, False, False, False, False, False])
    assert ontology_accuracy(LABEL, PRED, ontology, rejected) == pytest.approx((0.5 + 0.25 + 1) / 6)


def test_hierarchical_f1_by_hand(ontology):
    # A(T cell) = {T, lymphocyte}, A(B cell) = {B, lymphocyte}, A(acinar) = {acinar}, A(neuron) itself.
    shared = 2 + 1 + 1 + 0 + 0 + 1
    true, predicted = 2 * 4 + 2 + 1, 2 + 1 + 2 + 1 + 1 + 1
    assert ontology_f1(LABEL, PRED, ontology) == pytest.approx(2 * shared / (true + predicted))
    rejected = np.arange(6) == 0
    assert ontology_f1(LABEL, PRED, ontology, rejected) == pytest.approx(
        2 * (shared - 2) / (true + predicted - 2)
    )


def test_right_labels_score_one_and_credit_never_lowers_the_accuracy(ontology):
    for function in (ontology_accuracy, ontology_f1):
        assert function(LABEL, LABEL, ontology) == 1.0
    assert ontology_accuracy(LABEL, PRED, ontology) >= accuracy(LABEL, PRED)


def test_the_share_of_labels_with_a_term_is_told(ontology):
    found = map_labels(["T cell"] * 3 + ["neuron"], ontology)
    assert (found.share_of_labels, found.share_of_cells) == (0.5, 0.75)
    assert found.terms == {"T cell": "CL:2"}
    assert found.unmapped == ("neuron",)


def test_a_user_can_say_what_a_label_means(ontology):
    own = ontology.with_labels({"my T": "T cell", "thymocyte": "CL:4"})
    assert (own.term("my T"), own.term("thymocyte")) == ("CL:2", "CL:4")
    assert ontology.term("my T") is None
    with pytest.raises(
        UnknownNameError, match=r"Unknown ontology term for label 'x' 'T cel'\. Did you mean 'T cell'"
    ):
        ontology.with_labels({"x": "T cel"})


def test_no_label_with_a_term_leaves_no_score(ontology):
    with pytest.raises(UndefinedError, match="no true label has a term") as error:
        ontology_accuracy(["x", "y"], ["x", "y"], ontology)
    assert not error.value.by_output


def test_without_an_ontology_there_is_a_reason():
    found = evaluate(["ontology_f1"], {"label": ["a"], "label_pred": ["a"]})["ontology_f1"]
    assert str(found) == "needs 'ontology', but there is no 'ontology' for this run"
    assert not found.by_output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no \[Term\]"),
        ("format-version: 1.2\n", r"has no \[Term\]"),
        (
            OBO[: OBO.index("name: T cell")],
            "line 13: the term has 0 tags 'name', expected 1; is the file cut",
        ),
        (OBO[: OBO.index("name: T cell") + 3], "line 15: 'nam' is no 'tag: value'; is the file cut off"),
        (OBO[: OBO.index("is_a: CL:1") + 9], "CL:2 lies below CL:, which is not there"),
        (
            OBO.replace("id: CL:1\n", "id: CL:8\n"),
            "CL:[234] lies below CL:1, which is not there; is the file",
        ),
        (
            OBO.replace("name: cell\n", "name: cell\nis_a: CL:4\n"),
            "terms lie above themselves: CL:.* -> CL:.* Remove one of the edges",
        ),
    ],
)
def test_a_broken_file_is_explained(tmp_path, text, message):
    path = tmp_path / "cl.obo"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_obo(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_text_is_explained(tmp_path):
    path = tmp_path / "cl.obo"
    path.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(UserError, match="is not an OBO file: it is not UTF-8 text"):
        read_obo(path)


def test_an_obsolete_term_may_go_without_a_name():
    found = parse_obo("[Term]\nid: X:1\nname: a\n\n[Term]\nid: X:2\nis_obsolete: true\n")
    assert list(found.names) == ["X:1"]
