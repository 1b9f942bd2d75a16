"""Records as JSON files: written, read in any version up to this one, and their schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from cellular_bench.benchmark.schema.records import GENES, SCHEMA_VERSION, Model, RunRecord
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.core.json_files import read_json
from cellular_bench.core.toml import explain

#: The most bytes of a record: a confusion matrix of a thousand labels has some 20 MB.
MOST_RECORD_BYTES: Final = 2**26
#: Numbers of a record are smaller than this, so that no sum of them is infinite.
MOST_NUMBER: Final = 2**63


AnyModel = TypeVar("AnyModel", bound=Model)


class NewerVersionError(UserError):
    """A file that a later version of this program wrote: neither damaged nor to be replaced."""


def write_record(record: RunRecord, path: Path) -> None:
    """Write a record as indented JSON."""
    write_text_atomically(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path) -> RunRecord:
    """Read a record, of this schema version or an older one.

    Raises
    ------
    NewerVersionError
        If a later version wrote it.
    UserError
        If the file cannot be read or is not a record.
    """
    fields = read_json(path, what="run record", most_bytes=MOST_RECORD_BYTES, most_number=MOST_NUMBER)
    check_version(path, fields)
    is_first = isinstance(fields, dict) and fields.get("schema_version") == 1
    try:
        return RunRecord.model_validate(_upgraded(fields) if is_first else fields)
    except ValidationError as error:
        raise UserError(f"{path} is not a run record: {explain(error)}") from error


def check_version(path: Path, fields: Any) -> None:
    """Refuse what a later version of this program wrote.

    All files of a result folder that programs read may say their ``schema_version``; records always do.

    Raises
    ------
    NewerVersionError
        If it is above :data:`SCHEMA_VERSION`.
    """
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerVersionError(
            f"{path} was written by a newer cellular-bench (schema version {version}; this one reads up to "
            f"{SCHEMA_VERSION}). Nothing was changed. Fix: pip install --upgrade cellular-bench"
        )


def read_model(path: Path, model: type[AnyModel], *, what: str, most_bytes: int) -> AnyModel:
    """Read another JSON file of a result folder.

    Parameters
    ----------
    what
        What the file is, for the error: ``"suite"``.

    Raises
    ------
    NewerVersionError
        If a later version wrote it.
    UserError
        If the file cannot be read or is something else.
    """
    fields = read_json(path, what=what, most_bytes=most_bytes)
    check_version(path, fields)
    if isinstance(fields, dict):
        fields.pop("schema_version", None)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise UserError(f"{path} is not a {what}: {explain(error)}") from error


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
