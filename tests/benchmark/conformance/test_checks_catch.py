"""Every check is tried on an adapter that breaks its promise and no other, and on a healthy twin."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.benchmark.conformance import check_method, checks, data
from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import Corrected, Graph, MethodSpec, Prediction

INTEGRATOR = MethodSpec(method_id="healthy", name="Healthy", tasks=("integration",))
ANNOTATOR = MethodSpec(
    method_id="healthy", name="Healthy", tasks=("annotation", "novelty"), labels="train", inductive=True
)


class HealthyIntegrator:
    """The expression matrix."""

    spec = INTEGRATOR

    def __init__(self, *, seed: int = 0):
        self.seed = seed

    def fit_embed(self, adata):
        return adata.X.toarray()


class HealthyEncoder:
    """The expression matrix, centred on the training cells."""

    spec = MethodSpec(method_id="healthy", name="Healthy", tasks=("integration",), inductive=True)

    def __init__(self, *, seed: int = 0):
        self.seed = seed

    def fit(self, train):
        self.mean = train.X.toarray().mean(axis=0)

    def embed(self, query):
        return query.X.toarray() - self.mean


class HealthyLinks(HealthyIntegrator):
    """Links every cell to those that correlate with it."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return Graph(connectivities=csr_matrix(np.maximum(np.corrcoef(super().fit_embed(adata)) - 0.3, 0)))


class HealthyCorrection(HealthyIntegrator):
    """Twice the expression, with that of the first half of the genes as embedding."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        X = super().fit_embed(adata)
        return Corrected(X=2 * X, X_emb=X[:, : X.shape[1] // 2])


class HealthyAnnotator:
    """The nearest mean profile, with probabilities by distance."""

    spec = ANNOTATOR

    def __init__(self, *, seed: int = 0):
        self.seed = seed

    def fit(self, train):
        label = np.asarray(train.obs["label"]).astype(str)
        self.labels = np.unique(label)
        X = train.X.toarray()
        self.profiles = np.stack([X[label == name].mean(axis=0) for name in self.labels])

    def predict(self, query):
        distance = np.linalg.norm(query.X.toarray()[:, None, :] - self.profiles[None], axis=2)
        weight = np.exp(distance.min(axis=1, keepdims=True) - distance)
        return Prediction(
            label_pred=self.labels[distance.argmin(axis=1)],
            label_proba=weight / weight.sum(axis=1, keepdims=True),
            labels=tuple(self.labels.tolist()),
            novelty=distance.min(axis=1),
        )


class SparseCorrection(HealthyIntegrator):
    """The expression matrix as corrected expression, sparse as it came."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return Corrected(X=adata.X)


class EncodedCorrection(HealthyEncoder):
    """Corrected expression of unseen cells, without an embedding of its own."""

    spec = HealthyEncoder.spec

    def embed(self, query):
        return Corrected(X=super().embed(query))


class DenseLinks(HealthyLinks):
    """Links as a plain matrix."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return Graph(connectivities=super().fit_embed(adata).connectivities.toarray())


class NamedRows(HealthyIntegrator):
    """A table whose rows carry the names of the cells."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return pd.DataFrame(super().fit_embed(adata), index=adata.obs_names)


class ListsAndBytes(HealthyAnnotator):
    """Labels as bytes, and everything else as lists."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        return Prediction(
            label_pred=prediction.label_pred.astype("S"),
            label_proba=prediction.label_proba.tolist(),
            labels=list(prediction.labels),
            novelty=prediction.novelty.tolist(),
            rejected=[False] * query.n_obs,
        )


HEALTHY = [
    HealthyIntegrator,
    HealthyEncoder,
    HealthyLinks,
    HealthyCorrection,
    HealthyAnnotator,
    SparseCorrection,
    EncodedCorrection,
    DenseLinks,
    NamedRows,
    ListsAndBytes,
]


def changed(prediction, **values):
    fields = {name: getattr(prediction, name) for name in Prediction.__slots__}
    return Prediction(**{**fields, **values})


class PositionalConstructor(HealthyIntegrator):
    """Takes its seed by position."""

    spec = INTEGRATOR

    def __init__(self, seed=0):
        self.seed = seed


class Undocumented(HealthyIntegrator):
    spec = INTEGRATOR


class WithoutEmbed(HealthyIntegrator):
    """Says that it is inductive, but cannot embed unseen cells."""

    spec = HealthyEncoder.spec


class OddName(HealthyIntegrator):
    """Has a name that cannot be typed safely."""

    spec = MethodSpec(method_id="My Method", name="My Method", tasks=("integration",))


class WrongExcuse(HealthyIntegrator):
    """Is excused from a check that does not exist."""

    spec = MethodSpec(
        method_id="healthy",
        name="Healthy",
        tasks=("integration",),
        expected_failed_checks={"cell_ordre": "a slip"},
    )


class LearnsFromNothing(HealthyAnnotator):
    """Annotates without labels."""

    spec = MethodSpec(method_id="healthy", name="Healthy", tasks=("annotation",), inductive=True)


class Crashes(HealthyIntegrator):
    """Cannot cope with anything."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        raise ValueError("boom")


