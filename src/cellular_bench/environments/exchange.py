"""Send cells to a method's own environment and bring its results back, through files.

The folder of one call holds ``train.h5ad`` and ``query.h5ad`` (X, ``layers/counts``, ``obs/batch`` and, where
the method may see it, ``obs/label``), ``request.json`` with the program, its parameters and the seed, and
afterwards ``message.json`` (``status`` and ``reason``) and ``result.npz``, or ``result.csv`` from R.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.core import keys
from cellular_bench.core.errors import ContractError, NotApplicableError, ProgramError
from cellular_bench.core.outputs import Outputs, read_outputs
from cellular_bench.environments.declaration import find, program_file
from cellular_bench.environments.status import State, required

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.types import MethodSpec


def run_inside(
    spec: MethodSpec,
    *,
    query: AnnData,
    train: AnnData | None = None,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
) -> Outputs:
    """Run the program of a method in its environment and return what it made of the query.

    Parameters
    ----------
    spec
        With ``environment`` and ``program``.
    query, train
        In the data contract's form. ``obs["label"]`` is sent where it is there: the harness takes out what
        the method may not see.
    params
        Keywords of the program, as JSON can hold them.

    Raises
    ------
    NotApplicableError
        If the environment is missing (with the command that creates it), or the program declines.
    ProgramError
        If the program fails, or ends its process.
    ContractError
        If it returns other cells than it got, or in another order.
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
        outputs = (read_outputs if suffix == "npz" else read_table)(Path(request["result"]))
    _check_rows(spec, outputs, np.asarray(query.obs_names, dtype=str))
    return outputs


def read_table(path: Path) -> Outputs:
    """Read the result of an R program: a column ``cell``, then ``label_pred``, ``novelty``, ``rejected``.

    Columns of matrices are called ``X_emb:1``... and ``label_proba:LABEL``.
    """
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    column = dict(zip(header, np.array(rows, dtype=str).reshape(len(rows), len(header)).T, strict=True))
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
    return Outputs(**fields)


def _numbers(texts: Any) -> Any:
    return np.where(texts == "NA", "nan", texts).astype(np.float64)


def _written(adata: AnnData | None, path: Path) -> str | None:
    """Write what a program may see of some cells, sparse rows in ascending order of genes."""
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
    lean.write_h5ad(path)
    return str(path)


def _rows(matrix: Any) -> Any:
    from scipy.sparse import csr_matrix

    rows = csr_matrix(matrix)
    if not rows.has_sorted_indices:
        rows = rows.sorted_indices()
    return rows


def _run(spec: MethodSpec, ready: State, request: Mapping[str, Any], folder: Path) -> None:
    """Start the program, wait for its end, and raise where it did not end well."""
    request_file = folder / "request.json"
    request_file.write_text(json.dumps(request), encoding="utf-8")
    worker = Path(__file__).with_name("inside.py" if ready.declaration.python else "inside.R")
    command = [*ready.command, str(worker), str(request_file)]
    done = subprocess.run(command, cwd=folder, env=_variables(folder), check=False)  # noqa: S603  # a declared interpreter
    where = f"{spec.method_id} in its environment '{ready.declaration.name}'"
    message_file = Path(request["message"])
    if not message_file.exists():
        raise ProgramError(f"{where} ended without a result: {_ending(done.returncode)}.")
    message = json.loads(message_file.read_text(encoding="utf-8"))
    if message["status"] == "not_applicable":
        raise NotApplicableError(f"{spec.method_id}: {message['reason']}")
    if message["status"] == "out_of_memory":
        raise MemoryError(f"{where}: {message['reason']}")
    if message["status"] != "ok":
        raise ProgramError(f"{where}: {message['reason']}")


def _variables(folder: Path) -> dict[str, str]:
    """Return environment variables under which this interpreter's packages are out of reach."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return {
        **kept,
        "PYTHONHASHSEED": "0",  # sets of texts come in the same order in every run
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",  # what was printed is in the log, however the program ends
        "TMPDIR": str(folder),
    }


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = ", as when the machine's memory runs out" if -code == signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"


def _check_rows(spec: MethodSpec, outputs: Outputs, names: Any) -> None:
    """Compare the cells that came back, by name, with those that were sent."""
    came = outputs.obs_names
    if np.array_equal(came, names):
        return
    if sorted(came) == sorted(names):
        first = int(np.flatnonzero(came != names)[0])
        raise ContractError(
            f"{spec.method_id}: its program returned the cells in another order: row {first} is "
            f"'{came[first]}', expected '{names[first]}'. Return rows in the order of the query."
        )
    raise ContractError(
        f"{spec.method_id}: its program returned {len(came)} cells, {len(set(came) & set(names))} of them "
        f"among the {len(names)} that it got; expected is one row per cell of the query."
    )
