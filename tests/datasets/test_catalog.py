"""Loading: the canonical form, what it is made from, and what is said about it."""

import re
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.core.errors import DataError, UserError
from cellular_bench.core.toml import read_toml
from cellular_bench.core.types import DatasetSpec, GeneSelection
from cellular_bench.datasets.catalog import (
    described,
    from_h5ad,
    from_memory,
    load,
    prepared,
    read_manifest,
    specs,
    subsampled,
)
from cellular_bench.datasets.sources import builders, deposits

KEYS = {"batch_key": "donor", "label_key": "cell_type"}


def said(dataset):
    """Return the warnings of a data set, except that it has few cells, which six cells are."""
    return tuple(text for text in dataset.warnings if "with fewer than 10 cells" not in text)


def test_labels_and_batches_of_few_cells_are_pointed_out():
    label = ["a"] * 30 + ["b"] * 28 + ["rare"] * 3 + ["alone"]
    obs = pd.DataFrame({"cell_type": label, "donor": ["d1"] * 50 + ["d2"] * 11 + ["d3"]})
    obs.index = [f"c{i}" for i in range(62)]
    adata = ad.AnnData(np.ones((62, 3), dtype=np.float32), obs=obs)
    assert load(from_memory(adata, **KEYS)).warnings == (
        "1 label with a single cell, which cannot be both learnt and scored: 'alone'.",
        "1 label with fewer than 10 cells: 'rare' (3).",
        "1 batch with fewer than 10 cells: 'd3' (1).",
    )


@pytest.mark.parametrize("name", ["../evil", "My data", 5])
def test_a_described_data_set_has_a_name_that_can_be_part_of_a_file_name(name):
    table = {"dataset_id": name, "title": "T", "source": {"kind": "data_dir"}, "label_key": "cell_type"}
    with pytest.raises(DataError, match="lower-case letters, digits and underscores, got: "):
        described(table, where="suite 'mine'")
    assert described({**table, "dataset_id": "my_data"}, where="suite 'mine'").dataset_id == "my_data"


#: What needs nothing but this package and scanpy.
HERE = ["baron", "pbmc68k_reduced", "simulated", "simulated_small"]
STUDY = {
    "bone_marrow",
    "pbmc",
    "pancreas",
    "kidney",
    "all_merged",
    "baron_full",
    "macparland",
    "segerstolpe",
    "zheng68k",
}
FIELD = {"scib_pancreas", "scib_immune", "scib_lung", "kang", "baron_human", "baron_mouse", "zheng_sorted"}
FIELD |= {"human_dc", "pbmc_multistudy", "sc_mixology"}


@pytest.mark.parametrize("name", HERE)
def test_manifests_of_what_is_here_tell_the_truth(name):
    spec = specs()[name]
    dataset = load(spec)
    assert dataset.adata.shape == (spec.n_obs, spec.n_vars)
    assert ("counts" in dataset.adata.layers) == (spec.counts_layer is not None)
    assert (dataset.adata.obs["batch"].nunique() > 1) == (spec.batch_key is not None)
    assert spec.sha256 in (None, dataset.digest)


def test_every_data_set_of_the_study_and_of_the_field_is_described():
    found = specs()
    assert set(found) == {*HERE, *STUDY, *FIELD}
    for name in STUDY | FIELD:
        spec = found[name]
        assert re.fullmatch(r"10\.\d{4,}/\S+", spec.doi), name
        assert spec.license
        assert spec.source["kind"] in ("carrier", "download", "data_dir")
        assert spec.source["kind"] == "data_dir" or spec.source["builder"] in builders.BUILDERS
        # Verified: this project had it in its hands, so the content is known.
        assert deposits.is_verified(spec.source) == (spec.sha256 is not None), name


