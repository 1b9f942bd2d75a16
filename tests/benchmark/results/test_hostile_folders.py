"""Attacks through result folders that somebody else wrote: links, pipes, names that are paths, any content.

Whatever a file of a folder is, each command that reads the folder ends with a reason or goes on without that
run; nothing outside the folder is changed or copied, and nothing in a folder of a newer version.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellular_bench.benchmark.results.merge import merge
from cellular_bench.benchmark.results.progress import overview
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.record_files import NewerVersionError
from cellular_bench.cli import group
from cellular_bench.core.errors import BenchError, UserError
from cellular_bench.results import Results
from cellular_bench.workflows.export import export
from cellular_bench.workflows.report import ReportRequest, watch, write_reports
from cellular_bench.workflows.rescore import rescore_folder

OLD = Path(__file__).parents[2] / "data" / "results-0.1.0"
BASE = "annotation-simulated_small-kfold-2-42"
RUN, OTHER, FAILED = (
    f"{BASE}.1-knn-s0-110c7a1fd7",
    f"{BASE}.2-knn-s0-a61bcb9e5b",
    f"{BASE}.1-raises-s0-96f9c42c73",
)
SPLIT = "splits/simulated_small-d7dc0b2281/kfold-2-42.1-c4d76898c6"
FILES = [
    *(f"runs/{RUN}/{name}" for name in ("record.json", "outputs.npz", "log.txt", "running.json")),
    *(f"runs/{RUN}/artifacts/{name}" for name in ("history.json", "model.bin")),
    *(f"{SPLIT}/{name}" for name in ("cells.npz", "truth.npz")),
    *("suite.json", "plan.json", "index.jsonl", ".lock", "live.html", "leaderboard.html", "scores.csv"),
]
FOLDERS = ["runs", f"runs/{RUN}", f"runs/{RUN}/artifacts", "splits", "splits/simulated_small-d7dc0b2281",
           SPLIT, "export", "data", "boards", "paper", "figures"]  # fmt: skip


def build(root: Path) -> Path:
    """A folder of three runs, beside one with files that are nobody's business."""
    folder = root / "results"
    shutil.copytree(OLD / "results" / "splits", folder / "splits")
    for run_id in (RUN, OTHER, FAILED):
        shutil.copytree(OLD / "results" / "runs" / run_id, folder / "runs" / run_id)
    for name in ("suite.json", "plan.json", "index.jsonl"):
        shutil.copy(OLD / "results" / name, folder / name)
    for name in ("history.json", "model.bin"):
        (folder / "runs" / RUN / "artifacts").mkdir(exist_ok=True)
        (folder / "runs" / RUN / "artifacts" / name).write_text("[]")
    outside = root / "outside"
    (outside / "inner").mkdir(parents=True)
    for name in ("secret.txt", "inner/record.json", "inner/secret.txt", "inner/cells.npz"):
        (outside / name).write_text("PRIVATE")
    return folder


