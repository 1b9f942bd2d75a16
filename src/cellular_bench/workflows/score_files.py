"""Files that hold what ``run-benchmark score`` scores: predictions, embeddings, corrected matrices."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellular_bench.core.errors import ContractError, UnknownNameError, UserError
from cellular_bench.core.files import open_regular
from cellular_bench.core.keys import NA_TEXTS
from cellular_bench.core.labels import (
    label_name,
    label_names,
    missing_words,
    note_on_spellings,
    note_on_unseen,
    notes_on_names,
)
from cellular_bench.core.layers import named_layers
from cellular_bench.core.npz import most_unpacked, read_arrays
from cellular_bench.core.returned import array_of, check_order, sound
from cellular_bench.core.tables import read_text_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Columns whose names begin so hold the probability of the label that follows.
PROBA = "proba:"
_WHOLE = re.compile(r"-?[0-9]+")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What one method says of the cells of one fold: the arguments of metrics, by name."""

    method_id: str
    fold: str | int | None
    inputs: Mapping[str, Any]


def read_predictions(path: Path) -> Iterator[Predicted]:
    """Read a file of true and predicted labels, per method and fold; see :func:`predicted_in`."""
    name = re.sub(r"(\.(csv|tsv|txt|parquet))?(\.gz)?$", "", path.name)
    return predicted_in(_read_table(path), name, where=path)


def predicted_in(table: pd.DataFrame, method_id: str, *, where: object) -> Iterator[Predicted]:
    """Read a table of true and predicted labels, per method and fold.

    A predicted label that is missing, as a value or as a word for it, is a rejection. "NA" and "None" are
    such words, unless a true label has that name.

    Parameters
    ----------
    method_id
        Whose predictions they are, where no column ``method`` says so.
    where
        What to call the table in an error.

    Raises
    ------
    UserError
        If the file is no table, lacks a column, or a column holds other values than it must.
    """
    table = table.rename(columns=lambda name: str(name).strip()).reset_index(drop=True)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise UserError(f"{where} has two columns '{twice[0]}'; expected one.")
    true = _column(where, table, ("label", "true_label"))
    predicted = _column(where, table, ("label_pred", "pred"))
    if table.empty:
        raise UserError(f"{where} has no rows below its header.")
    label = complete_names(table[true], f"{where}: {{n}} of {{n_obs}} rows have no value in '{true}'")
    label_pred, words = _predicted_names(table[predicted], label)
    _note_names(where, table[[true, predicted]], label, label_pred, words)
    names = {name: label_names(table[name]) for name in ("method", "fold") if name in table}
    table = table.assign(**names)
    for key, part in table.groupby(list(names), sort=False) if names else [((), table)]:
        found = dict(zip(names, key, strict=True))
        fold, cells = found.get("fold"), part.index
        yield Predicted(
            method_id=str(found.get("method", method_id)),
            fold=int(fold) if fold is not None and _WHOLE.fullmatch(fold) else fold,
            inputs={
                "label": label[cells],
                "label_pred": label_pred[cells],
                "rejected": label_pred[cells] == "",
                **_scores(where, part),
            },
        )


def complete_names(values: Any, problem: str) -> Any:
    """Return the names of the labels or batches of all cells.

    Parameters
    ----------
    values
        One per cell.
    problem
        Begins the error; ``{n}`` and ``{n_obs}`` stand for the cells without a name, and for all.

    Raises
    ------
    UserError
        If a cell has none.
    """
    names = label_names(values)
    missing = int((names == "").sum())
    if missing:
        words = missing_words(values)
        shown = f" (such as {', '.join(map(repr, list(words)[:3]))})" if words else ""
        problem = problem.format(n=missing, n_obs=len(names))
        raise UserError(f"{problem}{shown}; each cell needs one. Remove these cells or name them 'unknown'.")
    return names


def _predicted_names(values: Any, label: Any) -> tuple[Any, dict[str, int]]:
    """Return predicted names, empty for a missing one, and the cells of each word that counts as missing."""
    names = label_names(values)
    words = missing_words(values)
    for name in sorted(set(names) - set(label)):
        if name.lower() in NA_TEXTS:
            is_word = names == name
            words[str(name)] = int(is_word.sum())
            names[is_word] = ""
    return names, words


