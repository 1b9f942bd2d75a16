"""Find methods, metrics, data sets, tasks and suites by name, without a list to edit.

A method is any class that sets ``spec`` to a :class:`MethodSpec` in its own body: in a module of
``cellular_bench.methods``, behind an entry point of the group ``cellular_bench.methods``, or in a
file given on the command line (a plug-in). Looking a name up imports no heavy library.

A plug-in may also hold metrics (functions with ``@metric``) and tasks (a :class:`Task` at the top of the
module), which every process knows that has loaded it, and data sets (functions with ``@dataset``).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

from cellular_bench import environments
from cellular_bench.benchmark.tasks import TASKS, Task
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.types import DatasetSpec, LabelAccess, MethodSpec, MetricSpec, ScalingUse, TaskId

T = TypeVar("T")

ENTRY_POINT_GROUP = "cellular_bench.methods"
#: Origin of the methods that come with this package.
BUILT_IN = "built in"
#: File of each task that a plug-in defines.
_TASK_FILES: dict[TaskId, Path] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method that can be run.

    Attributes
    ----------
    factory
        The class; its constructor takes keywords only, ``seed`` among them.
    origin
        ``"built in"``, ``"entry point NAME"`` or the path of a plug-in file.
    source_digest
        sha256 of a plug-in file, so that an edited method is not taken for its older self.
    distribution
        The package that brought a method behind an entry point.
    """

    spec: MethodSpec
    factory: Any
    origin: str
    source_digest: str | None = None
    distribution: str | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """Parameters of the constructor with their default values, without the seed."""
        parameters = inspect.signature(self.factory).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "seed" and p.default is not p.empty}

    def missing_modules(self) -> list[str]:
        """Return the modules that the method requires and that are not installed."""
        return [name for name in self.spec.requires if importlib.util.find_spec(name) is None]

    def environment(self) -> environments.State | None:
        """Return the state of the method's own environment; None where it runs beside the others."""
        return environments.state(environments.find(self.spec.environment)) if self.spec.environment else None


def methods(plugins: Sequence[Path] = ()) -> dict[str, Method]:
    """Return every known method by ``method_id``.

    Raises
    ------
    UserError
        If a plug-in cannot be read, holds no method, or reuses a name.
    """
    found: dict[str, Method] = {}
    load(plugins)  # a method may do the task of another file
    for method in _all_methods(plugins):
        check_spec(method.spec, method.origin)
        name = method.spec.method_id
        if found.setdefault(name, method) is not method:
            both = f"{found[name].origin} and {method.origin}"
            raise UserError(f"Two methods are called '{name}': {both}. Rename one of them.")
    return dict(sorted(found.items()))


def check_spec(spec: MethodSpec, origin: str) -> None:
    """Refuse a description that would be misread further on: ids become names of folders.

    Raises
    ------
    UserError
        With the first field that holds something else than it must.
    """
    wanted = {
        "method_id": (
            isinstance(spec.method_id, str) and re.fullmatch(r"[a-z0-9_]+", spec.method_id) is not None,
            "lower-case letters, digits and underscores",
        ),
        "name": (isinstance(spec.name, str) and bool(spec.name.strip()), "a text that is not empty"),
        "tasks": (
            isinstance(spec.tasks, tuple) and bool(spec.tasks) and all(name in TASKS for name in spec.tasks),
            f"a tuple of {_quoted(TASKS)}",
        ),
        "labels": (spec.labels in get_args(LabelAccess), f"one of {_quoted(get_args(LabelAccess))}"),
        "reads": (spec.reads in _READS, f"one of {_quoted(_READS)}"),
        "features": (spec.features in _FEATURES, f"one of {_quoted(_FEATURES)}"),
        "scaling": (spec.scaling in get_args(ScalingUse), f"one of {_quoted(get_args(ScalingUse))}"),
        "requires": (
            isinstance(spec.requires, tuple) and all(isinstance(name, str) for name in spec.requires),
            "a tuple of names of modules",
        ),
        "environment": (_is_name(spec.environment), "a name or a path, or None"),
        "program": (
            _is_name(spec.program) and (spec.program is None) == (spec.environment is None),
            "the name or path of a program where environment is set, else None",
        ),
        "needs_names": (isinstance(spec.needs_names, bool), "True or False"),
        "weights": (
            isinstance(spec.weights, tuple) and all(map(_is_folder, spec.weights)),
            "a tuple of folders, absolute or below the home, such as '~/.cache/huggingface'",
        ),
        "version": (type(spec.version) is int, "a whole number"),
        "canary": (
            spec.canary is None or (isinstance(spec.canary, str) and bool(spec.canary) and spec.is_control),
            "None, or a short text where is_control is True",
        ),
        "warm_up": (
            type(spec.warm_up) is int and spec.warm_up >= 0,
            "a number of cells, such as 240; 0 for none",
        ),
    }
    for field, (is_right, expected) in wanted.items():
        if not is_right:
            raise UserError(f"{origin}: spec.{field} is {getattr(spec, field)!r}; it must be {expected}.")
    for task in (TASKS[name] for name in spec.tasks):
        if task.is_at_once(spec) and spec.labels == "train":
            raise UserError(
                f"{origin}: '{spec.method_id}' asks for labels of training cells, but {task.asks_at_once} "
                "sees only the cells that it is called on, whose labels are not shown. Set inductive=True "
                f"with fit and {task.asks}, or labels='none'."
            )