def test_every_data_set_is_in_the_documentation(repo):
    text = (repo / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert [name for name in specs() if f"`{name}`" not in text] == []


def test_what_a_manifest_says_of_files_can_be_used():
    for name, spec in specs().items():
        for wheel in spec.source.get("wheels", ()):
            assert set(wheel) == {"requirement", "file", "sha256"}
            assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", wheel["requirement"])
            assert re.fullmatch(r"[0-9a-f]{64}", wheel["sha256"])
        for entry in spec.source.get("files", ()):
            assert all(url.startswith("https://") for url in entry.get("urls", [entry.get("listing")]))
            has_checksum = "sha256" in entry or "md5" in entry or "listing" in entry
            # A checksum that this project did not work out says whose it is.
            assert has_checksum == ("checksum_from" in entry), name
        if spec.source.get("builder") == "by_hand":
            assert len(spec.source["after"]) >= 2, name


def test_canonical_form_of_counts(adata, write):
    dataset = load(from_h5ad(write(adata), **KEYS))
    loaded = dataset.adata
    assert said(dataset) == ()
    assert list(loaded.obs) == ["batch", "label"]
    assert loaded.obs["label"].tolist() == ["alpha", "alpha", "beta", "beta", "delta", "delta"]
    assert loaded.obs["batch"].cat.categories.tolist() == ["d1", "d2"]
    for matrix in (loaded.X, loaded.layers["counts"]):
        assert (matrix.format, matrix.dtype) == ("csr", np.float32)
    np.testing.assert_array_equal(loaded.layers["counts"].toarray(), adata.X.toarray())
    np.testing.assert_allclose(loaded.X.toarray()[0], [np.log(10003 / 3), 0, np.log(20003 / 3), 0], rtol=1e-6)


def test_unused_categories_are_gone_and_other_columns_too(adata, write):
    adata.obs["cell_type"] = pd.Categorical(
        adata.obs["cell_type"], categories=["alpha", "beta", "delta", "mast"]
    )
    adata.obs["age"] = 3
    obs = load(from_h5ad(write(adata), **KEYS)).adata.obs
    assert obs["label"].cat.categories.tolist() == ["alpha", "beta", "delta"]
    assert list(obs) == ["batch", "label"]


def test_further_truth_is_kept_and_part_of_the_digest(adata, write):
    adata.obs["doublet"] = [True, False, False, False, False, True]
    plain, kept = (
        load(replace(from_h5ad(write(adata), **KEYS), truth_keys=keys)) for keys in ((), ("doublet",))
    )
    assert "doublet" not in plain.adata.obs
    assert kept.adata.obs["doublet"].tolist() == adata.obs["doublet"].tolist()
    adata.obs["doublet"] = ~adata.obs["doublet"]
    other = load(replace(from_h5ad(write(adata), **KEYS), truth_keys=("doublet",)))
    assert len({plain.digest, kept.digest, other.digest}) == 3


def test_truth_that_is_absent_or_incomplete_or_would_be_seen_is_refused(adata, write):
    adata.obs["doublet"] = [1.0, 0.0, np.nan, 0.0, 0.0, 1.0]
    adata.obs["label"] = "x"
    spec = replace(from_h5ad(write(adata), **KEYS), truth_keys=("doublet", "doublets", "label"))
    with pytest.raises(DataError) as caught:
        load(spec)
    unknown, missing, taken = sorted(caught.value.problems, key=len, reverse=True)
    assert "no truth in obs['doublet'] (empty or NaN)" in unknown
    assert "Unknown truth key 'doublets'. Did you mean 'doublet'?" in missing
    assert taken == "Further truth cannot be called label: rename it."


def test_numbers_as_labels_become_text(adata, write):
    adata.obs["cluster"] = [0, 0, 1, 1, 10, 10]
    loaded = load(from_h5ad(write(adata), batch_key="donor", label_key="cluster")).adata
    assert loaded.obs["label"].tolist() == ["0", "0", "1", "1", "10", "10"]


def test_without_batch_key_there_is_one_batch(adata, write):
    dataset = load(from_h5ad(write(adata), batch_key=None, label_key="cell_type"))
    assert dataset.adata.obs["batch"].tolist() == ["all"] * 6
    assert dataset.spec.batch_key is None
    assert said(dataset) == ()


def test_log_normalised_values_are_taken_as_they_are(adata, write):
    totals = np.asarray(adata.X.sum(axis=1))
    lognorm = np.log1p(1e4 * adata.X.toarray() / totals)
    adata.X = lognorm
    dataset = load(from_h5ad(write(adata), **KEYS))
    assert "counts" not in dataset.adata.layers
    np.testing.assert_allclose(dataset.adata.X.toarray(), lognorm, rtol=1e-6)
    assert said(dataset) == ("There are no counts: methods that read counts do not apply.",)


@pytest.mark.parametrize("dense", [False, True])
def test_counts_in_a_layer_of_another_name_are_pointed_to(adata, write, dense):
    counts = adata.X.toarray()
    adata.layers["corrected"] = counts + 0.5
    adata.layers["detected"] = (counts > 0).astype("int8")
    adata.layers["raw_counts"] = counts if dense else adata.X.copy()
    adata.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    assert said(load(from_h5ad(write(adata), **KEYS))) == (
        "There are no counts where they are looked for: methods that read counts do not apply. "
        "layers['raw_counts'] looks like counts: --counts-layer raw_counts.",
    )
    assert said(load(from_h5ad(write(adata), **KEYS, counts_layer="raw_counts"))) == ()


def test_layers_that_hold_no_counts_are_not_pointed_to(adata, write):
    counts = adata.X.toarray()
    adata.layers["corrected"], adata.layers["scaled"] = counts + 0.5, counts - 3
    adata.layers["detected"] = (counts > 0).astype("int8")
    adata.layers["odd"] = np.where(counts > 2, np.nan, counts)
    adata.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    (warning,) = said(load(from_h5ad(write(adata), **KEYS)))
    assert warning == "There are no counts: methods that read counts do not apply."


def test_other_logarithms_are_accepted_with_a_warning(adata, write):
    adata.X = np.log1p(adata.X.toarray())
    assert said(load(from_h5ad(write(adata), **KEYS))) == (
        "There are no counts: methods that read counts do not apply.",
        "The values are not log1p of counts per 10,000 over these genes (without the logarithm, the median "
        "cell sums to 4): methods that require it fail.",
    )


def test_scaled_values_give_way_to_a_layer_of_counts(adata, write):
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.toarray() - 1.5
    dataset = load(from_h5ad(write(adata), **KEYS))
    np.testing.assert_array_equal(dataset.adata.layers["counts"].toarray(), adata.layers["counts"].toarray())
    assert said(dataset) == ("Expression values were taken from layers['counts'], not from X.",)


def test_counts_in_raw_are_found_with_all_their_genes(adata, write):
    chosen = adata[:, ["g1", "g4"]].copy()
    chosen.raw = adata
    chosen.X = np.log1p(chosen.X.toarray())
    dataset = load(from_h5ad(write(chosen), **KEYS))
    assert dataset.adata.var_names.tolist() == ["g1", "g2", "g3", "g4"]
    np.testing.assert_array_equal(dataset.adata.layers["counts"].toarray(), adata.X.toarray())
    assert said(dataset) == ("Expression values were taken from raw, not from X.",)


@pytest.mark.parametrize("place", ["X", "raw", "umi"])
def test_the_counts_layer_that_is_named_is_the_one_that_is_read(adata, write, place):
    wanted = adata.X.copy()
    others = adata.copy()
    others.X = adata.X * 2
    others.raw = others
    others.layers["umi"] = adata.X * 3
    if place == "raw":
        others.raw = adata
    elif place == "X":
        others.X = wanted
    else:
        others.layers["umi"] = wanted
    loaded = load(from_h5ad(write(others), counts_layer=place, **KEYS)).adata
    np.testing.assert_array_equal(loaded.layers["counts"].toarray(), wanted.toarray())


def test_one_batch_is_allowed_with_a_warning(adata, write):
    adata.obs["donor"] = "d1"
    assert said(load(from_h5ad(write(adata), **KEYS))) == (
        "There is one batch, 'd1': batch correction cannot be scored.",
    )


def test_one_label_is_allowed_with_a_warning(adata, write):
    adata.obs["cell_type"] = "alpha"
    assert said(load(from_h5ad(write(adata), **KEYS))) == (
        "There is one label, 'alpha': label metrics cannot be computed.",
    )


def test_labels_with_one_cell_are_allowed_with_a_warning(adata, write):
    adata.obs["cell_type"] = ["alpha", "alpha", "alpha", "alpha", "mast", "epsilon"]
    assert said(load(from_h5ad(write(adata), **KEYS))) == (
        "2 labels with a single cell, which cannot be both learnt and scored: 'epsilon', 'mast'.",
    )


def test_two_spellings_of_a_label_are_pointed_out(adata, write):
    adata.obs["cell_type"] = ["T cell", "T cell", "t  cell", "t  cell", "beta", "beta"]
    assert said(load(from_h5ad(write(adata), **KEYS))) == (
        "Labels that differ only in case or spaces: 'T cell', 't  cell'.",
    )


def test_loading_leaves_the_source_as_it_is(adata):
    from cellular_bench.datasets.contract import conform

    before = adata.copy()
    conform(adata, source="here", label_key="cell_type", batch_key="donor", counts_layer=None)
    assert (adata.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_digest_does_not_depend_on_how_the_file_is_stored(adata, tmp_path):
    variants = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray().astype(np.int64)}
    digests = set()
    for name, values in variants.items():
        stored = adata.copy()
        stored.X = values
        path = tmp_path / f"{name}.h5ad"
        stored.write_h5ad(path, compression="gzip" if name == "csc" else None)
        digests.add(load(from_h5ad(path, **KEYS)).digest)
    assert len(digests) == 1


def test_digest_sees_every_part(adata, write):
    def digest_of(changed: ad.AnnData) -> str:
        return load(from_h5ad(write(changed), **KEYS)).digest

    changes = [adata.copy() for _ in range(6)]
    changes[1].X.data[0] = 9
    changes[2].obs["donor"] = ["d2", "d2", "d1", "d2", "d1", "d2"]
    changes[3].obs["cell_type"] = ["alpha", "alpha", "beta", "beta", "delta", "beta"]
    changes[4].obs_names = ["x", *adata.obs_names[1:]]
    changes[5].var_names = ["x", *adata.var_names[1:]]
    assert len({digest_of(changed) for changed in changes}) == 6


def test_names_cannot_flow_into_one_another(adata, write):
    first, second = adata.copy(), adata.copy()
    first.var_names = ["a", "b,c", "d", "e"]
    second.var_names = ["a,b", "c", "d", "e"]
    assert load(from_h5ad(write(first), **KEYS)).digest != load(from_h5ad(write(second), **KEYS)).digest


def test_content_other_than_promised_is_refused():
    spec = specs()["simulated_small"]
    fields = {name: getattr(spec, name) for name in DatasetSpec.__slots__}
    with pytest.raises(DataError, match=r"not what the manifest says: sha256 [0-9a-f]{64}, expected 00\."):
        load(DatasetSpec(**fields | {"sha256": "00"}))


def test_names_of_own_files():
    def name_of(path: str) -> str:
        return from_h5ad(path, **KEYS).dataset_id

    assert name_of("/data/My Pancreas (v2).h5ad") == "my_pancreas_v2"
    assert name_of("ünï.h5ad") == "n"
    assert name_of("---.h5ad") == "data"
    assert name_of("baron.h5ad") == "baron_file"
    assert Path(from_h5ad("here.h5ad", **KEYS).source["path"]).is_absolute()


def test_a_given_name_must_be_free_and_plain():
    assert from_h5ad("a.h5ad", dataset_id="mine_2", **KEYS).dataset_id == "mine_2"
    with pytest.raises(UserError, match="'baron' is the name of a data set in the catalogue; choose another"):
        from_h5ad("a.h5ad", dataset_id="baron", **KEYS)
    with pytest.raises(UserError, match="lower-case letters, digits and underscores, got: 'My data'"):
        from_h5ad("a.h5ad", dataset_id="My data", **KEYS)


def test_broken_manifests(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\nlabelkey = "x"\n[source]\nkind = "file"\npath = "x"\n')
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert caught.value.problems == ("Unknown entry 'labelkey'.",)
    path.write_text("title = \n")
    with pytest.raises(UserError, match=r"Manifest .*mine\.toml is not valid TOML: Invalid value"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            {"kind": "zip"},
            "Unknown kind of source 'zip'. Known: bundled, carrier, data_dir, download, file, local, "
            "package, simulator, url.",
        ),
        ({"kind": "url", "url": "x"}, "Its source of kind 'url' lacks the entry 'sha256'."),
        (
            {"kind": "package", "package": "no_such_package_here", "file": "x"},
            "The package 'no_such_package_here' ships this data set and is not installed.",
        ),
        (
            {"kind": "simulator", "arguments": {"n_cells": 3}},
            "Unknown argument of the simulator 'n_cells'. Did you mean 'n_labels'? Known: batch_strength, "
            "dispersion, label_proportions, library_spread, marker_fraction, marker_strength, median_counts, "
            "missing, n_batches, n_labels, n_obs, n_vars, seed.",
        ),
    ],
)
def test_broken_sources(source, problem):
    with pytest.raises(DataError) as caught:
        load(DatasetSpec(dataset_id="mine", title="Mine", source=source, label_key="label"))
    assert caught.value.problems == (problem,)