def tree(root: Path) -> dict[str, Any]:
    """Everything below a folder: content or target, and when it was changed."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        seen = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = content, seen.st_mtime_ns, seen.st_mode
    return found


@contextmanager
def at_once() -> Iterator[None]:
    """A pipe that is waited for ends the test."""

    def late(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _report(folder: Path) -> None:
    write_reports(ReportRequest(stores=[Store.open(folder)], out=folder, figures=False))


def _merge(folder: Path) -> None:
    merge([Store.open(folder)], folder.parent / "merged")


def _watch(folder: Path) -> None:
    watch(Store.open(folder), interval=0.01)


def _compare(folder: Path) -> None:
    done = CliRunner().invoke(group, ["compare", str(folder), str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception


WORKFLOWS: dict[str, Callable[[Path], object]] = {
    "status": lambda folder: overview(Store.open(folder)),
    "results": lambda folder: Results(folder).to_frame(),
    "report": _report,
    "watch": _watch,
    "compare": _compare,
    "merge": _merge,
    "export": lambda folder: export(folder, output="csv"),
    "export h5ad": lambda folder: export(folder, output="h5ad"),
    "rescore": rescore_folder,
    "claim": Store.claim,
}


def read_by_all(folder: Path) -> dict[str, str]:
    """Read a folder in every way; return the errors of those that ended with one."""
    errors = {}
    for name, workflow in WORKFLOWS.items():
        with at_once():
            try:
                workflow(folder)
            except BenchError as error:
                errors[name] = str(error)
    return errors


def test_the_sound_folder_is_read_in_every_way(tmp_path: Path) -> None:
    folder = build(tmp_path)
    assert read_by_all(folder) == {}
    assert {record.run_id for record in Store.open(tmp_path / "merged").records()} == {RUN, OTHER, FAILED}


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "secret.txt")


def _link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "inner")


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "new.txt")


def _pipe(path: Path, outside: Path) -> None:
    del outside
    os.mkfifo(path)


def _folder(path: Path, outside: Path) -> None:
    del outside
    (path / "more").mkdir(parents=True)


def replaced(path: Path, make: Callable[[Path, Path], None], outside: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make(path, outside)


def check_after(folder: Path, outside: dict[str, Any], lost: set[str]) -> None:
    """Nothing outside was changed or copied, and no other run is lost."""
    assert tree(folder.parent / "outside") == outside
    for path in folder.parent.rglob("*"):
        if "outside" not in path.parts and path.is_file() and not path.is_symlink():
            assert b"PRIVATE" not in path.read_bytes(), path
    if (folder / "runs").is_symlink() or not (folder / "runs").is_dir():
        return
    assert {record.run_id for record in Store.open(folder).records()} >= {RUN, OTHER, FAILED} - lost
    shared = any((folder / name).is_symlink() for name in FOLDERS if name.startswith(("splits", "data")))
    if (folder.parent / "merged").exists() and not shared:
        merged = {record.run_id for record in Store.open(folder.parent / "merged").records()}
        assert merged >= {OTHER, FAILED} - lost


@pytest.mark.parametrize(
    "make",
    [
        _link,
        pytest.param(_link_to_folder, marks=pytest.mark.slow),
        pytest.param(_dangling, marks=pytest.mark.slow),
        _pipe,
        _folder,
    ],
)
@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, make: Callable[[Path, Path], None]) -> None:
    folder = build(tmp_path)
    if name in FOLDERS and make is _folder:
        pytest.skip("it is one")
    replaced(folder / name, make, tmp_path / "outside")
    outside = tree(tmp_path / "outside")
    read_by_all(folder)
    check_after(folder, outside, {RUN} if name.startswith(f"runs/{RUN}") else set())


@pytest.mark.parametrize("name", [f"runs/{RUN}", f"runs/{RUN}/record.json", f"runs/{RUN}/artifacts/more"])
def test_a_link_is_named_and_the_other_runs_go_on(tmp_path: Path, name: str) -> None:
    folder = build(tmp_path)
    replaced(folder / name, _link_to_folder, tmp_path / "outside")
    merged = merge([Store.open(folder)], tmp_path / "merged")
    (reason,) = merged.refused
    assert str(folder / name) in reason
    assert {record.run_id for record in Store.open(tmp_path / "merged").records()} == {OTHER, FAILED}


@pytest.mark.parametrize("name", ["../outside/inner", "/etc", "..", "", "a/b", "x\n", "x" * 300, OTHER])
def test_a_record_of_another_name_is_damaged(tmp_path: Path, name: str) -> None:
    folder = build(tmp_path)
    path = folder / "runs" / RUN / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_id": name}))
    store = Store.open(folder)
    (damaged,) = store.damaged()
    assert damaged.run_id == RUN
    assert "run_id" in damaged.reason or "record of another run" in damaged.reason
    assert {record.run_id for record in store.records()} == {OTHER, FAILED}
    outside = tree(tmp_path / "outside")
    read_by_all(folder)
    check_after(folder, outside, {RUN})


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("dataset", "dataset_id", "../../outside"),
        ("dataset", "digest", "/../../outside"),
        ("split", "split_id", "../../../outside"),
        ("split", "split_id", "Alpha/Beta"),
        ("split", "digest", "x/../.."),
    ],
)
def test_names_that_become_paths_are_names(tmp_path: Path, part: str, field: str, value: str) -> None:
    folder = build(tmp_path)
    path = folder / "runs" / RUN / "record.json"
    fields = json.loads(path.read_text())
    fields[part][field] = value
    path.write_text(json.dumps(fields))
    (damaged,) = Store.open(folder).damaged()
    assert "cannot be the name of a file" in damaged.reason


def test_a_label_of_any_letters_has_a_split_whose_folder_has_a_name() -> None:
    from cellular_bench.benchmark.plan.identity import split_identity
    from cellular_bench.datasets import splits

    batch = np.array(["Alpha/Beta", "..", "a\\b", "T\u00a0cell", "x" * 400] * 20)
    made = splits.leave_one_batch_out(batch)
    names = {split_identity(split, {}).folder_name for split in made}
    assert len(names) == len(made) == 5
    assert not any(set("/\\") & set(name) for name in names)


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "link").symlink_to("results")
    assert read_by_all(tmp_path / "link") == {}


def test_a_lock_that_leads_elsewhere_is_not_truncated(tmp_path: Path) -> None:
    folder = build(tmp_path)
    (folder / ".lock").symlink_to(tmp_path / "outside" / "secret.txt")
    with pytest.raises(UserError, match="cannot be used as a lock"), Store.open(folder).locked():
        pass
    assert (tmp_path / "outside" / "secret.txt").read_text() == "PRIVATE"


def test_a_lock_is_not_changed_by_who_does_not_get_it(tmp_path: Path) -> None:
    store = Store.open(build(tmp_path))
    (store.root / ".lock").write_text("kept")
    with store.locked(), pytest.raises(UserError, match="Another run-benchmark"), store.locked():
        pass
    assert (store.root / ".lock").read_text() == "kept"


def test_a_run_is_cleared_of_everything_but_its_record_and_what_its_method_kept(tmp_path: Path) -> None:
    store = Store.open(build(tmp_path))
    folder = store.run_folder(RUN)
    (folder / "more" / "inside").mkdir(parents=True)
    (folder / "artifacts" / "out").symlink_to(tmp_path / "outside" / "secret.txt")
    (folder / "artifacts" / "far").symlink_to(tmp_path / "outside" / "inner")
    (folder / "elsewhere").symlink_to(tmp_path / "outside" / "inner")
    os.mkfifo(folder / "pipe")
    outside = tree(tmp_path / "outside")
    assert store.clear_run(RUN) == folder
    assert {path.name for path in folder.iterdir()} == {"artifacts", "record.json"}
    assert {path.name for path in (folder / "artifacts").iterdir()} == {"history.json", "model.bin"}
    assert tree(tmp_path / "outside") == outside


@pytest.mark.parametrize("act", [Store.clear_run, lambda store, run_id: store.forget([run_id])])
def test_a_link_in_place_of_a_run_is_named_and_not_followed(
    tmp_path: Path, act: Callable[[Store, str], object]
) -> None:
    store = Store.open(build(tmp_path))
    replaced(store.root / "runs" / RUN, _link_to_folder, tmp_path / "outside")
    outside = tree(tmp_path / "outside")
    with pytest.raises(UserError, match=f"{RUN} is a symbolic link"):
        act(store, RUN)
    assert tree(tmp_path / "outside") == outside


def test_too_much_kept_by_a_method_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(tmp_path)
    with (folder / "runs" / RUN / "artifacts" / "huge").open("wb") as file:
        file.truncate(2**40)
    (reason,) = merge([Store.open(folder)], tmp_path / "merged").refused
    assert "the most that is copied" in reason


# A newer version.

NEWER = {
    "suite": ("suite.json", lambda text: json.dumps(json.loads(text) | {"schema_version": 9, "new": 1})),
    "plan": ("plan.json", lambda text: json.dumps(json.loads(text) | {"schema_version": 9, "new": 1})),
    "index": ("index.jsonl", lambda text: '{"schema_version": 9}\n' + text),
    "record": (
        f"runs/{FAILED}/record.json",
        lambda text: text.replace('"schema_version": 1', '"schema_version": 9'),
    ),
    "running": (f"runs/{BASE}-new/running.json", lambda _: '{"schema_version": 9, "node": "n1"}'),
}
RUN_KNN = ["run", "--dataset", "simulated_small", "--method", "knn", "--no-figures", "--out", "{}"]
COMMANDS = {
    "run": RUN_KNN,
    "run fresh": [*RUN_KNN, "--fresh"],
    "run again": [*RUN_KNN, "--retry", "failed"],
    "status": ["status", "{}"],
    "report": ["report", "{}", "--no-figures"],
    "watch": ["report", "{}", "--no-figures", "--watch"],
    "merge": ["merge", "{}", "--out", "{}-merged"],
    "rescore": ["rescore", "{}"],
    "compare": ["compare", "{}", "{}"],
    "export": ["export", "{}", "--format", "csv"],
}  # fmt: skip


@pytest.mark.parametrize("what", NEWER)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_a_newer_version_is_left_as_it_is(
    run_benchmark: Callable[..., Any], tmp_path: Path, what: str, command: str
) -> None:
    folder = build(tmp_path)
    name, change = NEWER[what]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(change((folder / name).read_text() if (folder / name).exists() else ""))
    before = tree(folder)
    done = run_benchmark(*(word.format(folder) for word in COMMANDS[command]))
    assert tree(folder) == before
    assert done.returncode == 2, done.stdout + done.stderr
    assert "pip install --upgrade cellular-bench" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_suite_of_a_newer_version_is_refused(run_benchmark: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("schema_version = 9\nnew = 1\n")
    done = run_benchmark("run", "--suite", tmp_path / "mine.toml", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "newer cellular-bench" in done.stderr
    assert not (tmp_path / "out").exists()


# Any content.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ODD_JSON = [
    b"[" * 100_000, b'{"a":' * 50_000, b"[" * 500 + b"]" * 500, b"NaN", b'{"seed": 1e999}', b"1" * 10_000,
    b'{"schema_version": 2, "schema_version": 1}', b'{"schema_version": "9"}', b'"\\ud800"', b"\xff\xfe", b"",
    b'{"schema_version": 99999999999999999999999}',
]  # fmt: skip


def _changed(content: bytes, data: st.DataObject) -> bytes:
    """Draw what stands in a file instead."""
    kind = data.draw(st.sampled_from(["bytes", "json", "odd", "cut", "flipped", "field"]))
    if kind == "bytes":
        return data.draw(st.binary(max_size=200))
    if kind == "json":
        return json.dumps(data.draw(JSON)).encode()
    if kind == "odd":
        return data.draw(st.sampled_from(ODD_JSON))
    if kind == "cut" or not content:
        return content[: data.draw(st.integers(0, max(0, len(content) - 1)))]
    if kind == "field" and content[:1] == b"{":
        return _with_field(content, data)
    changed = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        changed[place] = data.draw(st.integers(0, 255))
    return bytes(changed)


def _with_field(content: bytes, data: st.DataObject) -> bytes:
    """Draw another value for one field, however deep."""
    fields = json.loads(content)
    places: list[tuple[Any, Any]] = []
    inner = [fields]
    while inner:
        one = inner.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        places += [(one, key) for key in keys]
        inner += [one[key] for key in keys if isinstance(one[key], dict | list)]
    if not places:
        return b"[]"
    one, key = data.draw(st.sampled_from(places))
    odd = st.sampled_from([10**30, -(10**18), 1e308, -1e308, float("nan"), "", "\u202e", "x" * 5000, [], {}])
    one[key] = data.draw(JSON | odd)
    return json.dumps(fields).encode()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_content_of_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Law: a reading command ends well or with a reason, and loses no other run."""
    root = tmp_path_factory.mktemp("any")
    folder = build(root)
    name = data.draw(st.sampled_from(FILES))
    path = folder / name
    content = path.read_bytes() if path.exists() else b"{}"
    path.write_bytes(_changed(content, data))
    outside = tree(root / "outside")
    try:
        read_by_all(folder)
        check_after(folder, outside, {RUN} if name.startswith(f"runs/{RUN}") else set())
    except NewerVersionError:
        pass  # so it says
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("content", ODD_JSON[:4], ids=range(4))
@pytest.mark.parametrize("name", [f"runs/{RUN}/record.json", "suite.json", "plan.json", "index.jsonl"])
def test_odd_json_is_read_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    folder = build(tmp_path)
    (folder / name).write_bytes(content)
    outside = tree(tmp_path / "outside")
    read_by_all(folder)
    check_after(folder, outside, {RUN})
