"""The data contract: validate a data set and bring it into the canonical form.

``docs/data-contract.md`` describes the requirements. All problems of a data set are collected before one
:class:`~cellular_bench.core.errors.DataError` is raised, so that a user corrects a file once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import DataError, UnknownNameError, UserError
from cellular_bench.core.keys import BATCH, CONDITION, COUNTS, DONOR, LABEL, LABELLING
from cellular_bench.core.labels import fault_of_name, label_names, notes_on_names
from cellular_bench.core.sizes import MIN_CELLS, in_words
from cellular_bench.core.sparse_checks import sparse_problems
from cellular_bench.datasets.expression import Expression, choose
from cellular_bench.datasets.h5ad import notes_of, unreadable
from cellular_bench.datasets.preprocess import normalise

if TYPE_CHECKING:
    from anndata import AnnData

#: The batch of every cell of a data set without batches, and the label of every cell of one without labels.
ONE_BATCH, NO_LABEL = "all", ""
WITHOUT_LABELS = (
    "There are no labels: integration is ranked without them, which is exploratory. Methods that learn from "
    "labels, annotation and novelty detection do not apply."
)
#: Number of values that are hashed at a time.
BLOCK_VALUES = 1 << 22
#: Number of names that an error or a warning gives as examples.
N_EXAMPLES = 3


@dataclass(slots=True)
class Findings:
    """Problems, which raise an error, and warnings, one sentence each."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """Columns of ``obs`` with conditions to keep, and with the donors; None: the batches."""

    keep: tuple[str, ...] = ()
    donor_key: str | None = None


def conform(
    adata: AnnData,
    *,
    source: str,
    label_key: str | None,
    batch_key: str | None,
    counts_layer: str | None,
    truth_keys: Sequence[str] = (),
    kept: Kept | None = None,
    further_labels: Sequence[str] = (),
) -> tuple[AnnData, tuple[str, ...]]:
    """Return a data set in the canonical form, or raise an error with all its problems.

    Parameters
    ----------
    adata
        Content of a file or simulator. Not modified.
    source
        Path or ``dataset_id``, for the error.
    label_key, batch_key
        Columns of ``obs``; None for data without: every cell then has an empty label, or the batch ``"all"``.
    counts_layer
        ``"X"``, ``"raw"`` or a layer that holds raw counts; None to decide by the values.
    truth_keys
        Further columns of ``obs`` that are kept as they are.
    kept
        Columns of ``obs`` with conditions that integration must keep, and with the donors.
    further_labels
        Columns of ``obs`` with other labels, kept under the names of labellings
        (:data:`~cellular_bench.core.keys.LABELLING`).

    Returns
    -------
    adata
        ``obs["batch"]`` and ``obs["label"]`` categorical strings, ``X`` log-normalised and, if there are
        counts, ``layers["counts"]``, both sparse float32.
    warnings
        One sentence each.

    Raises
    ------
    DataError
        With all problems.
    """
    import pandas as pd

    found = Findings(warnings=notes_of(adata))
    if damage := sparse_problems(adata):
        raise DataError(source, damage)
    if adata.n_obs and adata.n_vars:
        label, batch = _labels_and_batches(adata, label_key, batch_key, found)
        truth = {
            key: adata.obs[key] for key in truth_keys if _complete(adata, key, "truth", found) is not None
        }
        if taken := truth.keys() & {LABEL, BATCH}:
            found.problems.append(f"Further truth cannot be called {', '.join(sorted(taken))}: rename it.")
        conditions = _conditions(adata, kept or Kept(), label_key, batch, found)
        if taken := {key for key in truth if key == DONOR or key.startswith(CONDITION)}:
            found.problems.append(f"Further truth cannot be called {', '.join(sorted(taken))}: rename it.")
        further = _further_labels(adata, further_labels, label_key, batch_key, found)
        expression = choose(adata, counts_layer, found.problems, found.warnings)
    else:
        found.problems.append(f"There are {adata.n_obs} cells and {adata.n_vars} genes; none may be 0.")
        expression = None
    _check_names(adata.obs_names, "cell", "adata.obs_names_make_unique()", found)
    if expression is not None:
        _check_names(expression.var_names, "gene", "adata.var_names_make_unique()", found)
        _check_totals(adata.obs_names, expression, found)
    if found.problems or expression is None:
        raise DataError(source, found.problems)
    made = _assemble(adata.obs_names, expression, label=label, batch=batch)
    for key, values in truth.items():
        made.obs[key] = values.to_numpy()
    for key, names in conditions.items():
        made.obs[key] = pd.Categorical(names)
    for key, names in further.items():
        made.obs[LABELLING + key] = names
    return made, tuple(found.warnings)


def names_of_cells(adata: AnnData, key: str, *, role: str, source: str) -> tuple[NDArray[np.str_], list[str]]:
    """Return the labels or batches of all cells, (n_obs,), and notes on their names.

    Parameters
    ----------
    adata
        Content of a file. Only ``obs`` is read.
    key
        Column of ``obs``.
    role, source
        ``"label"`` or ``"batch"``, and the path, for the error.

    Raises
    ------
    DataError
        If there is no such column, a cell has no value, or each has its own.
    """
    found = Findings()
    names = _column(adata, key, role, found)
    if found.problems:
        raise DataError(source, found.problems)
    return np.array(names, dtype=str), found.warnings


def digest(adata: AnnData) -> str:
    """Return a sha256 of everything that methods and metrics can see of a canonical data set.

    Values, cell and gene names, labels, batches and further truth; independent of compression and storage
    types of the file. If there are counts, they are hashed instead of ``X``, which follows from them. Further
    labels are not in it, so that runs need not be repeated for them: each score under them has their digest.
    """
    from scipy import sparse

    values = sparse.csr_matrix(adata.layers.get(COUNTS, adata.X))
    content = hashlib.sha256(COUNTS.encode() if COUNTS in adata.layers else b"lognorm")
    for array, kind in ((values.data, "<f4"), (values.indices, "<i8"), (values.indptr, "<i8")):
        # In blocks, without a copy of a whole large matrix.
        for start in range(0, len(array), BLOCK_VALUES):
            content.update(array[start : start + BLOCK_VALUES].astype(kind).tobytes())
    truth = [key for key in adata.obs.columns.difference([LABEL, BATCH]) if not key.startswith(LABELLING)]
    columns = [adata.obs_names, adata.var_names, adata.obs[LABEL], adata.obs[BATCH]]
    for key in truth:
        is_condition = key == DONOR or key.startswith(CONDITION)
        # The same values as another condition, or as donors, are other data.
        columns.append([*([key] if is_condition else []), *adata.obs[key].astype(str)])
    content.update(json.dumps([list(column) for column in columns]).encode())
    return content.hexdigest()


def follows_from_counts(adata: AnnData) -> bool:
    """Whether the values of a canonical data set are its counts, normalised; True without counts."""
    from scipy import sparse

    if COUNTS not in adata.layers:
        return True
    values, wanted = sparse.csr_matrix(adata.X), normalise(sparse.csr_matrix(adata.layers[COUNTS]))
    return (
        np.array_equal(values.indptr, wanted.indptr)
        and np.array_equal(values.indices, wanted.indices)
        and np.allclose(values.data, wanted.data, rtol=1e-4)
    )


def _labels_and_batches(
    adata: AnnData, label_key: str | None, batch_key: str | None, found: Findings
) -> tuple[list[str], list[str]]:
    if label_key is None:
        label = [NO_LABEL] * adata.n_obs
        found.warnings.append(WITHOUT_LABELS)
    else:
        label = _column(adata, label_key, "label", found)
        _warn_of_labels(label, found)
    if batch_key is None:
        return label, [ONE_BATCH] * adata.n_obs
    if batch_key == label_key:
        found.problems.append(f"Batch key and label key are the same column, '{batch_key}'.")
    batch = _column(adata, batch_key, "batch", found)
    if _are_same_groups(label, batch):
        found.warnings.append(
            f"obs['{label_key}'] and obs['{batch_key}'] divide the cells into the same groups: labels cannot "
            "be distinguished from batches, and scores of integration mean nothing."
        )
    if len(set(batch)) == 1:
        found.warnings.append(f"There is one batch, '{batch[0]}': batch correction cannot be scored.")
    _warn_of_few_cells(batch, "batch", "batches", found)
    return label, batch


def _conditions(
    adata: AnnData, kept: Kept, label_key: str | None, batch: list[str], found: Findings
) -> dict[str, list[str]]:
    """Return the columns of conditions and of donors, by their names in the canonical form."""
    donor_key = kept.donor_key
    if donor_key is not None and not kept.keep:
        found.problems.append(f"Donors, '{donor_key}', are of no use without a condition to keep.")
    columns = {}
    for key in dict.fromkeys(kept.keep):
        if key in (label_key, donor_key):
            what = "labels" if key == label_key else "donors"
            found.problems.append(f"The condition to keep and the {what} are the same column, '{key}'.")
        if "/" in key:
            found.problems.append(f"obs['{key}'] cannot be kept, as its name holds a '/'. Rename it.")
        names = columns[f"{CONDITION}{key}"] = _column(adata, key, "condition", found)
        if len(set(names)) == 1:
            found.warnings.append(f"obs['{key}'] has one value, '{names[0]}': no method can keep or lose it.")
        elif names and len(set(batch)) == len(set(zip(batch, names, strict=True))):
            found.warnings.append(
                f"Batches determine obs['{key}']: each has one value of it. Correcting batches and removing "
                "the condition are then one thing, and how much of it is kept has no score."
            )
    if donor_key is not None:
        columns[DONOR] = _column(adata, donor_key, "donor", found)
    return columns


def _are_same_groups(label: Sequence[str], batch: Sequence[str]) -> bool:
    """Return whether every label is in one batch and every batch has one label, of two or more."""
    pairs = set(zip(label, batch, strict=False))
    return 1 < len(pairs) == len(set(label)) == len(set(batch))


def _further_labels(
    adata: AnnData, keys: Sequence[str], label_key: str | None, batch_key: str | None, found: Findings
) -> dict[str, list[str]]:
    """Return other labels of all cells, by their columns."""
    further: dict[str, list[str]] = {}
    if keys and label_key is None:
        found.problems.append(
            "Further labels are compared with the first, and there is none: name a label key."
        )
    for key in dict.fromkeys(keys):
        if key in (label_key, batch_key):
            role = "labels" if key == label_key else "batches"
            found.problems.append(f"obs['{key}'] is the column of the {role}: it has no further labels.")
            continue
        further[key] = _column(adata, key, "label", found)
        if len(set(further[key])) == 1:
            found.warnings.append(f"obs['{key}'] holds one label: label metrics cannot be computed under it.")
    return further


def _column(adata: AnnData, key: str, role: str, found: Findings) -> list[str]:
    names = _complete(adata, key, role, found)
    if names is None:
        return []
    if len(set(names)) == adata.n_obs > 2:
        found.problems.append(f"obs['{key}'] has a different value in every cell, so it is no {role}.")
    found.warnings += notes_on_names(adata.obs[key], f"obs['{key}']")
    return names


def _complete(adata: AnnData, key: str, role: str, found: Findings) -> list[str] | None:
    """Return the names in a column of ``obs``; None and a problem unless every cell has one."""
    if problem := unreadable(adata, f"obs['{key}']"):
        found.problems.append(problem)
        return None
    if key not in adata.obs:
        found.problems.append(str(UnknownNameError(f"{role} key", key, map(str, adata.obs.columns))))
        return None
    try:
        names = label_names(adata.obs[key])
    except UserError as error:
        found.problems.append(f"obs['{key}']: {error}")
        return None
    is_missing = names == ""
    if not is_missing.any():
        return [str(name) for name in names]
    found.problems.append(
        f"{_cells(adata.obs_names[is_missing])} no {role} in obs['{key}'] (empty or NaN). "
        "Remove these cells or name them, for instance 'unknown'."
    )
    return None


def _warn_of_labels(label: Sequence[str], found: Findings) -> None:
    n_cells = Counter(label)
    if len(n_cells) == 1:
        found.warnings.append(f"There is one label, '{label[0]}': label metrics cannot be computed.")
    single = sorted(name for name, n in n_cells.items() if n == 1)
    if single:
        found.warnings.append(
            f"{_count(len(single), 'label')} with a single cell, which cannot be both learnt and scored: "
            f"{_examples(single)}."
        )
    _warn_of_few_cells([name for name in label if n_cells[name] > 1], "label", "labels", found)
    spellings = defaultdict(list)
    for name in sorted(n_cells):
        spellings["".join(name.casefold().split())].append(name)
    for same in spellings.values():
        if len(same) > 1:
            found.warnings.append(f"Labels that differ only in case or spaces: {_examples(same)}.")


def _warn_of_few_cells(names: Sequence[str], what: str, several: str, found: Findings) -> None:
    n_cells = Counter(names)
    few = {name: n_cells[name] for name in sorted(n_cells) if n_cells[name] < MIN_CELLS}
    if few:
        which = f"{len(few)} {what if len(few) == 1 else several}"
        found.warnings.append(f"{which} with fewer than {MIN_CELLS} cells: {in_words(few)}.")


def _check_names(names: Any, what: str, remedy: str, found: Findings) -> None:
    if fault := next(filter(None, map(fault_of_name, names.astype(str))), None):
        found.problems.append(f"Names of {what}s: {fault}")
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        found.problems.append(
            f"{_count(len(repeated), f'{what} name')} {'occurs' if len(repeated) == 1 else 'occur'} more "
            f"than once: {_examples(repeated)}. "
            f"Make them unique, for instance with {remedy}."
        )


def _check_totals(obs_names: Any, expression: Expression, found: Findings) -> None:
    is_empty = np.asarray(expression.values.sum(axis=1)).ravel() == 0
    if is_empty.any():
        found.problems.append(
            f"{_cells(obs_names[is_empty])} no counts in any gene. "
            "Remove these cells, for instance with scanpy.pp.filter_cells(adata, min_counts=1)."
        )


def _assemble(obs_names: Any, expression: Expression, *, label: list[str], batch: list[str]) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    obs = pd.DataFrame(
        {BATCH: pd.Categorical(batch), LABEL: pd.Categorical(label)}, index=pd.Index(obs_names.astype(str))
    )
    var = pd.DataFrame(index=pd.Index(expression.var_names.astype(str)))
    if not expression.is_counts:
        return AnnData(expression.values, obs=obs, var=var)
    counts = expression.values
    return AnnData(normalise(counts), obs=obs, var=var, layers={COUNTS: counts})


def _cells(names: Any) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{_count(len(names), 'cell')} ({_examples(names)}) {verb}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _examples(names: Sequence[str] | NDArray[Any]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:N_EXAMPLES])
    return shown + (", ..." if len(names) > N_EXAMPLES else "")