class LosesCells(HealthyIntegrator):
    """Filters cells."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return super().fit_embed(adata)[1:]


class LosesLinks(HealthyLinks):
    """Filters cells of one side of the links."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return Graph(connectivities=super().fit_embed(adata).connectivities[1:])


class LosesCorrectedCells(HealthyCorrection):
    """Filters cells of the corrected expression, not of the embedding."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        returned = super().fit_embed(adata)
        return Corrected(X=returned.X[1:], X_emb=returned.X_emb)


class LosesPredictions(HealthyAnnotator):
    """Gives a novelty for all cells but one."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        return changed(prediction, novelty=prediction.novelty[1:])


class ReturnsNothing(HealthyIntegrator):
    """Forgets to return what it computed."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        super().fit_embed(adata)


class LosesGenes(HealthyCorrection):
    """Corrects some of the genes."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return Corrected(X=super().fit_embed(adata).X[:, :50])


class RenamesCells(HealthyIntegrator):
    """Names its rows after no cell that it was given."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        X = super().fit_embed(adata)
        return pd.DataFrame(X, index=[f"c{position}" for position in range(len(X))])


class NotFinite(HealthyIntegrator):
    """Divides by zero."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        embedding = super().fit_embed(adata)
        embedding[0, 0] = np.nan
        return embedding


class NotFiniteLinks(HealthyLinks):
    """Divides by zero."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        links = super().fit_embed(adata).connectivities
        links.data[0] = np.nan
        return Graph(connectivities=links)


class NotFiniteCorrection(HealthyCorrection):
    """Divides by zero in the corrected expression, not in the embedding."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        returned = super().fit_embed(adata)
        returned.X[0, 0] = np.inf
        return returned


class NotFiniteNovelty(HealthyAnnotator):
    """Takes the logarithm of zero."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        return changed(prediction, novelty=np.where(prediction.novelty > 0, np.inf, 0.0))


class NegativeLinks(HealthyLinks):
    """Takes correlations for weights."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        links = super().fit_embed(adata).connectivities
        links.data[0] = -0.1
        return Graph(connectivities=links)


class LeavesLabelsOut(HealthyAnnotator):
    """Has no label for a cell."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        label_pred = prediction.label_pred.astype(object)
        label_pred[0] = np.nan
        return changed(prediction, label_pred=label_pred)


class SharesNames(HealthyAnnotator):
    """Calls two columns of probabilities the same."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        return changed(prediction, labels=(prediction.labels[0], *prediction.labels[:-1]))


class Unnormalised(HealthyAnnotator):
    """Calls weights probabilities."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        return changed(prediction, label_proba=prediction.label_proba * 0.9)


class Unnamed(HealthyAnnotator):
    """Does not say which column is which."""

    spec = ANNOTATOR

    def predict(self, query):
        return changed(super().predict(query), labels=None)


class InventsLabels(HealthyAnnotator):
    """Says so in the label where it is in doubt."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        doubtful = prediction.novelty > np.quantile(prediction.novelty, 0.9)
        return changed(prediction, label_pred=np.where(doubtful, "unknown", prediction.label_pred))


class NoNovelty(HealthyAnnotator):
    """Promises novelty, gives none."""

    spec = ANNOTATOR

    def predict(self, query):
        return changed(super().predict(query), novelty=None)