def test_the_catalogue_is_light(repo):
    import subprocess
    import sys

    code = (
        "import sys; from cellular_bench.datasets import catalog, sources, splits; catalog.specs();"
        "print(sorted({'anndata', 'scanpy', 'pandas', 'scipy', 'sklearn', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "shape", "has_counts"),
    [
        ("baron_human_pancreas", (3607, 20125), True),
        ("human_dc_2batch_lognorm", (576, 859), False),
        ("zheng_facs_pbmc", (3874, 16791), True),
    ],
)
def test_real_files_load(shared, name, shape, has_counts):
    path = shared / "data" / f"{name}.h5ad"
    loaded = load(from_h5ad(path, batch_key="batch", label_key="cell_type")).adata
    assert loaded.shape == shape
    assert ("counts" in loaded.layers) == has_counts


def test_bundled_data_are_a_cut_of_the_complete_genes(shared):
    whole = load(
        from_h5ad(shared / "data" / "baron_human_pancreas.h5ad", batch_key="batch", label_key="cell_type")
    ).adata
    bundled = load(specs()["baron"]).adata
    assert bundled.obs.equals(whole.obs)
    assert bundled.obs["batch"].value_counts().sort_index().tolist() == [1937, 450, 914, 306]
    cut = whole[:, bundled.var_names].layers["counts"]
    assert (sparse.csr_matrix(cut) != bundled.layers["counts"]).nnz == 0