_READS = ("counts", "lognorm")
_FEATURES = ("hvg", "all")


def _is_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _is_folder(value: Any) -> bool:
    """Whether a value names a folder: neither all files nor the whole home."""
    if not isinstance(value, str) or not value.isprintable():
        return False
    parts = Path(value).parts
    return len(parts) > 1 and parts[0] in ("/", "~") and ".." not in parts


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def method(method_id: str, plugins: Sequence[Path] = ()) -> Method:
    """Return one method by name, without looking further than where it is found."""
    for found in _all_methods(plugins):
        if found.spec.method_id == method_id:
            return found
    return lookup("method", method_id, methods(plugins))


def methods_for(task: TaskId, known: Mapping[str, Method]) -> list[str]:
    """Return what ``all`` stands for: methods for a task that need no parameter, without variants."""
    return [
        name
        for name, method in known.items()
        if TASKS[task].is_done_by(method.spec)
        and method.spec.variant_of is None
        and not method.spec.needs_params
    ]


def canaries_for(task: TaskId, known: Mapping[str, Method]) -> list[str]:
    """Return the canary embeddings of a task, after the methods that they damage; none for most tasks.

    A method that is not known is left out, and so are its canaries.
    """
    specs = [m.spec for m in known.values() if m.spec.canary is not None and task in m.spec.tasks]
    specs = [spec for spec in specs if spec.variant_of is None or spec.variant_of in known]
    damaged = dict.fromkeys(spec.variant_of for spec in specs if spec.variant_of is not None)
    return [*damaged, *(spec.method_id for spec in sorted(specs, key=_canary_order))]


@functools.cache
def built_in_canaries() -> dict[str, MethodSpec]:
    """Describe the canary embeddings of this package by name, those first that need no other method."""
    specs = [spec for spec in built_in_specs().values() if spec.canary is not None]
    return {spec.method_id: spec for spec in sorted(specs, key=_canary_order)}


def _canary_order(spec: MethodSpec) -> tuple[bool, str]:
    return spec.variant_of is not None, spec.method_id


def task(task_id: TaskId, plugins: Sequence[Path] = ()) -> Task:
    """Return one task by name; plug-ins are imported only where it is not known without them."""
    if task_id not in TASKS:
        load(plugins)
    return lookup("task", task_id, TASKS)


def task_origin(task_id: TaskId) -> Path | None:
    """Return the plug-in file that defines a task; None for the tasks of this package."""
    return _TASK_FILES.get(task_id)


def metrics(plugins: Sequence[Path] = ()) -> Mapping[str, MetricSpec]:
    """Return every metric by ``metric_id``, those of plug-ins that were loaded before among them."""
    from cellular_bench.metrics import METRICS

    load(plugins)
    return METRICS


def datasets(plugins: Sequence[Path] = ()) -> dict[str, DatasetSpec]:
    """Return every data set by ``dataset_id``.

    Raises
    ------
    UserError
        If a plug-in cannot be read, or reuses a name.
    """
    from cellular_bench.datasets import catalog

    found = catalog.specs()
    for plugin in load(plugins):
        for spec in plugin.datasets:
            if spec.dataset_id in found:
                raise UserError(
                    f"Two data sets are called '{spec.dataset_id}'. Rename that of {plugin.path}."
                )
            found[spec.dataset_id] = spec
    return found


def suites() -> dict[str, Path]:
    """Return the file of every suite by ``suite_id``."""
    folder = files("cellular_bench.benchmark") / "suites"
    return {path.stem: path for path in sorted(Path(str(folder)).glob("*.toml"))}


