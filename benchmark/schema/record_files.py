"""Records as JSON files: written, read in any version up to this one, and their schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cellular_bench.benchmark.schema.records import GENES, SCHEMA_VERSION, Model, RunRecord
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.core.toml import explain

#: Numbers of a record are smaller than this.
MOST_NUMBER: Final = 2**63


class NewerRecordError(UserError):
    """A record that a later version of this program wrote: neither damaged nor to be replaced."""


def write_record(record: RunRecord, path: Path) -> None:
    """Write a record as indented JSON."""
    write_text_atomically(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path) -> RunRecord:
    """Read a record, of this schema version or an older one.

    Raises
    ------
    NewerRecordError
        If a later version wrote it.
    UserError
        If the file cannot be read or is not a record.
    """
    try:
        fields = _loaded(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise UserError(f"{path} is not a run record: it is nested too deeply.") from error
    except ValueError as error:
        raise UserError(f"{path} is not a run record: {error}.") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerRecordError(
            f"{path} was written by a newer cellular-bench (schema version {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Fix: pip install --upgrade cellular-bench"
        )
    try:
        return RunRecord.model_validate(_upgraded(fields) if version == 1 else fields)
    except ValidationError as error:
        raise UserError(f"{path} is not a run record: {explain(error)}") from error


def _loaded(text: bytes) -> Any:
    """Read JSON; ValueError for what cannot be computed with or written again.

    That are halves of characters, infinity, and numbers whose sum would be infinite.
    """
    loaded = json.loads(
        text, parse_float=_bounded(float), parse_int=_bounded(int), parse_constant=_bounded(float)
    )
    if b"\\ud" in text.lower():  # only an escape can be half of a character
        json.dumps(loaded, ensure_ascii=False).encode()
    return loaded


def _bounded(kind: type[int] | type[float]) -> Callable[[str], int | float]:
    def read(digits: str) -> int | float:
        number = kind(digits)
        if not abs(number) < MOST_NUMBER:  # neither is NaN
            raise ValueError(f"the number {digits[:20]} is out of range")
        return number

    return read


def _upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Say in a record of version 1 what only the method's name says there: that it was given other genes."""
    method = fields.get("method")
    if isinstance(method, dict):
        features, name = method.get("features"), str(method.get("name"))
        given = [genes for genes, words in GENES.items() if genes == features and name.endswith(f", {words}")]
        method = {**method, "given_features": given[0] if given else None}
    return {**fields, "schema_version": 2, "method": method}


#: Parts that many records have in common.
COMMON: Final = ("method", "dataset", "split", "limits", "environment")


def sharing(records: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """Yield records that hold equal parts once: each names a hundred packages and more.

    Ten thousand records of one machine take a fraction of the memory.
    """
    known: dict[tuple[str, str], Model] = {}
    for record in records:
        parts = {name: part for name in COMMON if (part := getattr(record, name)) is not None}
        shared = {key: known.setdefault((key, part.model_dump_json()), part) for key, part in parts.items()}
        yield record.model_copy(update=shared)


def json_schema() -> str:
    """Return the JSON Schema of :class:`RunRecord`."""
    return json.dumps(RunRecord.model_json_schema(), indent=1) + "\n"
