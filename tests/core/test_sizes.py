"""Which groups of cells are too small beside the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.core.sizes import MIN_CELLS, in_words, stray, stray_batches

sizes = st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 400), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([90, 110, 100, 1], [1]),
        ([8] * 40, []),  # small donors are the design
        ([8] * 40 + [1], [1]),
        ([300, 300, 1, 1, 1], [1, 1, 1]),  # however many strays there are
        ([300, 300, 9, 10], [9]),
        ([8, 9, 14, 20, 30], [8, 9]),
        ([8, 9, 14, 16], []),
        ([300, 5], [5]),
        ([3], []),
    ],
)
def test_a_group_is_stray_beside_larger_ones(cells, expected):
    assert list(stray({str(i): n for i, n in enumerate(cells)}).values()) == expected


@given(sizes=sizes, min_cells=st.integers(1, 50))
def test_strays_are_few_cells_and_others_stay(sizes, min_cells):
    found = stray(sizes, min_cells)
    kept = {name: n for name, n in sizes.items() if name not in found}
    assert found.items() <= sizes.items()
    assert max(sizes.values()) in kept.values()
    assert all(n < min_cells for n in found.values())
    assert max(found.values(), default=0) < min(max(kept.values()), min_cells)
    assert sum(kept.values()) >= sum(sizes.values()) / 2, "half of the cells are in groups that stay"
    assert stray(sizes, 1) == {}
    assert stray(sizes, min_cells, n_kept=2) in ({}, found)


@given(n=st.integers(1, 9), n_groups=st.integers(2, 60))
def test_equal_groups_are_never_stray(n, n_groups):
    assert stray({str(i): n for i in range(n_groups)}) == {}


def test_two_batches_are_kept_for_a_comparison():
    assert stray_batches({"a": 300, "b": 5}) == {}
    assert stray_batches({"a": 300, "c": 5, "b": 50}) == {"c": 5}
    assert MIN_CELLS == 10


def test_many_names_are_cut_short():
    assert in_words({f"d{i}": i for i in range(1, 9)}, most=2) == "'d1' (1), 'd2' (2), ..."