class Ignorant(HealthyIntegrator):
    """Embeds the library size."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return np.asarray(adata.layers["counts"].sum(axis=1))


class IgnorantLinks(HealthyLinks):
    """Links the cells of like library size."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        total = np.asarray(adata.layers["counts"].sum(axis=1)).ravel()
        return Graph(connectivities=csr_matrix(np.abs(total[:, None] - total) < 50.0, dtype=np.float64))


class IgnorantAnnotator(HealthyAnnotator):
    """Takes each label for the next one."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        following = dict(zip(self.labels, np.roll(self.labels, 1), strict=True))
        return changed(prediction, label_pred=np.array([following[name] for name in prediction.label_pred]))


class SortsCells(HealthyIntegrator):
    """Returns rows sorted by the names of the cells."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        return super().fit_embed(adata)[np.argsort(adata.obs_names)]


class SortsLinks(HealthyLinks):
    """Returns links sorted by the names of the cells."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        order = np.argsort(adata.obs_names)
        return Graph(connectivities=super().fit_embed(adata).connectivities[order][:, order])


class SortsCorrectedCells(HealthyCorrection):
    """Returns the corrected expression, and it alone, sorted by the names of the cells."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        returned = super().fit_embed(adata)
        return Corrected(X=returned.X[np.argsort(adata.obs_names)], X_emb=returned.X_emb)


class SortsEncodedCells(HealthyEncoder):
    """The same, for unseen cells."""

    spec = HealthyEncoder.spec

    def embed(self, query):
        return super().embed(query)[np.argsort(query.obs_names)]


class SortsNovelty(HealthyAnnotator):
    """Returns novelty, and novelty alone, sorted by the names of the cells."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        return changed(prediction, novelty=prediction.novelty[np.argsort(query.obs_names)])


class ParsesNames(HealthyIntegrator):
    """Takes the names of cells for numbers."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        assert [int(name) for name in adata.obs_names]
        return super().fit_embed(adata)


class ReadsNames(HealthyIntegrator):
    """Lets the names of cells move them."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        lengths = np.array([len(name) for name in adata.obs_names])
        return super().fit_embed(adata) * lengths[:, None]


class SpiesOnNames(HealthyAnnotator):
    """Answers with the type that the name of a cell carries, if it does."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        said = [name.partition("_")[0] for name in query.obs_names]
        known = [
            name if name in self.labels else own
            for name, own in zip(said, prediction.label_pred, strict=True)
        ]
        return changed(prediction, label_pred=np.array(known))


class ReliesOnOrder(HealthyAnnotator):
    """Takes for granted which type comes first, as in a file that is sorted by type."""

    spec = ANNOTATOR

    def fit(self, train):
        super().fit(train)
        label = np.asarray(train.obs["label"], dtype=np.str_)
        self.is_sorted = str(label[0]) == str(data.simulate().train.obs["label"].iloc[0])

    def predict(self, query):
        prediction = super().predict(query)
        if self.is_sorted:
            return prediction
        following = dict(zip(self.labels, np.roll(self.labels, 1), strict=True))
        return changed(prediction, label_pred=np.array([following[name] for name in prediction.label_pred]))


class CountsCells(HealthyAnnotator):
    """Knows every tenth scored cell by its place."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        label = prediction.label_pred.copy()
        label[::5] = np.resize(self.labels, len(label[::5]))
        return changed(prediction, label_pred=label)


class Remembers(HealthyAnnotator):
    """Keeps the labels of the cells that it learns from, by name, in a file of the home folder."""

    spec = ANNOTATOR

    def fit(self, train):
        super().fit(train)
        self.file = Path.home() / ".remembered.json"
        self.known = json.loads(self.file.read_text()) if self.file.exists() else {}
        label = np.asarray(train.obs["label"], dtype=np.str_).tolist()
        self.file.write_text(json.dumps(self.known | dict(zip(train.obs_names, label, strict=True))))

    def predict(self, query):
        prediction = super().predict(query)
        pairs = zip(query.obs_names, prediction.label_pred, strict=True)
        return changed(prediction, label_pred=np.array([self.known.get(name, own) for name, own in pairs]))


class RemembersExpression(HealthyAnnotator):
    """Keeps the labels of the cells that it learns from, by expression, in its class."""

    spec = ANNOTATOR
    known: ClassVar[dict] = {}

    def fit(self, train):
        super().fit(train)
        label = np.asarray(train.obs["label"], dtype=np.str_)
        type(self).known |= {row.tobytes(): name for row, name in zip(train.X.toarray(), label, strict=True)}

    def predict(self, query):
        prediction = super().predict(query)
        pairs = zip(query.X.toarray(), prediction.label_pred, strict=True)
        return changed(
            prediction, label_pred=np.array([self.known.get(row.tobytes(), own) for row, own in pairs])
        )


class WritesToInput(HealthyIntegrator):
    """Scales the matrix in place."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        adata.X = adata.X * 2
        return super().fit_embed(adata)