def _note_names(
    where: object, given: pd.DataFrame, label: Any, label_pred: Any, words: dict[str, int]
) -> None:
    """Warn of what the reading of labels changes, and of predicted labels that are no true one."""
    notes = [note_on_spellings(np.concatenate([given[name].to_numpy(dtype=object) for name in given]))]
    if words:
        n, shown = sum(words.values()), ", ".join(f"'{word}'" for word in words)
        notes.append(f"Cells with a word for a missing label are rejected: {n} predicted as {shown}.")
    named = set(label_pred) - {""}
    if named and named.isdisjoint(label):
        notes.append(
            "No predicted label is among the true ones, so none is right: "
            f"{_some(named)} against {_some(set(label))}."
        )
    else:
        notes.append(note_on_unseen(label_pred, label))
    for note in filter(None, notes):
        warnings.warn(f"{where}: {note}", stacklevel=2)


def _some(labels: set[str]) -> str:
    shown = [f"'{label}'" for label in sorted(labels)[:3]]
    return ", ".join([*shown, "..."] if len(labels) > len(shown) else shown)


def _read_table(path: Path) -> pd.DataFrame:
    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        # As text, because names may look like numbers or like missing values.
        return read_text_table(path, sep=separator, dtype=str, keep_default_na=False)
    except (ValueError, OSError, ImportError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}.") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read a table after a look at how large it says that it is."""
    import pandas as pd
    from pyarrow import parquet

    with open_regular(path.resolve()) as file:
        limit = most_unpacked(file.seek(0, 2))
        file.seek(0)
        declared = parquet.read_metadata(file)
        groups = (declared.row_group(i).total_byte_size for i in range(declared.num_row_groups))
        n_bytes = max(sum(groups), declared.num_rows * declared.num_columns * np.dtype(float).itemsize)
        if n_bytes > limit:
            raise ValueError(f"it unpacks to {n_bytes} bytes, more than {limit}")
        file.seek(0)
        return pd.read_parquet(file)


def _scores(where: object, table: pd.DataFrame) -> dict[str, Any]:
    """Return probabilities, novelty and its truth, where the table has them."""
    import pandas as pd

    found: dict[str, Any] = {}
    stated = [name for name in table.columns if name.startswith(PROBA)]
    if stated:
        labels = [label_name(name.removeprefix(PROBA)) for name in stated]
        for name, n in Counter(labels).items():
            if n > 1:
                raise UserError(f"{where}: {n} columns hold the probability of the label '{name}'.")
        found["labels"] = np.array(labels)
        found["label_proba"] = np.column_stack([_numbers(where, table, name) for name in stated])
    if "novelty" in table:
        found["novelty"] = _numbers(where, table, "novelty")
    if "is_novel" in table:
        values = pd.Series(label_names(table["is_novel"])).str.lower()
        wrong = sorted(set(values) - set(_FLAGS))
        if wrong:
            raise UserError(f"{where}: column 'is_novel' holds '{wrong[0]}'; expected true or false.")
        found["is_novel"] = values.map(_FLAGS).to_numpy(dtype=bool)
    return found


def _numbers(where: object, table: pd.DataFrame, name: str) -> Any:
    if table[name].dtype.kind in "mMc":
        raise UserError(
            f"{where}: column '{name}' holds values of type {table[name].dtype}; expected numbers."
        )
    try:
        values = table[name].to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: column '{name}' holds other values than numbers: {error}.") from error
    if not np.isfinite(values).all():
        raise UserError(f"{where}: column '{name}' is NaN or infinite in some rows.")
    return values


def read_label_terms(path: Path) -> dict[str, str]:
    """Read which ontology term a label means: a table with the columns ``label`` and ``term``.

    Raises
    ------
    UserError
        If the file is no such table.
    """
    table = _read_table(path)
    label, term = (_column(path, table, (name,)) for name in ("label", "term"))
    return dict(zip(label_names(table[label]), table[term].str.strip(), strict=True))


def read_embeddings(
    adata: Path | AnnData, obsm: Sequence[str], files: Sequence[Path], *, n_obs: int
) -> Iterator[tuple[str, Any]]:
    """Yield embeddings by name, from ``obsm`` of a data set and from npy and npz files.

    Raises
    ------
    UserError
        If one is not there, has not one row per cell or is not finite.
    """
    stored: Mapping[str, Any] = _opened(adata, backed="r").obsm if obsm else {}
    for key in obsm:
        if key not in stored:
            raise UnknownNameError("key of obsm", key, list(stored))
        yield checked_embedding(key, stored[key], n_obs)  # its rows are in order, or AnnData refuses it
    for path in files:
        loaded = _load(path)
        if isinstance(loaded, np.ndarray):
            yield checked_embedding(path.stem, loaded, n_obs)
        else:
            yield from _matrices(path, loaded, n_obs)


