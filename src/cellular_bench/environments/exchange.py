"""Run a method's program in its environment, and exchange cells and results through files.

The folder of one call holds ``train.h5ad`` and ``query.h5ad`` (X, ``layers/counts``, ``obs/batch`` and, if
the method may see it, ``obs/label``) and ``request.json`` with the program, its parameters and the seed. The
program's side writes ``message.json`` (``status`` and ``reason``) and ``result.npz``, or ``result.csv`` in R.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellular_bench.core import keys
from cellular_bench.core.errors import ContractError, NotApplicableError, ProgramError, UserError, reason_of
from cellular_bench.core.files import read_regular
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.core.outputs import Outputs, read_outputs
from cellular_bench.environments.declaration import find, program_file
from cellular_bench.environments.status import State, required

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.types import MethodSpec

#: Largest message.json and result.csv that are read.
MOST_MESSAGE_BYTES: Final = 2**16
MOST_TABLE_BYTES: Final = 2**31
#: Words of R for a file that is not there or must not be read.
_R_NO_FILE: Final = "cannot open"


def run_inside(
    spec: MethodSpec,
    *,
    query: AnnData,
    train: AnnData | None = None,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
) -> Outputs:
    """Run the program of a method in its environment and return its outputs for the query.

    Parameters
    ----------
    spec
        Specification with ``environment`` and ``program``.
    query, train
        Cells in the form of the data contract. ``obs["label"]`` is sent if it exists; the harness has
        already removed labels that the method may not see.
    seed
        Seed for the program.
    params
        Keyword arguments of the program; values must be representable in JSON.

    Raises
    ------
    NotApplicableError
        If the environment is missing (the message names the command that creates it), or if the program
        declines.
    ProgramError
        If the program fails, ends its process, or writes a result that is not one. If what it lacked was a
        file or the network, the cause is an OSError.
    ContractError
        If it returns other cells than those of the query, or another order.
    MemoryError
        If the program ran out of memory.
    """
    if spec.environment is None or spec.program is None:
        raise ContractError(f"{spec.method_id}: run_inside needs spec.environment and spec.program.")
    ready = required(find(spec.environment))
    with tempfile.TemporaryDirectory(prefix="inside-") as name:
        folder = Path(name)
        suffix = "npz" if ready.declaration.python else "csv"
        request: dict[str, Any] = {
            "program": str(program_file(spec.program)),
            "cells": {
                "train": _written(train, folder / "train.h5ad"),
                "query": _written(query, folder / "query.h5ad"),
            },
            "seed": seed,
            "params": dict(params or {}),
            "result": str(folder / f"result.{suffix}"),
            "message": str(folder / "message.json"),
        }
        _run(spec, ready, request, folder)
        try:
            outputs = (read_outputs if suffix == "npz" else read_table)(Path(request["result"]))
        except UserError as error:
            text = str(error).replace(f"{folder}{os.sep}", "")
            raise ProgramError(f"{_where(spec, ready)}: {text}") from None
    _check_rows(spec, outputs, np.asarray(query.obs_names, dtype=str))
    return outputs


def read_table(path: Path) -> Outputs:
    """Read the result of an R program from CSV.

    There is a column ``cell`` and, if returned, ``label_pred``, ``novelty`` and ``rejected``. Columns of
    matrices are named ``X_emb:1``... and ``label_proba:LABEL``.

    Raises
    ------
    UserError
        If the file is missing, no regular file, too large, or no such table.
    """
    try:
        content = read_regular(path, most_bytes=MOST_TABLE_BYTES).decode("utf-8")
        header, *rows = csv.reader(StringIO(content, newline=""))
        return Outputs(**_fields(header, rows))
    except (OSError, ValueError, csv.Error, ContractError) as error:
        raise UserError(f"{path.name} does not hold the outputs of a run: {reason_of(error)}.") from error


def _fields(header: list[str], rows: list[list[str]]) -> dict[str, Any]:
    if "cell" not in header or len(set(header)) < len(header):
        raise ValueError("each column needs another name, and one must be 'cell'")
    if ragged := next((number for number, row in enumerate(rows, 1) if len(row) != len(header)), 0):
        raise ValueError(f"row {ragged} has {len(rows[ragged - 1])} values for {len(header)} columns")
    column = {name: np.array([row[at] for row in rows], dtype=str) for at, name in enumerate(header)}
    fields: dict[str, Any] = {"obs_names": column["cell"]}
    for name in ("X_emb", "label_proba"):
        of_matrix = [key for key in header if key.startswith(f"{name}:")]
        if of_matrix:
            fields[name] = np.stack([_numbers(column[key]) for key in of_matrix], axis=1)
        if of_matrix and name == "label_proba":
            fields["labels"] = np.array([key.partition(":")[2] for key in of_matrix])
    if "label_pred" in column:
        fields["label_pred"] = column["label_pred"]
    if "novelty" in column:
        fields["novelty"] = _numbers(column["novelty"])
    if "rejected" in column:
        fields["rejected"] = column["rejected"] == "True"
    return fields


def _numbers(texts: Any) -> Any:
    return np.where(texts == "NA", "nan", texts).astype(np.float64)


def _written(adata: AnnData | None, path: Path) -> str | None:
    """Write the fields of the cells that a program may see; rows are sparse, with sorted indices."""
    import anndata
    import pandas as pd

    if adata is None:
        return None
    known = [key for key in (keys.BATCH, keys.LABEL) if key in adata.obs]
    obs = pd.DataFrame(
        {key: pd.Categorical(adata.obs[key].astype(str)) for key in known}, index=adata.obs_names
    )
    layers = {keys.COUNTS: _rows(adata.layers[keys.COUNTS])} if keys.COUNTS in adata.layers else {}
    lean = anndata.AnnData(_rows(adata.X), obs=obs, var=pd.DataFrame(index=adata.var_names), layers=layers)
    write_h5ad(lean, path, compression_level=None)
    return str(path)


def _rows(matrix: Any) -> Any:
    from scipy.sparse import csr_matrix

    rows = csr_matrix(matrix)
    if not rows.has_sorted_indices:
        rows = rows.sorted_indices()
    return rows


def _run(spec: MethodSpec, ready: State, request: Mapping[str, Any], folder: Path) -> None:
    """Run the program, wait for its end, and raise if it failed."""
    request_file = folder / "request.json"
    request_file.write_text(json.dumps(request), encoding="utf-8")
    worker = Path(__file__).with_name("inside.py" if ready.declaration.python else "inside.R")
    command = [*ready.command, str(worker), str(request_file)]
    done = subprocess.run(command, cwd=folder, env=_variables(folder), check=False)  # noqa: S603  # a declared interpreter
    where = _where(spec, ready)
    message = _message(Path(request["message"]), where, done.returncode)
    reason = reason_of(ProgramError(message["reason"]))
    if message["status"] == "not_applicable":
        raise NotApplicableError(f"{spec.method_id}: {reason}")
    if message["status"] == "out_of_memory":
        raise MemoryError(f"{where}: {reason}")
    if message["status"] != "ok":
        lacks = message.get("lacks_file") is True or (ready.declaration.r and _R_NO_FILE in reason)
        raise ProgramError(f"{where}: {reason}") from (OSError(reason) if lacks else None)


def _where(spec: MethodSpec, ready: State) -> str:
    return f"{spec.method_id} in its environment '{ready.declaration.name}'"


def _message(path: Path, where: str, exit_code: int) -> dict[str, Any]:
    """Return what the program's side says of its end, which any code in its process may have written."""
    try:
        message = json.loads(read_regular(path, most_bytes=MOST_MESSAGE_BYTES))
    except FileNotFoundError:
        raise ProgramError(f"{where} ended without a result: {_ending(exit_code)}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ProgramError(f"{where}: its {path.name} cannot be read: {reason_of(error)}.") from error
    if not isinstance(message, dict) or not all(
        isinstance(message.get(name), str) for name in ("status", "reason")
    ):
        raise ProgramError(f"{where}: its {path.name} has no status with a reason.")
    return message


def _variables(folder: Path) -> dict[str, str]:
    """Return environment variables under which the program cannot import packages of this interpreter."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return {
        **kept,
        "PYTHONHASHSEED": "0",  # sets of strings have the same order in every run
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",  # printed output reaches the log even if the program is killed
        "TMPDIR": str(folder),
    }


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = ", for example because the machine ran out of memory" if -code == signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"


def _check_rows(spec: MethodSpec, outputs: Outputs, names: Any) -> None:
    """Raise unless the returned cells are those of the query, in the same order."""
    returned = outputs.obs_names
    if np.array_equal(returned, names):
        return
    if sorted(returned) == sorted(names):
        first = int(np.flatnonzero(returned != names)[0])
        raise ContractError(
            f"{spec.method_id}: its program returned the cells in another order: row {first} is "
            f"'{returned[first]}', expected '{names[first]}'. Return rows in the order of the query."
        )
    shared = len(set(returned) & set(names))
    raise ContractError(
        f"{spec.method_id}: its program returned {len(returned)} cells, {shared} of them among the "
        f"{len(names)} of the query; expected one row per cell of the query."
    )
