"""Agreement with labels that nobody can know, and its chance."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.benchmark.analysis.agreement import LEAK_P, agreement

NAMES = st.sampled_from("abc")
PAIRS = st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=7)


def counts_of(label, predicted):
    return {a: dict(Counter(p for b, p in zip(label, predicted, strict=True) if a == b)) for a in set(label)}


@given(PAIRS)
def test_mean_deviation_and_tail_are_those_of_all_assignments(pairs):
    label, predicted = zip(*pairs, strict=True)
    found = agreement(counts_of(label, predicted))
    matches = np.array([sum(map(str.__eq__, one, predicted)) for one in itertools.permutations(label)])
    assert found.n_matches == sum(map(str.__eq__, label, predicted))
    assert found.mean == pytest.approx(matches.mean())
    assert found.std == pytest.approx(matches.std(), abs=1e-9)
    assert found.p_value == pytest.approx((matches >= found.n_matches).mean())


def test_many_cells_agree_as_often_as_in_a_simulation():
    rng = np.random.default_rng(0)
    label, predicted = rng.choice(list("abcde"), 200), rng.choice(list("abcdef"), 200, p=[0.5, *[0.1] * 5])
    drawn = np.array([(rng.permutation(label) == predicted).sum() for _ in range(20_000)])
    for least in (35, 45, 50):
        # As many matches as asked for, with the same numbers of each name.
        while (label == predicted).sum() != least:
            label = rng.permutation(label)
        found = agreement(counts_of(label.tolist(), predicted.tolist()))
        assert found.mean == pytest.approx(drawn.mean(), abs=0.2)
        assert found.std == pytest.approx(drawn.std(), rel=0.03)
        share = (drawn >= least).mean()
        assert found.p_value == pytest.approx(share, abs=4 * math.sqrt(share / len(drawn)) + 1e-3)


@given(PAIRS)
def test_a_constant_is_never_a_leak_and_names_do_not_matter(pairs):
    label, predicted = zip(*pairs, strict=True)
    assert agreement(counts_of(label, ["a"] * len(label))).p_value == 1.0
    renamed = str.maketrans("abc", "xyz")
    sides = ([name.translate(renamed) for name in side] for side in (label, predicted))
    one, other = agreement(counts_of(label, predicted)), agreement(counts_of(*sides))
    assert one == other


@pytest.mark.parametrize(("n_cells", "is_leak"), [(20, False), (24, True), (200, True)])
def test_what_knows_every_label_is_a_leak_if_cells_are_enough(n_cells, is_leak):
    found = agreement({"a": {"a": n_cells // 2}, "b": {"b": n_cells // 2}})
    assert found.p_value == pytest.approx(1 / math.comb(n_cells, n_cells // 2), rel=1e-12)
    assert found.is_leak == is_leak


def test_few_expected_matches_are_no_leak_where_a_normal_tail_would_say_so():
    label = [f"type{i}" for i in range(200)]
    predicted = label[:7] + label[8:] + [label[7]]  # seven matches, one is expected
    found = agreement(counts_of(label, predicted))
    assert (found.n_matches, found.mean) == (7, pytest.approx(1.0))
    assert math.erfc((7 - found.mean) / found.std / math.sqrt(2)) / 2 < 1e-8
    assert found.p_value > 50 * LEAK_P and not found.is_leak


def test_a_rejected_cell_agrees_with_no_label():
    assert agreement({"a": {"": 30}, "b": {"": 30}}).n_matches == 0
