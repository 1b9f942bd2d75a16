"""The Python interface: what the command line does, for scripts and notebooks.

There is no second way to anything: :func:`run` calls what ``run-benchmark run`` calls, and so on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.results.store import Store
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import MethodSpec, ProfileName
from cellular_bench.notebook_code import write_plugin
from cellular_bench.results import Results

if TYPE_CHECKING:
    import click
    import pandas as pd
    from anndata import AnnData


def run(
    *,
    methods: Any = (),
    tasks: str | Sequence[str] = (),
    suite: str | Path | None = None,
    datasets: str | Sequence[str] = (),
    adata: AnnData | Path | str | None = None,
    batch_key: str | None = None,
    label_key: str | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Path | str | Sequence[Path | str] = (),
    seeds: int | Sequence[int] = (),
    out: Path | str = "results",
    jobs: int | None = None,
    figures: bool = False,
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
        ``"integration"``, ``"annotation"``, ``"novelty"``, tasks of plug-ins; all of the suite's if empty.
    suite
        Name of a suite, or a TOML file. By default ``quickstart``; ``standard`` with ``adata`` or
        ``methods``.
    datasets
        Names of the catalogue, or of plug-ins, instead of the suite's.
    adata, batch_key, label_key
        Your own cells, in memory or as an h5ad file, and the columns of ``obs`` with batches and cell types.
    params
        Parameters of methods: ``{"knn": {"n_neighbors": 5}}``.
    plugins
        Files with methods, metrics or data sets of your own.
    seeds
        Instead of the suite's.
    out
        Folder of results.
    jobs
        Runs at a time; the usable cores if None.
    figures
        Draw UMAPs, curves, confusion matrices and training, which takes longer than many methods.
    quiet
        Print nothing.
    **options
        Every other option of ``run-benchmark run`` by its name: ``split="kfold"``, ``n_splits=3``,
        ``subsample=2000``, ``stress={"kind": "label_noise", "levels": [0.0, 0.3]}``, ``time_limit=600``...
        Those about messages (``verbose``, ``log_file``) are of the command alone.

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
    from rich.console import Console

    from cellular_bench.cli import run as cli

    if adata is not None and label_key is None:
        raise UserError("adata needs label_key: the column of obs that holds the cell types.")
    request = {
        **cli.command.make_context("run", []).params,
        **_checked(options, cli.command),
        "suite": None if suite is None else str(suite),
        "tasks": _several(tasks),
        "datasets": _several(datasets),
        "adata": Path(adata) if isinstance(adata, str) else adata,
        "batch_key": batch_key,
        "label_key": label_key,
        "params": params or {},
        "seeds": _several(seeds) or None,
        "out": (store := Store.claim(Path(out))).root,
        **_checked({"jobs": jobs}, cli.command),
        "figures": figures,
    }
    method_ids, files = _chosen_methods(_several(methods), store.root / "plugins")
    request["plugins"] = tuple(dict.fromkeys([*map(Path, _several(plugins)), *files]))
    # A notebook shows what rich makes for it piece by piece, and asks for colours that its streams lack.
    in_notebook = "ipykernel" in sys.modules
    console = Console(quiet=quiet, force_jupyter=False, force_terminal=False if in_notebook else None)
    cli.run(**{**request, "methods": method_ids}, console=console)
    return Results(store.root, plugins=request["plugins"])


def score(
    adata: AnnData | Path | str | None = None,
    *,
    predictions: pd.DataFrame | Path | str | None = None,
    batch_key: str | None = None,
    label_key: str | None = None,
    counts_layer: str | None = None,
    obsm: str | Sequence[str] = (),
    embeddings: Mapping[str, Any] | None = None,
    pre: str | None = None,
    corrected: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    plugins: Path | str | Sequence[Path | str] = (),
    profile: ProfileName = "standard",
    jobs: int | None = None,
) -> pd.DataFrame:
    """Score embeddings or predictions that were made elsewhere.

    Parameters
    ----------
    adata
        Cells, in memory or as an h5ad file, for embeddings.
    predictions
        Table or CSV file with the columns ``label`` and ``label_pred``; ``method``, ``fold``, ``novelty``,
        ``is_novel`` and ``proba:LABEL`` are read where they are there. An empty prediction is a rejection.
    batch_key, label_key
        Columns of ``obs`` with batches and cell types.
    counts_layer
        Layer that holds raw counts, ``"X"`` or ``"raw"``; found by itself where possible.
    obsm
        Keys of embeddings in ``adata``.
    embeddings
        More of them by name: arrays of shape (n_obs, n_latent) in the order of the cells, or DataFrames
        that name them.
    pre
        Key of ``obsm`` of an embedding from before integration, for the comparison of principal components.
    corrected
        Layers with corrected log-normalised expression.
    metrics
        Only these; the usual ones if empty.
    plugins
        Files with metrics of your own.
    profile
        How exact the scores of embeddings are: ``"fast"`` and ``"standard"`` approximate where cells are
        very many, ``"full"`` never.
    jobs
        Threads and processes for embeddings; no value depends on it. The usable cores if None.

    Returns
    -------
    DataFrame
        ``method_id``, ``metric_id``, ``fold``, ``value``, ``reason``: a missing value has a reason. Where a
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

    from cellular_bench.workflows import score as score_rows
    from cellular_bench.workflows.score_files import predicted_in, read_predictions

    if (adata is None) == (predictions is None):
        raise UserError("Give either adata, with obsm or embeddings, or predictions.")
    registry.load(_paths(plugins))
    metric_ids = _several(metrics) or None
    for name in metric_ids or ():
        registry.pick("metric", name, registry.metrics())
    if isinstance(predictions, pd.DataFrame):
        # Whole numbers beside a missing one have become 1.0, 2.0: they mean the labels 1 and 2.
        text = predictions.convert_dtypes().astype(object).where(predictions.notna(), "").astype(str)
        parts = list(predicted_in(text.reset_index(drop=True), "predictions", where="The table"))
        rows = score_rows.score_parts(parts, metric_ids=metric_ids)
    elif predictions is not None:
        rows = score_rows.score_parts(list(read_predictions(Path(predictions))), metric_ids=metric_ids)
    else:
        if label_key is None or batch_key is None:
            raise UserError("adata needs batch_key and label_key: columns of obs.")
        how = score_rows.Scoring(profile=profile, metric_ids=metric_ids, n_jobs=jobs or usable_cores())
        rows = score_rows.score_embeddings(
            Path(adata) if isinstance(adata, str) else adata,
            batch_key=batch_key,
            label_key=label_key,
            counts_layer=counts_layer,
            obsm=_several(obsm),
            arrays=embeddings,
            pre=pre,
            corrected=_several(corrected),
            how=how,
        )
    return pd.DataFrame([row.as_json() for row in rows])


