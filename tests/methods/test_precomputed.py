"""Embeddings from files: joined by name, whatever the format, with errors that say what is wrong."""

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellular_bench.benchmark.conformance import check_method
from cellular_bench.core.errors import DataError, UserError
from cellular_bench.methods.knn import KNearestNeighbours
from cellular_bench.methods.pca import PCA
from cellular_bench.methods.precomputed import Precomputed, PrecomputedClassifier, read_table

X_EMB = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]], dtype=np.float32)
NAMES = ["007", "b", "c"]


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def write(path, names=NAMES, X_emb=X_EMB, key="X_model"):
    if path.suffix == ".npz":
        np.savez(path, obs_names=np.array(names), X_emb=X_emb)
    elif path.suffix == ".csv":
        pd.DataFrame(X_emb, index=names).to_csv(path)
    else:
        anndata.AnnData(obs=pd.DataFrame(index=names), obsm={key: X_emb}).write_h5ad(path)
    return str(path)


def named(*names):
    return anndata.AnnData(obs=pd.DataFrame(index=list(names)))


@pytest.mark.parametrize("suffix", ["h5ad", "npz", "csv"])
def test_rows_are_found_by_name_in_every_format(tmp_path, suffix):
    model = Precomputed(file=write(tmp_path / f"emb.{suffix}")).fit(named("b"))
    embedding = model.embed(named("c", "007"))
    np.testing.assert_array_equal(embedding, X_EMB[[2, 0]])
    assert embedding.dtype == np.float32


def test_the_entry_of_obsm_has_to_be_named_where_there_are_two(tmp_path):
    path = tmp_path / "two.h5ad"
    obsm = {"X_one": X_EMB, "X_two": -X_EMB}
    anndata.AnnData(obs=pd.DataFrame(index=NAMES), obsm=obsm).write_h5ad(path)
    np.testing.assert_array_equal(read_table(path, key="X_two").rows(["b"]), [[-3.0, -4.0]])
    with pytest.raises(DataError, match=r"obsm holds 2 entries \(X_one, X_two\); name one by 'key'"):
        read_table(path)
    with pytest.raises(DataError, match="obsm has no entry 'X_three'; it has X_one, X_two"):
        read_table(path, key="X_three")


def test_missing_cells_are_counted_and_shown_beside_names_of_the_file(tmp_path):
    model = Precomputed(file=write(tmp_path / "emb.npz")).fit(named("b"))
    with pytest.raises(DataError) as caught:
        model.embed(named("b", "B", "7"))
    text = str(caught.value)
    assert "It lacks 2 of 3 cells, such as 'B', '7'; it has names such as '007', 'b', 'c'." in text
    assert "emb.npz" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.npz", "cannot be read as npz"),
        (lambda folder: folder / "emb.txt", "ends in '.txt'; supported are .h5ad, .npz, .csv"),
        (
            lambda folder: write(folder / "twice.csv", names=["a", "b", "a"]),
            "1 cells more than once, such as 'a'",
        ),
        (
            lambda folder: write(folder / "short.npz", names=["a", "b"]),
            "2 names and an embedding of shape (3, 2)",
        ),
        (
            lambda folder: write(folder / "flat.npz", X_emb=X_EMB[:, 0]),
            "3 names and an embedding of shape (3,)",
        ),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, make, message):
    with pytest.raises(DataError) as caught:
        Precomputed(file=str(make(tmp_path))).fit(named("b"))
    assert message in str(caught.value)


def test_arrays_of_other_names_and_text_for_numbers_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", cells=np.array(NAMES), X_emb=X_EMB)
    with pytest.raises(DataError, match="lacks the array obs_names; it has cells, X_emb"):
        read_table(tmp_path / "other.npz")
    np.savez(tmp_path / "objects.npz", obs_names=pd.Index(NAMES), X_emb=X_EMB)
    with pytest.raises(
        DataError, match=r"'obs_names' holds Python objects.* numpy\.asarray\(names, dtype=str\)"
    ):
        read_table(tmp_path / "objects.npz")
    (tmp_path / "text.csv").write_text("cell,x\na,high\n")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:200])
    with pytest.raises(DataError, match=r"(?s)cut\.npz.*cannot be read as npz"):
        read_table(tmp_path / "cut.npz")
    with pytest.raises(DataError, match=r"cannot be read as csv: .*high"):
        read_table(tmp_path / "text.csv")


