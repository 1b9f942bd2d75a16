"""The Python interface: the same workflows as on the command line, for scripts and notebooks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.results.store import Store
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import below
from cellular_bench.core.types import MethodSpec
from cellular_bench.notebook_code import write_plugin
from cellular_bench.progress import ConsoleProgress
from cellular_bench.results import Results
from cellular_bench.workflows import run as run_workflow
from cellular_bench.workflows import score as score_workflow
from cellular_bench.workflows.requests import RunRequest, several
from cellular_bench.workflows.score_request import ScoreRequest

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def run(
    *,
    methods: Any = (),
    tasks: str | Sequence[str] = (),
    suite: str | Path | None = None,
    datasets: str | Sequence[str] = (),
    adata: AnnData | Path | str | None = None,
    out: Path | str = "results",
    quiet: bool = False,
    **options: Any,
) -> Results:
    """Run a benchmark and return its results; runs that ``out`` already holds are not run again.

    Parameters
    ----------
    methods
        Names, classes and files of methods, one or several, instead of the suite's. A class may be defined
        in a notebook: its source is then written to ``out/plugins`` (:mod:`cellular_bench.notebook_code`
        says what that can carry).
    tasks
        ``"integration"``, ``"annotation"``, ``"novelty"``, ``"harm"``, or a task of a plug-in; all of the
        suite's if empty.
    suite
        Name of a suite, or a TOML file; what a file would execute or read elsewhere needs ``trust=True``. By
        default ``quickstart``; ``standard`` with ``adata`` or
        ``methods``.
    datasets
        Names of the catalogue, or of plug-ins, instead of the suite's.
    adata
        Your own cells, in memory or as an h5ad file; ``batch_key=`` and ``label_key=`` name the columns of
        ``obs`` with batches and cell types, ``keep=`` those of conditions that integration must keep.
        Without ``label_key``, integration is ranked without labels, which is exploratory.
    out
        Folder of results.
    quiet
        Print warnings only.
    **options
        Every other option of ``run-benchmark run`` by its name: ``params={"knn": {"n_neighbors": 5}}``,
        ``plugins="my_metric.py"``, ``seeds=[0, 1]``, ``split="kfold"``, ``n_splits=3``, ``subsample=2000``,
        ``stress={"kind": "label_noise", "levels": [0.0, 0.3]}``, ``weights="scib"``, ``time_limit=600``,
        ``jobs=2``...
        ``figures`` is False unless given: figures take longer than many methods.

    Returns
    -------
    Results
        Of all runs in the folder. A run that failed is in it with its reason; it raises nothing.

    Raises
    ------
    UserError
        If the request cannot be carried out as it was made.

    Examples
    --------
    >>> import tempfile, cellular_bench
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     results = cellular_bench.run(
    ...         methods=["knn", "true_labels"], tasks="annotation", datasets="simulated_small",
    ...         split="kfold", n_splits=2, out=f"{folder}/results", quiet=True,
    ...     )
    ...     results.leaderboard()[["method_id", "n_ok"]].values.tolist()
    [['true_labels', 2], ['knn', 2]]
    """
    store = Store.claim(Path(out))
    method_ids, files = _chosen_methods(several(methods), below(store.root, "plugins"))
    plugins = tuple(dict.fromkeys([*map(Path, several(options.get("plugins"))), *files]))
    asked = {"suite": suite, "tasks": tasks, "datasets": datasets, "adata": adata, "out": store.root}
    given: dict[str, Any] = {"figures": False, **options, **asked, "methods": method_ids, "plugins": plugins}
    request = RunRequest.of(**given)
    run_workflow.run(request, progress=ConsoleProgress(Console(quiet=True)) if quiet else ConsoleProgress())
    return Results(store.root, plugins=plugins)


def score(
    adata: AnnData | Path | str | None = None,
    *,
    predictions: pd.DataFrame | Path | str | None = None,
    obsm: str | Sequence[str] = (),
    embeddings: Mapping[str, Any] | None = None,
    metrics: str | Sequence[str] = (),
    **options: Any,
) -> pd.DataFrame:
    """Score embeddings or predictions that were made elsewhere.

    Parameters
    ----------
    adata
        Cells, in memory or as an h5ad file, for embeddings; ``batch_key=`` and ``label_key=`` name the
        columns of ``obs`` with batches and cell types; with one of them, only metrics that need no more
        have a value. Expression is read only for metrics that need it.
    predictions
        Table or CSV file with the columns ``label`` and ``label_pred``; ``method``, ``fold``, ``novelty``,
        ``is_novel`` and ``proba:LABEL`` are read if they are there. An empty prediction is a
        rejection, and so is a word for none such as NA.
    obsm
        Keys of embeddings in ``adata``.
    embeddings
        More of them by name: arrays of shape (n_obs, n_latent) in the order of the cells, or DataFrames
        that name them.
    metrics
        Only these; the usual ones if empty.
    **options
        Every other option of ``run-benchmark score`` by its name: ``pre="X_pca"`` (an embedding from before
        integration, for the comparison of principal components), ``corrected="layer"``, ``counts_layer``,
        ``plugins``, ``profile`` (``"full"`` never approximates), ``jobs``, ``keep`` with ``donor_key``
        (columns of conditions that must be kept, and of donors)...

    Returns
    -------
    DataFrame
        ``method_id``, ``metric_id``, ``fold``, ``value``, ``reason``: a missing value has a reason. If a
        score rests on a sample of the cells, also its ``standard_error``.

    Raises
    ------
    UserError
        If there is nothing to score, or a key is missing.

    Examples
    --------
    >>> import pandas as pd, cellular_bench
    >>> table = pd.DataFrame({"label": ["a", "a", "b"], "label_pred": ["a", "b", "b"]})
    >>> round(float(cellular_bench.score(predictions=table, metrics="accuracy").value.item()), 3)
    0.667
    """
    import pandas as pd

    asked = {"adata": adata, "predictions": predictions, "obsm": obsm, "metrics": metrics}
    request = ScoreRequest.of(**{**options, **asked, "embeddings": dict(embeddings or {})})
    return pd.DataFrame([row.as_json() for row in score_workflow.score(request).rows])


def _chosen_methods(methods: Sequence[Any], folder: Path) -> tuple[tuple[str, ...], list[Path]]:
    """Return the names of methods, and the files that hold those which were given as files or classes."""
    names: list[str] = []
    files: list[Path] = []
    for method in methods:
        if isinstance(method, Path) or str(method).endswith(".py"):
            files.append(Path(method))
            names += [own.spec.method_id for plugin in registry.load(files[-1:]) for own in plugin.methods]
        elif isinstance(method, str):
            names.append(method)
        else:
            files += _file_of(method, folder)
            names.append(method.spec.method_id)
    return tuple(names), files


def _file_of(method: Any, folder: Path) -> list[Path]:
    """Return the file that holds the class of a method; none where every process finds it by its name."""
    if not inspect.isclass(method):
        raise UserError(
            f"methods: came {method!r}; expected names, files or classes. The benchmark makes an "
            "instance for every split, with its own seed: give the class, and parameters as "
            "params={'METHOD_ID': {'NAME': VALUE}}."
        )
    spec = vars(method).get("spec")
    if not isinstance(spec, MethodSpec):
        raise UserError(
            f"{method.__name__} is no method: it must set `spec = MethodSpec(...)` in its own body."
        )
    known = registry.methods()
    if spec.method_id in known and known[spec.method_id].factory is method:
        return []
    return [write_plugin(method, folder / f"{spec.method_id}.py")]