def _several(given: Any) -> tuple[Any, ...]:
    """Return one thing or a sequence of things as a tuple."""
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        return (given,)
    return tuple(given)


def _paths(given: Any) -> tuple[Path, ...]:
    return tuple(map(Path, _several(given)))


def _checked(options: Mapping[str, Any], command: click.Command) -> dict[str, Any]:
    """Refuse options that the command does not have, and values that it does not offer."""
    import click

    known = {str(option.name): option for option in command.params}
    context = click.Context(command)
    read = {}
    for name, value in options.items():
        if name not in known:
            raise UnknownNameError("option", name, known)
        try:
            read[name] = _read(known[name], value, context)
        except click.UsageError as error:
            raise UserError(f"{name}: {error.message}") from error
    return read


def _read(option: click.Parameter, value: Any, context: click.Context) -> Any:
    """Read a value as the command line would, where it is not of Python's own kind already."""
    import click

    if value is None:
        return None
    if option.callback is not None:  # reads text
        return option.callback(context, option, value) if isinstance(value, str) else value
    if isinstance(option.type, click.Choice) and not option.multiple:
        offered = {str(choice).replace("_", "-"): choice for choice in option.type.choices}
        return registry.pick(str(option.name), str(value).replace("_", "-"), offered)
    if option.multiple:
        return option.type_cast_value(context, _several(value))
    return option.type_cast_value(context, tuple(value) if isinstance(value, list) else value)


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
            "instance for every split, with a seed of its own: give the class, and parameters as "
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