def test_bundled_data_hold_the_cell_cycle_genes():
    from cellular_bench.datasets.build_bundled import CELL_CYCLE_GENES

    table = read_toml(CELL_CYCLE_GENES, what="List of genes")
    genes = set(load(specs()["baron"]).adata.var_names)
    assert [len(table[phase]) for phase in ("s", "g2m")] == [43, 54]
    # No cell has a count of E2F8, and the study calls MLF1IP by its newer name.
    assert {gene for phase in ("s", "g2m") for gene in table[phase]} - genes == {"E2F8", "MLF1IP"}


def test_a_recipe_makes_the_studys_values_and_is_part_of_the_digest():
    plain = load(specs()["simulated_small"])
    made = prepared(plain, "study_annotated")
    counts = plain.adata.layers["counts"].toarray().astype(np.float64)
    kept = (counts > 0).sum(axis=0) >= 20
    assert 0 < kept.sum() < counts.shape[1]
    assert list(made.adata.var_names) == list(plain.adata.var_names[kept])
    totals = counts[:, kept].sum(axis=1)
    expected = np.log1p(counts[:, kept] / (totals / totals.mean())[:, None])
    np.testing.assert_allclose(made.adata.X.toarray(), expected, rtol=1e-6)
    assert made.digest != plain.digest
    assert made.digest == prepared(plain, "study_annotated").digest
    assert made.recipe["name"] == "study_annotated"
    assert made.recipe["steps"][-2]["dropped"] == int((~kept).sum())
    assert load(replace(specs()["simulated_small"], recipe="study_annotated")).digest == made.digest
    part = subsampled(made, 100)
    assert part.recipe == made.recipe
    assert part.digest not in (made.digest, subsampled(plain, 100).digest)


