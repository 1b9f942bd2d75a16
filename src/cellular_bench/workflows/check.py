"""Check whether methods, metrics and data sets keep the promises of the interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance import CheckResult, check_dataset
from cellular_bench.core.errors import UserError


def check(
    names: Sequence[str],
    *,
    plugins: Sequence[Path] = (),
    params: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Iterator[tuple[str, Iterable[CheckResult]]]:
    """Check methods, metrics and data sets; yield the title of each and its results as they come.

    Parameters
    ----------
    names
        Names, or files: everything of a file is checked.
    params
        Parameters of methods.

    Raises
    ------
    UserError
        If a file does not exist, or a name is unknown.
    """
    from cellular_bench.benchmark.conformance.isolated import check_isolated

    files = tuple(Path(name) for name in names if name.endswith(".py"))
    for path in files:
        if not path.is_file():
            raise UserError(f"{path} does not exist.")
    loaded = registry.load(files)
    every = (*plugins, *files)
    methods = registry.methods(every)
    metrics, datasets = registry.metrics(plugins), registry.datasets(every)
    chosen = [name for name in names if not name.endswith(".py")]
    for plugin in loaded:
        chosen += [factory.spec.method_id for factory in plugin.methods]
        chosen += [spec.metric_id for spec in plugin.metrics] + [spec.dataset_id for spec in plugin.datasets]
    for name in chosen:
        if name in metrics:
            yield f"{name} (metric)", check_isolated("metric", name, plugins=every)
        elif name in datasets:
            # A map is lazy: the data are loaded after the title is shown, in this process as in a run.
            yield f"{name} (data set)", chain.from_iterable(map(check_dataset, [datasets[name]]))
        else:
            method = registry.lookup("method", name, methods)
            results = check_isolated("method", name, plugins=every, params=params.get(name))
            yield f"{name} ({method.origin})", results
