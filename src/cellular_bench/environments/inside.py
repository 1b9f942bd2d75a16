"""Run a method's program inside its environment: read files, call the program, write files.

The harness starts it as ``python inside.py request.json`` with the interpreter of the environment. It needs
only numpy and h5py there; the program may import other packages.

The program is a Python file with a function ``run(train, query, *, seed, **params)``. ``train`` and ``query``
are :class:`Cells`; ``train`` is None for a method that only embeds the cells it is given. ``run`` returns a
dict of arrays: ``X_emb`` (n_obs, n_latent), or ``graph`` and optionally ``graph_distances`` (sparse), or
``label_pred`` and optionally ``label_proba`` with ``labels``, ``novelty`` and ``rejected``. Rows are in the
order of ``query.obs_names``, or named in ``obs_names``. To decline, ``run`` raises ``NotApplicable`` (``from
cellular_bench_inside import NotApplicable``).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import traceback
from typing import Any

import h5py
import numpy as np

TEXTS = ("obs_names", "label_pred", "labels")
MOST_REASON = 5000  # characters: the harness reads 64 kB
SPARSE = ("graph", "graph_distances")
KNOWN = (*TEXTS, *SPARSE, "X_emb", "label_proba", "novelty", "rejected")


class NotApplicable(Exception):  # noqa: N818  # it is not an error
    """The method cannot be applied to these cells; the message gives the reason."""


class Csr:
    """A sparse matrix in csr format, as three arrays."""

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: Any) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape = (int(shape[0]), int(shape[1]))

    def toarray(self) -> Any:
        """Return a dense array."""
        dense = np.zeros(self.shape, dtype=self.data.dtype)
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))
        dense[rows, self.indices] = self.data
        return dense

    def toscipy(self) -> Any:
        """Return a ``scipy.sparse.csr_matrix``; needs scipy in the environment."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.data, self.indices, self.indptr), shape=self.shape)


class Cells:
    """Cells of an h5ad file.

    Attributes
    ----------
    path
        Path of the file.
    X, counts
        Log-normalised expression and raw counts, as :class:`Csr`; ``counts`` may be None.
    obs_names, var_names, batch, label
        Arrays of strings; ``label`` is None if the method may not see it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with h5py.File(path, "r") as file:
            self.X = _csr(file["X"])
            self.counts = _csr(file["layers/counts"]) if "layers/counts" in file else None
            self.obs_names = _texts(file["obs"][file["obs"].attrs["_index"]])
            self.var_names = _texts(file["var"][file["var"].attrs["_index"]])
            self.batch = _column(file["obs"], "batch")
            self.label = _column(file["obs"], "label")

    def canonical(self) -> Any:
        """Return the positions of the cells in an order that depends only on their values, (n_obs,).

        A program that trains on the cells in this order has the same results for any order and any names.
        """
        matrix = self.X if self.counts is None else self.counts
        bounds = list(zip(matrix.indptr[:-1], matrix.indptr[1:]))  # noqa: B905  # for any Python 3
        keys = [
            hashlib.sha256(matrix.indices[at:to].tobytes() + matrix.data[at:to].tobytes()).digest()
            for at, to in bounds
        ]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _csr(group: Any) -> Csr:
    return Csr(group["data"][()], group["indices"][()], group["indptr"][()], group.attrs["shape"])


def _column(obs: Any, name: str) -> Any:
    """Return a categorical column as strings, or None if it does not exist."""
    if name not in obs:
        return None
    return _texts(obs[name]["categories"])[obs[name]["codes"][()]]


def _texts(dataset: Any) -> Any:
    return np.array(
        [value.decode() if isinstance(value, bytes) else value for value in dataset[()]], dtype=str
    )


def _load(path: str) -> Any:
    sys.modules["cellular_bench_inside"] = sys.modules[__name__]
    spec = importlib.util.spec_from_file_location("cellular_bench_program", path)
    if spec is None or spec.loader is None:
        raise ValueError("the program " + path + " is not a Python file")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def _answer(request: dict[str, Any]) -> None:
    """Call the program and write its arrays."""
    cells = {name: Cells(path) if path else None for name, path in request["cells"].items()}
    query = cells["query"]
    assert query is not None  # the harness always sends one
    returned = _load(request["program"]).run(cells["train"], query, seed=request["seed"], **request["params"])
    unknown = sorted(set(returned) - set(KNOWN))
    if unknown:
        raise ValueError("run returned {}; known are {}".format(", ".join(unknown), ", ".join(KNOWN)))
    arrays = {
        name: np.asarray(value)
        for name, value in returned.items()
        if value is not None and name not in SPARSE
    }
    for name in SPARSE:
        if returned.get(name) is not None:
            rows = returned[name].tocsr()
            rows.sort_indices()
            arrays.update({name + "_" + part: getattr(rows, part) for part in ("data", "indices", "indptr")})
    arrays.setdefault("obs_names", query.obs_names)
    for name in TEXTS:
        if name in arrays:
            arrays[name] = arrays[name].astype(str)
    np.savez(request["result"], **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle


def _describe(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text} ({os.path.basename(last[0])}, line {last[1]})"  # noqa: PTH119


def main(request_file: str) -> None:
    """Run the program of a request and write its result and status."""
    with open(request_file, encoding="utf-8") as file:  # noqa: PTH123  # without pathlib, for any Python 3
        request = json.load(file)
    status, reason, lacks_file = "ok", "", False
    try:
        _answer(request)
    except NotApplicable as error:
        status, reason = "not_applicable", str(error)
    except MemoryError as error:
        status, reason = "out_of_memory", "Memory ran out: " + str(error)
    except Exception as error:
        traceback.print_exc()
        status, reason = "failed", _describe(error)
        lacks_file = isinstance(error, OSError)  # or the network
    with open(request["message"], "w", encoding="utf-8") as file:  # noqa: PTH123  # as above
        json.dump({"status": status, "reason": reason[:MOST_REASON], "lacks_file": lacks_file}, file)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file, from which programs must not import
    main(sys.argv[1])