def test_numbers_that_are_none_matter_only_for_the_cells_asked_for(tmp_path):
    X_emb = X_EMB.copy()
    X_emb[1, 0] = np.nan
    table = read_table(tmp_path / write(tmp_path / "nan.npz", X_emb=X_emb))
    np.testing.assert_array_equal(table.rows(["c"]), X_EMB[[2]])
    with pytest.raises(DataError, match="1 cells hold NaN or infinity, such as 'b'"):
        table.rows(["c", "b"])


def test_no_file_says_so(train):
    with pytest.raises(UserError, match="parameter 'file' is missing"):
        Precomputed().fit(train)


@pytest.fixture
def example_file(tmp_path, train, query):
    """Principal components of all cells of the example, under their names."""
    cells = anndata.concat([train, query])
    X_emb = PCA(n_components=20).fit_embed(cells)
    return write(tmp_path / "example.npz", names=list(cells.obs_names), X_emb=X_emb)


def test_neighbours_vote_in_the_embedding(example_file, train, query):
    embed = Precomputed(file=example_file).fit(train).embed
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(15).fit(embed(train), labels(train))
    prediction = PrecomputedClassifier(file=example_file).fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, voters.predict_proba(embed(query)))
    assert np.mean(prediction.label_pred == labels(query)) > 0.95
    assert prediction.rejected is None


def test_logistic_regression_reads_standardised_dimensions(example_file, train, query):
    embed = Precomputed(file=example_file).fit(train).embed
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    expected = reference.fit(embed(train), labels(train)).predict_proba(embed(query))
    model = PrecomputedClassifier(file=example_file, classifier="logistic_regression", reject_below=0.9)
    prediction = model.fit(train).predict(query)
    np.testing.assert_allclose(prediction.label_proba, expected)
    np.testing.assert_array_equal(prediction.rejected, expected.max(axis=1) < 0.9)
    with pytest.raises(UserError, match="Unknown classifier 'svm'"):
        PrecomputedClassifier(file=example_file, classifier="svm")


@pytest.mark.parametrize("method", [Precomputed, PrecomputedClassifier])
def test_every_promise_is_kept_with_a_file(example_file, method):
    results = check_method(method, params={"file": example_file})
    assert [(r.check_id, r.message) for r in results if r.status == "failed"] == []
    assert {r.status for r in results if r.check_id in ("runs", "beats_chance", "cell_order")} == {"passed"}
    without = check_method(method)
    assert {r.message for r in without[1:]} == {"needs the parameter file"}


def test_the_numbers_of_the_file_decide_and_not_the_expression(example_file, train, query):
    blank = query.copy()
    blank.X = blank.X * 0
    given = PrecomputedClassifier(file=example_file).fit(train)
    np.testing.assert_array_equal(given.predict(blank).label_pred, given.predict(query).label_pred)
    plain = KNearestNeighbours().fit(train).predict(blank).label_pred
    assert np.mean(plain == labels(query)) < 0.7


def test_names_of_cells_in_csv_keep_their_spelling(tmp_path):
    (tmp_path / "e.csv").write_text("cell,x\nNA,1\n007,2\n7,3\n1E1,4\n")
    assert list(read_table(tmp_path / "e.csv").position) == ["NA", "007", "7", "1E1"]


@pytest.mark.parametrize("kind", ["dense", "csr", "csc", "frame"])
def test_an_embedding_of_any_kind_is_read_whatever_else_the_file_holds(tmp_path, kind):
    import h5py
    from scipy import sparse

    X_emb = np.arange(2.0 * len(NAMES)).reshape(len(NAMES), 2)
    obsm = {
        "dense": X_emb,
        "csr": sparse.csr_matrix(X_emb),
        "csc": sparse.csc_matrix(X_emb),
        "frame": pd.DataFrame(X_emb, index=NAMES, columns=["a", "b"]),
    }
    path = tmp_path / "x.h5ad"
    adata = anndata.AnnData(obs=pd.DataFrame(index=NAMES), obsm={"X_e": obsm[kind]}, uns={"model": 1})
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["uns/model"].attrs["encoding-type"] = "of-a-later-version"
    np.testing.assert_array_equal(read_table(path).rows(list(NAMES)), X_emb)
