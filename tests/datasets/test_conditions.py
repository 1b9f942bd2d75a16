"""Conditions to keep: columns that are validated like labels, and what is said of those without a score."""

from dataclasses import replace

import pytest

from cellular_bench.core.conditions import conditions_of
from cellular_bench.core.errors import DataError
from cellular_bench.datasets.catalog import described, from_h5ad, from_memory, load, subsampled

KEYS = {"batch_key": "donor", "label_key": "cell_type"}


@pytest.fixture
def crossed(adata):
    """Six cells of two donors, each of which has both conditions."""
    adata.obs["stim"] = ["no", "no", "yes", "yes", "no", "yes"]
    adata.obs["person"] = ["p", "q", "q", "p", "q", "p"]
    return adata


def problems(adata, **options):
    with pytest.raises(DataError) as caught:
        load(from_memory(adata, **KEYS, **options))
    return list(caught.value.problems)


def test_conditions_and_donors_are_kept_apart_from_what_is_shown(crossed, write):
    dataset = load(from_h5ad(write(crossed), **KEYS, keep=["stim"], donor_key="person"))
    assert list(dataset.adata.obs) == ["batch", "label", "condition:stim", "donor:"]
    found = conditions_of(dataset.adata.obs)
    assert found.names.tolist() == ["stim"]
    assert found.values.tolist() == [crossed.obs["stim"].tolist()]
    assert found.donor.tolist() == crossed.obs["person"].tolist()
    of_batches = load(from_memory(crossed, **KEYS, keep=["stim"])).adata.obs
    assert conditions_of(of_batches).donor.tolist() == crossed.obs["donor"].tolist()
    assert conditions_of(load(from_memory(crossed, **KEYS)).adata.obs).names.tolist() == []
    some = subsampled(dataset, 4)
    assert conditions_of(some.adata.obs).values.shape == (1, 4)


def test_columns_that_are_called_batch_or_label_can_be_kept(crossed):
    crossed.obs = crossed.obs.rename(columns={"stim": "label", "person": "batch"})
    obs = load(from_memory(crossed, **KEYS, keep=["label"], donor_key="batch")).adata.obs
    assert obs["label"].tolist() == crossed.obs["cell_type"].tolist()
    assert conditions_of(obs).values[0].tolist() == ["no", "no", "yes", "yes", "no", "yes"]


def test_what_is_kept_is_part_of_the_digest(crossed):
    crossed.obs["again"] = crossed.obs["stim"]
    names = ("stim", "again", "person")
    asked: list[dict[str, object]] = [{}, {"keep": ["stim", "again"]}]
    asked += [{"keep": [name]} for name in names]
    asked += [{"keep": [name], "donor_key": other} for name in names for other in names if name != other]
    digests = [load(from_memory(crossed, **KEYS, **each)).digest for each in asked]
    same = [digests[asked.index({"keep": ["person"], "donor_key": name})] for name in ("stim", "again")]
    assert len(set(same)) == 1, "donors are what they are, however their column is called"
    assert len(set(digests)) == len(asked) - 1
    order = load(from_memory(crossed, **KEYS, keep=["again", "stim"])).digest
    assert order == digests[1], "the order in which they are named makes no difference"


def test_batches_that_determine_a_condition_are_warned_of(crossed):
    crossed.obs["sample"] = crossed.obs["donor"] + crossed.obs["stim"]
    said = load(from_memory(crossed, batch_key="sample", label_key="cell_type", keep=["stim"])).warnings
    (warning,) = (text for text in said if "determine" in text)
    assert warning.startswith("Batches determine obs['stim']: each has one value of it.")
    assert "has no score" in warning
    itself = load(from_memory(crossed, batch_key="stim", label_key="cell_type", keep=["stim"])).warnings
    assert any("Batches determine obs['stim']" in text for text in itself)
    said = load(from_memory(crossed, **KEYS, keep=["stim"])).warnings
    assert not any("determine" in text for text in said)
    one_batch = load(from_memory(crossed, batch_key=None, label_key="cell_type", keep=["stim"])).warnings
    assert not any("determine" in text for text in one_batch)


def test_one_value_for_all_is_warned_of(crossed):
    crossed.obs["stim"] = "yes"
    (text,) = (w for w in load(from_memory(crossed, **KEYS, keep=["stim"])).warnings if "stim" in w)
    assert text == "obs['stim'] has one value, 'yes': no method can keep or lose it."


def test_columns_that_cannot_be_used_are_refused_together(crossed):
    crossed.obs["part"] = ["no", None, "yes", "yes", "no", ""]
    crossed.obs["cell"] = [f"c{i}" for i in range(6)]
    found = " ".join(problems(crossed, keep=["stin", "part", "cell", "cell_type"], donor_key="persn"))
    assert "Unknown condition key 'stin'. Did you mean 'stim'?" in found
    assert "2 cells ('c2', 'c6') have no condition in obs['part']" in found
    assert "obs['cell'] has a different value in every cell, so it is no condition." in found
    assert "The condition to keep and the labels are the same column, 'cell_type'." in found
    assert "Unknown donor key 'persn'. Did you mean 'person'?" in found


def test_donors_without_a_condition_or_that_are_it_are_refused(crossed):
    assert problems(crossed, donor_key="person") == [
        "Donors, 'person', are of no use without a condition to keep."
    ]
    assert problems(crossed, keep=["stim"], donor_key="stim") == [
        "The condition to keep and the donors are the same column, 'stim'."
    ]


def test_truth_of_plug_ins_cannot_take_their_names(crossed):
    crossed.obs["condition:stim"] = crossed.obs["stim"]
    spec = replace(from_memory(crossed, **KEYS), truth_keys=("condition:stim",))
    with pytest.raises(DataError, match="Further truth cannot be called condition:stim: rename it"):
        load(spec)


def test_the_table_of_a_data_set_names_them():
    source = {"kind": "simulator", "arguments": {}}
    table = {"dataset_id": "mine", "title": "Mine", "label_key": "l", "source": source}
    spec = described({**table, "keep": ["stim"], "donor_key": "donor"}, where="here")
    assert (list(spec.keep), spec.donor_key) == (["stim"], "donor")
    for wrong in ({"keep": "stim"}, {"keep": [1]}, {"donor_key": ["donor"]}):
        with pytest.raises(DataError):
            described({**table, **wrong}, where="here")