class AddsColumn(HealthyAnnotator):
    """Leaves its predictions in the query."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        query.obs["predicted"] = prediction.label_pred
        return prediction


class SeedsGlobally(HealthyIntegrator):
    """Seeds the generator that everybody shares."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        np.random.seed(self.seed)  # noqa: NPY002 - the shared generator is the point
        return super().fit_embed(adata)


class SeedsTorch(HealthyIntegrator):
    """Seeds torch for everybody."""

    spec = MethodSpec(method_id="healthy", name="Healthy", tasks=("integration",), requires=("torch",))

    def fit_embed(self, adata):
        import torch

        torch.manual_seed(self.seed)
        return super().fit_embed(adata)


class LeavesFiles(HealthyIntegrator):
    """Writes a log where it stands."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        Path("training.log").write_text("epoch 1")
        return super().fit_embed(adata)


class DrawsGlobally(HealthyIntegrator):
    """Draws from the shared generator, and hides it."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        state = np.random.get_state()  # noqa: NPY002 - the shared generator is the point
        noise = np.random.normal(scale=0.1, size=adata.shape)  # noqa: NPY002 - the shared generator is the point
        embedding = super().fit_embed(adata) + noise
        np.random.set_state(state)  # noqa: NPY002 - the shared generator is the point
        return embedding


class Peeks(HealthyIntegrator):
    """Uses labels when it finds some."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        embedding = super().fit_embed(adata)
        if "label" in adata.obs:
            embedding += 10.0 * np.asarray(adata.obs["label"].cat.codes)[:, None]
        return embedding


class PeeksAtQuery(HealthyAnnotator):
    """Answers with the labels of the query when it finds some."""

    spec = ANNOTATOR

    def predict(self, query):
        prediction = super().predict(query)
        if "label" not in query.obs:
            return prediction
        rolled = np.roll(prediction.label_pred, 1)
        return changed(prediction, label_pred=rolled)


class NeedsBatches(HealthyIntegrator):
    """Cannot cope with one batch and does not say so."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        if adata.obs["batch"].nunique() < 2:
            raise ZeroDivisionError("no other batch")
        return super().fit_embed(adata)


class UndeclaredBatches(HealthyIntegrator):
    """Says so when it runs, but not in its spec."""

    spec = INTEGRATOR

    def fit_embed(self, adata):
        if adata.obs["batch"].nunique() < 2:
            raise NotApplicableError("one batch")
        return super().fit_embed(adata)


class NeedsManyCells(HealthyAnnotator):
    """Folds the cells of each label."""

    spec = ANNOTATOR

    def fit(self, train):
        if train.obs["label"].value_counts().min() < 5:
            raise ValueError("n_splits=5 cannot be greater than the number of members in each class")
        super().fit(train)


