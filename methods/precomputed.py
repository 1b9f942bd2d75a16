"""Embeddings computed elsewhere, for example by foundation models, joined to the cells by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, DataError, UnknownNameError, UserError
from cellular_bench.core.h5ad import problem_of_storage
from cellular_bench.core.npz import open_npz
from cellular_bench.core.sparse_checks import fault
from cellular_bench.core.tables import read_named
from cellular_bench.core.types import MethodSpec, Prediction, Pretrained
from cellular_bench.methods._inputs import require_labels
from cellular_bench.methods._predictions import most_probable, nearest_voters
from cellular_bench.methods.pretrained import check_month, pretrained_model

if TYPE_CHECKING:
    from anndata import AnnData

CLASSIFIERS = ("knn", "logistic_regression")
#: Number of names that an error message lists.
N_EXAMPLES = 3


class Precomputed:
    """An embedding that was computed elsewhere, read from a file.

    The file must contain every cell of the data, by name and in any order; additional cells are ignored.
    ``docs/methods/precomputed.md`` shows how to write such a file. Nothing is trained here. A model may have
    been trained on these very cells: ``trained_until`` is compared with the month in which the data set
    became public, and the table marks the row unless the data are newer.

    Parameters
    ----------
    file
        ``.h5ad``: an entry of ``obsm``. ``.npz``: arrays ``obs_names`` (n,) and ``X_emb`` (n, n_latent).
        ``.csv``: a header line, then one line per cell with its name and values.
    key
        Entry of ``obsm``; may be None if there is only one.
    model
        Name of the model that made the embedding, which names the row: one of
        :data:`cellular_bench.methods.pretrained.MODELS`, such as ``"scgpt"``, or any other.
    trained_until
        Last month that its training data can be from, such as ``"2023-05"``; None: as known for ``model``.
    seed
        Not used; there is no randomness.

    Raises
    ------
    DataError
        If the file cannot be read in one of these formats, or if a cell is missing.
    UserError
        If ``trained_until`` is not a month.
    """

    spec = MethodSpec(
        method_id="precomputed",
        name="Precomputed embedding",
        tasks=("integration",),
        description="An embedding computed elsewhere, from a file (h5ad, npz or csv), joined by cell name.",
        inductive=True,
        needs_names=True,
        requires=("anndata", "pandas"),
        needs_params=("file",),
        file_params=("file",),
    )

    def __init__(
        self,
        *,
        file: str | None = None,
        key: str | None = None,
        model: str | None = None,
        trained_until: str | None = None,
        seed: int = 0,
    ) -> None:
        if trained_until is not None:
            check_month(trained_until, f"{self.spec.method_id}: parameter 'trained_until'")
        self.file = file
        self.key = key
        self.seed = seed
        self._table: Table | None = None

    @classmethod
    def pretrained(cls, params: Mapping[str, Any]) -> Pretrained:
        """Describe the model that made the embedding, by the parameters of a run."""
        return pretrained_model(params["model"] or cls.spec.name, params["trained_until"])

    def fit(self, train: AnnData) -> Self:
        """Read the file."""
        if self.file is None:
            raise UserError(f"{self.spec.method_id}: parameter 'file' is missing. Name the file to read.")
        self._table = read_table(Path(self.file), key=self.key)
        return self

    def embed(self, query: AnnData) -> NDArray[np.float32]:
        """Return the rows of the file that belong to these cells, (n_obs, n_latent)."""
        if self._table is None:
            raise ContractError(
                f"{self.spec.method_id}: embed or predict was called before fit. Call fit first."
            )
        return self._table.rows([str(name) for name in query.obs_names])


class PrecomputedClassifier(Precomputed):
    """Labels predicted by a classifier on an embedding that was computed elsewhere.

    Parameters
    ----------
    file, key, model, trained_until
        As for :class:`Precomputed`.
    classifier
        ``"knn"``: vote of the nearest training cells. ``"logistic_regression"``: on standardised dimensions.
    n_neighbors
        Number of neighbours that vote (``"knn"`` only).
    reject_below
        Cells whose highest probability is below this value are rejected; 0 rejects none.
    seed
        Not used; there is no randomness.
    """

    spec = replace(
        Precomputed.spec,
        method_id="precomputed_classifier",
        name="Precomputed embedding, classifier",
        tasks=("annotation", "novelty"),
        description="Nearest neighbours or logistic regression on an embedding computed elsewhere.",
        labels="train",
        requires=("anndata", "pandas", "sklearn"),
    )

    def __init__(
        self,
        *,
        file: str | None = None,
        key: str | None = None,
        model: str | None = None,
        trained_until: str | None = None,
        classifier: str = "knn",
        n_neighbors: int = 15,
        reject_below: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(file=file, key=key, model=model, trained_until=trained_until, seed=seed)
        if classifier not in CLASSIFIERS:
            raise UnknownNameError("classifier", classifier, CLASSIFIERS)
        self.classifier = classifier
        self.n_neighbors = n_neighbors
        self.reject_below = reject_below

    def fit(self, train: AnnData) -> Self:
        """Read the file and fit the classifier on the training cells."""
        labels = require_labels(train, self.spec.method_id)
        super().fit(train)
        self._fitted = self._fit_classifier(self.embed(train), labels)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        X_emb = self.embed(query)
        probability = self._fitted.predict_proba(X_emb)
        return most_probable(probability, self._fitted.classes_, reject_below=self.reject_below)

    def _fit_classifier(self, X_emb: NDArray[np.float32], labels: NDArray[np.str_]) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.classifier == "knn":
            return nearest_voters(X_emb, labels, n_neighbors=self.n_neighbors)
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X_emb, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An embedding (n, n_latent) with the row of each cell name."""

    source: str
    position: dict[str, int]
    X_emb: NDArray[np.float32]

    def rows(self, names: list[str]) -> NDArray[np.float32]:
        """Return the rows of the named cells, in the given order; all must be there and finite."""
        missing = [name for name in names if name not in self.position]
        if missing:
            raise DataError(
                self.source,
                [
                    f"It lacks {len(missing)} of {len(names)} cells, such as {_some(missing)}; it has names "
                    f"such as {_some(self.position)}. Use the cell names of the data (obs_names)."
                ],
            )
        rows = self.X_emb[[self.position[name] for name in names]]
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            which = _some(np.asarray(names)[bad].tolist())
            raise DataError(self.source, [f"{int(bad.sum())} cells hold NaN or infinity, such as {which}."])
        return rows


