"""The parameters of a run: completed, checked, and the files among them digested."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.benchmark.registry import BUILT_IN, Method, built_in, lookup
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import open_regular
from cellular_bench.core.types import MethodSpec

if TYPE_CHECKING:
    pass


def completed(method: Method, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a method: its defaults, with some overridden.

    Raises
    ------
    UserError
        If a name is unknown, a value cannot be recorded or is refused by one of our own methods, or a
        parameter that has to be given is not.
    """
    defaults = method.defaults
    for name in overrides:
        lookup(f"{method.spec.method_id} parameter", name, defaults)
    params = {**defaults, **overrides}
    for name, value in params.items():
        _check_param(method, name, value)
    for name in method.spec.needs_params:
        if name not in overrides:
            raise UserError(
                f"Method '{method.spec.method_id}' needs the parameter '{name}'. Give it, such as "
                f"--param {method.spec.method_id}.{name}=VALUE."
            )
    _check_values(method, params, overrides)
    # Each run has its own working folder, where a relative path leads nowhere.
    return params | {name: str(path) for name, path in files_of(method, params).items()}


def file_digests(method: Method, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of each file that a parameter names.

    Raises
    ------
    UserError
        If one cannot be read.
    """
    digests = {}
    for name, path in files_of(method, params).items():
        try:
            stat = path.stat()
            digests[name] = _sha256(path, stat.st_mtime_ns, stat.st_size)
        except OSError as error:
            raise UserError(
                f"Parameter '{name}' of method '{method.spec.method_id}' names {path}, which cannot be read: "
                f"{error.strerror}."
            ) from error
    return digests


def members(method: Method, params: Mapping[str, Any]) -> list[MethodSpec]:
    """Describe the methods that a parameter names."""
    return built_in(name for param in method.spec.method_params for name in params[param] or ())


def _check_param(method: Method, name: str, value: Any) -> None:
    """Refuse what a record cannot hold: the run could not be distinguished from others, nor repeated."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"Parameter '{name}' of method '{method.spec.method_id}' is {value!r}; it must be text, a finite "
            "number, true, false, null, or a list or table of these."
        ) from error


def _check_values(method: Method, params: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Let one of our own methods refuse a value now, not in each of its runs; it computes nothing yet."""
    if method.origin != BUILT_IN:
        return  # a crash or a hang of foreign code ends its own run alone
    try:
        method.factory(**params, seed=0)
    except UserError as error:
        raise UserError(f"Method '{method.spec.method_id}': {error}") from error
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in overrides.items())
        raise UserError(f"Method '{method.spec.method_id}' cannot be made with {given}: {error}.") from error


def files_of(method: Method, params: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files that parameters name, by the name of the parameter.

    Raises
    ------
    UserError
        If such a parameter is something else than text.
    """
    given = {name: params[name] for name in method.spec.file_params if params[name] is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise UserError(
                f"Parameter '{name}' of method '{method.spec.method_id}' is {value!r}; it must be the path "
                "of a file."
            )
    return {name: _resolved(method, name, value) for name, value in given.items()}


def _resolved(method: Method, name: str, value: str) -> Path:
    try:
        return Path(value).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a ring of links, a null character
        raise UserError(
            f"Parameter '{name}' of method '{method.spec.method_id}' is {value!r}, which is no path: {error}."
        ) from error


@functools.cache
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    """Digest a file once, however many runs read it; another time or size of it is another file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