def _opened(adata: Path | AnnData, *, backed: Literal["r"] | None = None) -> AnnData:
    if not isinstance(adata, Path):
        return adata
    import anndata

    return anndata.read_h5ad(adata, backed=backed)


def read_layer(adata: Path | AnnData, layer: str, shape: tuple[int, int]) -> Any:
    """Return a layer of a data set.

    Raises
    ------
    UserError
        If it is not there, or has another shape than the expression it is compared with.
    """
    layers = named_layers(_opened(adata))
    if layer not in layers:
        raise UnknownNameError("layer", layer, layers)
    matrix = layers[layer]
    if hasattr(matrix, "format"):
        try:
            matrix = sound(f"Layer '{layer}'", matrix)
        except ContractError as error:
            raise UserError(str(error)) from error
    if matrix.shape != shape:
        raise UserError(f"Layer '{layer}' has shape {matrix.shape}; the expression used here has {shape}.")
    return matrix


def read_bundles(
    files: Sequence[Path], *, label_key: str | None, batch_key: str | None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield, for each npz file, its embeddings by name, and the ``label`` and ``batch`` of their cells.

    Raises
    ------
    UserError
        If a file is no npz, has no such arrays, or holds no embedding of these cells.
    """
    for path in files:
        arrays = _load(path)
        if not isinstance(arrays, Mapping):
            raise UserError(
                f"{path} holds one matrix. Give --adata, or an npz that has labels and batches too."
            )
        found = {}
        for argument, key in (("label", label_key), ("batch", batch_key)):
            if key is not None:
                found[argument] = _names_in(path, arrays, key)
        numbers = {len(names) for names in found.values()}
        if len(numbers) > 1:
            raise UserError(f"{path}: {len(found['label'])} labels, but {len(found['batch'])} batches.")
        yield dict(_matrices(path, arrays, numbers.pop())), found


def _names_in(path: Path, arrays: Mapping[str, Any], key: str) -> Any:
    if key not in arrays:
        raise UnknownNameError(f"array of {path.name}", key, arrays)
    shape = arrays[key].shape
    if len(shape) != 1:
        raise UserError(f"{path}: '{key}' has shape {shape}, expected one value per cell.")
    names = complete_names(arrays[key], f"{path}: {{n}} of {{n_obs}} cells have no value in '{key}'")
    for note in notes_on_names(arrays[key], f"{path}: '{key}'"):
        warnings.warn(note, stacklevel=2)
    return names


def _load(path: Path) -> Any:
    try:
        return read_arrays(path.resolve())
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as an npy or npz file: {error}.") from error


def _matrices(path: Path, arrays: Mapping[str, Any], n_obs: int) -> Iterator[tuple[str, Any]]:
    """Yield every matrix of an npz file that has a row per cell."""
    chosen = {name: array for name, array in arrays.items() if array.ndim == 2 and len(array) == n_obs}
    if not chosen:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UserError(f"{path} holds no matrix with {n_obs} rows. It holds: {shapes or 'nothing'}.")
    for name, array in chosen.items():
        yield checked_embedding(name, array, n_obs)


def checked_embedding(name: str, given: Any, n_obs: int, *, obs_names: Any = None) -> tuple[str, Any]:
    """Return an embedding with its name, or say why it is none of these cells.

    Raises
    ------
    UserError
        If it has not one row per cell, is not finite, or names its rows otherwise than ``obs_names``.
    """
    try:
        if obs_names is not None:
            check_order(f"Embedding '{name}'", given, np.asarray(obs_names, dtype=str))
        array = array_of(f"Embedding '{name}'", given)
    except ContractError as error:
        raise UserError(str(error)) from error
    if array.ndim != 2 or len(array) != n_obs:
        raise UserError(f"Embedding '{name}' has shape {array.shape}, expected ({n_obs}, n_latent).")
    if array.dtype.kind not in "biuf":
        raise UserError(f"Embedding '{name}' holds values of type {array.dtype}; expected numbers.")
    broken = int((~np.isfinite(array)).any(axis=1).sum())
    if broken:
        raise UserError(f"Embedding '{name}' is NaN or infinite for {broken} of {n_obs} cells.")
    return name, array


def _column(where: object, table: Any, names: Sequence[str]) -> str:
    for name in names:
        if name in table:
            return name
    wanted = " or ".join(f"'{name}'" for name in names)
    raise UserError(f"{where} has no column {wanted}, only {', '.join(map(str, table.columns))}.")