#: Digests of simulated_small by recipe, which run ids rest on.
DIGESTS = {
    "study": "abdd7fb0690fcca3ecb3381ae89311065ec3da31c737b7abea7204458a26bdf6",
    "study_annotated": "da71ec0addbd10f8fceafcba7d3380298ac8976fe52468783be7519fee6adfa4",
    "none": "a3ae9de33cb0480c2f354b0dbf99117a2f1621bef32febc69d54b897c6fb0871",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_runs_keep_their_ids_where_a_recipe_gives_the_same_numbers(name):
    assert prepared(load(specs()["simulated_small"]), name).digest == DIGESTS[name]


def test_data_with_other_variable_genes_are_other_data():
    made = prepared(load(specs()["simulated_small"]), "scanpy")
    assert made.gene_selection == GeneSelection(flavor="seurat", n_top_genes=2000)
    # Until version 2, runs selected genes by cell_ranger: their records must not be reused.
    assert made.recipe["version"] == 2
    assert made.digest != "24c9bca2bf740afbcfd7d977fefbe37fc58f50bd41fb3db019c280d477951794"
    assert subsampled(made, 100).gene_selection == made.gene_selection


def test_values_without_counts_are_taken_as_they_came_and_said_to_be(adata, write):
    adata.X.data = np.log1p(adata.X.data)
    plain = load(from_h5ad(write(adata), batch_key="donor", label_key="cell_type"))
    made = prepared(plain, "study_annotated")
    assert (made.adata.X != plain.adata.X).nnz == 0
    assert made.recipe == {"name": "study_annotated", "values": "as they came"}
    assert any("no counts to follow the recipe" in warning for warning in made.warnings)
    assert (made.digest, made.gene_selection) == (plain.digest, GeneSelection())
    other = prepared(plain, "scanpy")
    assert other.gene_selection.flavor == "seurat"
    assert other.digest != plain.digest


def test_an_unknown_recipe_is_explained():
    with pytest.raises(UserError, match=r"Unknown recipe 'studdy'\. Did you mean 'study'\?"):
        prepared(load(specs()["simulated_small"]), "studdy")


@pytest.mark.parametrize(
    "column",
    [
        [1, 2, 1, 2, 1, 2],
        [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
        ["1", "2.0", "1.0", "2", " 1", "2 "],
        pd.Categorical([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]),
    ],
)
@pytest.mark.parametrize("key", ["cell_type", "donor"])
def test_names_have_no_type(adata, write, key, column):
    adata.obs[key] = column
    loaded = load(from_h5ad(write(adata), **KEYS))
    assert loaded.adata.obs["label" if key == "cell_type" else "batch"].tolist() == ["1", "2"] * 3
    adata.obs[key] = ["1", "2"] * 3
    assert loaded.digest == load(from_h5ad(write(adata), **KEYS)).digest
    notes = [text for text in loaded.warnings if "Spellings" in text]
    expected = f"obs['{key}']: Spellings of one name: ' 1' and '1' and '1.0'; '2' and '2 ' and '2.0'."
    assert notes == ([expected] if isinstance(column, list) and column[0] == "1" else [])


@pytest.mark.parametrize("name", ["NA", "None", "n/a"])
def test_a_label_that_may_mean_a_missing_one_is_told(adata, write, name):
    adata.obs["cell_type"] = ["alpha", name, "beta", "beta", name, "alpha"]
    loaded = load(from_h5ad(write(adata), **KEYS))
    assert set(loaded.adata.obs["label"]) == {"alpha", "beta", name}
    assert said(loaded) == (
        f"obs['cell_type']: 2 cells with '{name}', which is read as a name. "
        "If there is none, leave the entry empty.",
    )