BROKEN = {
    PositionalConstructor: "spec_sane",
    Undocumented: "spec_sane",
    WithoutEmbed: "spec_sane",
    OddName: "spec_sane",
    WrongExcuse: "spec_sane",
    LearnsFromNothing: "spec_sane",
    Crashes: "runs",
    LosesCells: "output_shape",
    LosesLinks: "output_shape",
    LosesCorrectedCells: "output_shape",
    LosesPredictions: "output_shape",
    ReturnsNothing: "output_shape",
    LosesGenes: "output_shape",
    RenamesCells: "output_shape",
    Unnamed: "output_shape",
    NotFinite: "finite",
    NotFiniteLinks: "finite",
    NotFiniteCorrection: "finite",
    NotFiniteNovelty: "finite",
    NegativeLinks: "finite",
    LeavesLabelsOut: "finite",
    SharesNames: "output_shape",
    Unnormalised: "probabilities",
    InventsLabels: "known_labels",
    NoNovelty: "novelty_given",
    Ignorant: "beats_chance",
    IgnorantLinks: "beats_chance",
    IgnorantAnnotator: "beats_chance",
    SortsCells: "cell_order cell_names",
    SortsLinks: "cell_order cell_names",
    SortsCorrectedCells: "cell_order cell_names",
    SortsEncodedCells: "cell_order cell_names",
    SortsNovelty: "cell_order cell_names",
    CountsCells: "cell_order other_order_and_names",
    ParsesNames: "cell_names other_order_and_names",
    ReadsNames: "cell_names",
    SpiesOnNames: "cell_names",
    ReliesOnOrder: "other_order_and_names",
    Remembers: "nothing_remembered",
    RemembersExpression: "nothing_remembered",
    WritesToInput: "input_unchanged",
    AddsColumn: "input_unchanged",
    SeedsGlobally: "random_state",
    SeedsTorch: "random_state",
    LeavesFiles: "writes_nothing",
    DrawsGlobally: "seed_repeats",
    Peeks: "labels_unused",
    PeeksAtQuery: "labels_unused",
    NeedsBatches: "single_batch",
    UndeclaredBatches: "single_batch",
    NeedsManyCells: "rare_label",
}


def failures(method_class):
    return [result.check_id for result in check_method(method_class) if result.status == "failed"]


@pytest.mark.parametrize("method_class", HEALTHY)
def test_healthy_adapters_fail_nothing(method_class):
    assert failures(method_class) == []