def read_table(path: Path, *, key: str | None = None) -> Table:
    """Read an embedding from an h5ad, npz or csv file.

    Raises
    ------
    DataError
        If the file cannot be read, its arrays do not match, or a cell name occurs twice.
    """
    readers = {".h5ad": _read_h5ad, ".npz": _read_npz, ".csv": _read_csv}
    reader = readers.get(path.suffix)
    if reader is None:
        raise DataError(str(path), [f"Its name ends in '{path.suffix}'; supported are {', '.join(readers)}."])
    try:
        names, X_emb = reader(path, key)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(str(path), [f"It cannot be read as {path.suffix[1:]}: {error}"]) from error
    table = np.asarray(X_emb, dtype=np.float32)
    if table.ndim != 2 or len(table) != len(names) or not table.size:
        raise DataError(
            str(path),
            [f"It has {len(names)} names and an embedding of shape {table.shape}; expected a row per name."],
        )
    position = {name: row for row, name in enumerate(names)}
    if len(position) < len(names):
        twice = [name for row, name in enumerate(names) if position[name] != row]
        raise DataError(str(path), [f"It names {len(twice)} cells more than once, such as {_some(twice)}."])
    return Table(source=str(path), position=position, X_emb=table)


def _read_h5ad(path: Path, key: str | None) -> tuple[list[str], Any]:
    import h5py
    from anndata.io import read_elem

    # Only what is needed: other entries may be of another version of anndata.
    with h5py.File(path, "r") as file:
        if problem := problem_of_storage(file):
            raise ValueError(problem)
        known = list(file["obsm"]) if "obsm" in file else []
        if key is None and len(known) != 1:
            raise ValueError(f"obsm holds {len(known)} entries ({', '.join(known)}); name one by 'key'")
        chosen = known[0] if key is None else key
        if chosen not in known:
            raise ValueError(f"obsm has no entry '{chosen}'; it has {', '.join(known) or 'none'}")
        names = read_elem(file["obs"][file["obs"].attrs["_index"]])
        X_emb = read_elem(file["obsm"][chosen])
    if why := fault(X_emb):
        raise ValueError(f"obsm['{chosen}'] is damaged: {why}")
    return [str(name) for name in names], X_emb.toarray() if hasattr(X_emb, "toarray") else X_emb


def _read_npz(path: Path, key: str | None) -> tuple[list[str], Any]:
    with open_npz(path.resolve()) as arrays:
        missing = {"obs_names", "X_emb"} - set(arrays.stored)
        if missing:
            raise ValueError(
                f"it lacks the array {', '.join(sorted(missing))}; it has {', '.join(arrays.stored)}"
            )
        return [str(name) for name in np.atleast_1d(arrays.read("obs_names"))], arrays.read("X_emb")


def _read_csv(path: Path, key: str | None) -> tuple[list[str], Any]:
    table = read_named(path)
    return table.index.tolist(), table.to_numpy(dtype=np.float32)


def _some(names: Any) -> str:
    """Format the first few names for a message."""
    return ", ".join(repr(str(name)) for name in list(names)[:N_EXAMPLES])