def lookup(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Look a name up, or say which one may have been meant."""
    try:
        return known[name]
    except KeyError:
        raise UnknownNameError(kind, name, known) from None


def _all_methods(plugins: Sequence[Path]) -> Iterator[Method]:
    for factory in _methods_package().built_in():
        yield Method(spec=factory.spec, factory=factory, origin=BUILT_IN)
    for path in plugins:
        yield from _from_file(path)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        yield from _from_entry_point(point)


def built_in(method_ids: Iterable[str]) -> list[MethodSpec]:
    """Describe methods of this package by name."""
    return [lookup("method", name, built_in_specs()) for name in method_ids]


@functools.cache
def built_in_specs() -> dict[str, MethodSpec]:
    """Describe all methods of this package by name."""
    return {factory.spec.method_id: factory.spec for factory in _methods_package().built_in()}


def _methods_package() -> Any:
    return importlib.import_module("cellular_bench.methods")


def _from_entry_point(point: EntryPoint) -> Iterator[Method]:
    try:
        loaded = point.load()
    except Exception as error:
        # Somebody else's broken package must not stop every benchmark; it must be seen, though.
        warnings.warn(f"Entry point '{point.name}' ({point.value}) cannot be loaded: {error!r}", stacklevel=2)
        return
    classes = _methods_package().method_classes(loaded) if isinstance(loaded, ModuleType) else [loaded]
    name = point.dist.name if point.dist else None
    for factory in classes:
        yield Method(
            spec=factory.spec, factory=factory, origin=f"entry point {point.name}", distribution=name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A file of the user's own, and what it defines."""

    path: Path
    digest: str
    source: bytes
    methods: tuple[Any, ...]
    metrics: tuple[MetricSpec, ...]
    datasets: tuple[DatasetSpec, ...]
    tasks: tuple[Task, ...]


def load(plugins: Iterable[Path]) -> list[Plugin]:
    """Import plug-in files; this process then knows their metrics and tasks.

    Raises
    ------
    UserError
        If one cannot be read or imported, defines nothing, or has a task of a name that is taken.
    """
    return [_load(path) for path in plugins]


def _load(path: Path) -> Plugin:
    path = path.resolve()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"Plug-in {path} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(source).hexdigest()
    # Its place is part of the name: the same text elsewhere finds other files beside it.
    place = hashlib.sha256(bytes(path) + source).hexdigest()
    module = _import_file(path, name=f"cellular_bench_plugin_{place[:16]}")
    plugin = Plugin(
        path=path,
        digest=digest,
        source=source,
        methods=tuple(_methods_package().method_classes(module)),
        metrics=tuple(_declared(module, MetricSpec)),
        datasets=tuple(_declared(module, DatasetSpec)),
        tasks=tuple(
            replace(value, source_digest=digest[:10])
            for value in vars(module).values()
            if isinstance(value, Task) and all(value is not known for known in TASKS.values())  # not imported
        ),
    )
    if not (plugin.methods or plugin.metrics or plugin.datasets or plugin.tasks):
        raise UserError(
            f"Plug-in {path} defines no method, metric, data set or task: no class sets `spec = "
            "MethodSpec(...)`, no function has @metric(...) or @dataset(...), and there is no Task. "
            "`run-benchmark new` writes one to begin with."
        )
    for task in plugin.tasks:
        _register(task, path)
    if plugin.metrics:
        from cellular_bench.metrics.spec import sort_metrics

        sort_metrics()
    return plugin


def _register(task: Task, path: Path) -> None:
    """Make a task known to this process; a newer text of its file replaces it."""
    known, origin = TASKS.get(task.task_id), _TASK_FILES.get(task.task_id, BUILT_IN)
    if known is not None and origin != path and known.source_digest != task.source_digest:
        raise UserError(f"Two tasks are called '{task.task_id}': {origin} and {path}. Rename one of them.")
    TASKS[task.task_id] = task
    _TASK_FILES[task.task_id] = path


def _declared(module: ModuleType, kind: type[T]) -> Iterator[T]:
    for value in vars(module).values():
        is_own = inspect.isfunction(value) and value.__module__ == module.__name__
        if is_own and isinstance(spec := getattr(value, "spec", None), kind):
            yield spec


def _from_file(path: Path) -> Iterator[Method]:
    plugin = _load(path)
    for factory in plugin.methods:
        program = _program_of(factory.spec, plugin.path)
        own = hashlib.sha256(plugin.source + program).hexdigest() if program else plugin.digest
        yield Method(spec=factory.spec, factory=factory, origin=str(plugin.path), source_digest=own)


def _program_of(spec: MethodSpec, plugin: Path) -> bytes:
    """Return the source of what a plug-in runs in an environment: it, too, makes the method what it is."""
    if not isinstance(spec.program, str):
        return b""
    path = environments.program_file(spec.program)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"Plug-in {plugin}: its program {path} cannot be read: {error.strerror}.") from error


def _import_file(path: Path, *, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"Plug-in {path} is not a Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    cwd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)  # which may have no name any more
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that calls sys.exit() must not end the benchmark
        del sys.modules[name]
        raise UserError(f"Plug-in {path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        os.fchdir(cwd)  # or results would be written relative to wherever the plug-in went
        os.close(cwd)
    return module