@pytest.mark.parametrize("method_class", BROKEN, ids=lambda method_class: method_class.__name__)
def test_a_broken_adapter_fails_its_checks_and_no_other(method_class, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert failures(method_class) == BROKEN[method_class].split()


@pytest.mark.parametrize(
    ("method_class", "check_id", "message"),
    [
        (ReturnsNothing, "output_shape", "healthy: the embedding has shape ()"),
        (LosesGenes, "output_shape", "has 50 genes, expected 80"),
        (Unnamed, "output_shape", "expected (120, 0): one row per cell, one column per name in labels"),
        (LeavesLabelsOut, "finite", "label_pred is missing (None, NaN or empty) for 1 of 120 cells"),
    ],
)
def test_an_output_that_a_run_refuses_is_told_once_in_its_words(method_class, check_id, message):
    results = {result.check_id: result for result in check_method(method_class)}
    assert message in results[check_id].message
    assert "it raised" not in results[check_id].message
    for dependent in ("beats_chance", "cell_order", "cell_names", "seed_repeats", "labels_unused"):
        assert results[dependent].status == "skipped"
        assert results[dependent].message == f"needs the check '{check_id}' to pass"
    assert results["input_unchanged"].status == "passed"


def test_an_output_of_later_data_that_a_run_refuses_is_told_in_its_words():
    class LosesOneBatch(HealthyIntegrator):
        """Drops a cell where there is one batch."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            return super().fit_embed(adata)[int(adata.obs["batch"].nunique() == 1) :]

    failed = [result for result in check_method(LosesOneBatch) if result.status == "failed"]
    assert [result.check_id for result in failed] == ["single_batch"]
    assert "Found: healthy: the embedding has shape (119, 80), expected (120, n_latent)" in failed[0].message


def test_an_embedding_of_another_width_in_another_order_is_told_as_such():
    class WidthByOrder(HealthyEncoder):
        """Loses a column where another cell comes first."""

        spec = HealthyEncoder.spec

        def embed(self, query):
            return super().embed(query)[:, int(query.obs_names[0] != "1240") :]

    failed = {result.check_id: result for result in check_method(WidthByOrder) if result.status == "failed"}
    assert "has another shape: (120, 80) and (120, 79)" in failed["cell_order"].message


def test_an_error_that_cannot_say_its_text_is_told_by_its_class():
    class UnsayableError(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    class Unsayable(HealthyIntegrator):
        """Raises what cannot be printed."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            raise UnsayableError

    runs = {result.check_id: result for result in check_method(Unsayable)}["runs"]
    assert runs.status == "failed"
    assert "it raised UnsayableError: (no text: its __str__ raised RuntimeError)" in runs.message


def test_an_unseeded_adapter_is_caught():
    class Unseeded(HealthyIntegrator):
        """Ignores its seed: every run is another one, so every comparison of runs may fail."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            return super().fit_embed(adata) + np.random.default_rng().normal(scale=0.1, size=adata.shape)

    assert "seed_repeats" in failures(Unseeded)


def test_rows_grouped_by_batch_are_caught():
    class GroupsByBatch(HealthyIntegrator):
        """Concatenates its batches: the slip of three published benchmarks."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            order = np.argsort(np.asarray(adata.obs["batch"]), kind="stable")
            return super().fit_embed(adata)[order]

    assert failures(GroupsByBatch) == ["beats_chance", "cell_order", "other_order_and_names"]


def test_noise_and_rotation_by_cell_order_are_no_fault_of_a_transductive_method():
    class TurnsWithOrder(HealthyIntegrator):
        """Like Harmony or a network, ends elsewhere when it starts from another cell."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            X = super().fit_embed(adata)
            generator = np.random.default_rng(int(1e6 * X[0].sum()))
            rotation = np.linalg.qr(generator.normal(size=(X.shape[1], X.shape[1])))[0]
            return X @ rotation + generator.normal(scale=0.1 * X.std(), size=X.shape)

    assert failures(TurnsWithOrder) == []


def test_every_check_has_an_adapter_that_breaks_it():
    assert set(" ".join(BROKEN.values()).split()) == {check.check_id for check in checks()}


def test_a_failed_check_says_what_was_found_and_how_to_mend_it():
    result = next(r for r in check_method(NoNovelty) if r.check_id == "novelty_given")
    assert "predict gave no novelty" in result.message
    assert "Set Prediction.novelty" in result.hint


def test_a_failure_within_a_library_names_the_line_of_the_method():
    class Unlucky(HealthyIntegrator):
        """Asks numpy for what it cannot do."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            return np.linalg.cholesky(-np.eye(3))  # the line to be named

    runs = {result.check_id: result for result in check_method(Unlucky)}["runs"]
    assert (
        "it raised LinAlgError: Matrix is not positive definite (test_checks_catch.py, line " in runs.message
    )
    assert "np.linalg.cholesky(-np.eye(3))  # the line to be named)" in runs.message
    assert "data.simulate()" in runs.hint


def test_an_excuse_turns_a_failure_into_an_expected_one():
    class Excused(Ignorant):
        """Embeds the library size, and says so."""

        spec = MethodSpec(
            method_id="excused",
            name="Excused",
            tasks=("integration",),
            expected_failed_checks={"beats_chance": "library size alone"},
        )

    results = {result.check_id: result for result in check_method(Excused)}
    assert results["beats_chance"].status == "expected_failure"
    assert results["beats_chance"].message == "library size alone"
    assert results["cell_order"].status == "passed"


def test_a_method_that_is_not_applicable_is_skipped_with_its_reason():
    class Elsewhere(HealthyIntegrator):
        """Wants other data."""

        spec = INTEGRATOR

        def fit_embed(self, adata):
            raise NotApplicableError("wants spatial coordinates")

    results = check_method(Elsewhere)
    assert [r.status for r in results] == ["passed"] + ["skipped"] * (len(results) - 1)
    assert results[1].message == "wants spatial coordinates"


def test_a_method_whose_packages_are_missing_is_skipped_with_their_names():
    class Missing(HealthyIntegrator):
        """Needs what nobody has."""

        spec = MethodSpec(
            method_id="missing", name="Missing", tasks=("integration",), requires=("no_such_package",)
        )

    results = check_method(Missing)
    assert results[0].status == "passed"
    assert {r.message for r in results[1:]} == {"needs no_such_package, which is not installed"}


def test_parameters_reach_the_constructor():
    class Scaled(HealthyIntegrator):
        """Gives NaN on demand."""

        spec = INTEGRATOR

        def __init__(self, *, scale: float = 1.0, seed: int = 0):
            self.scale = scale

        def fit_embed(self, adata):
            return super().fit_embed(adata) * self.scale

    failed = [r.check_id for r in check_method(Scaled, params={"scale": np.nan}) if r.status == "failed"]
    assert failed == ["finite"]


def test_checking_leaves_the_global_generators_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the shared generator is the point
    check_method(DrawsGlobally)
    check_method(SeedsGlobally)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - the shared generator is the point
