"""Attacks by what a method hands over: whatever is in its folder, its run has an outcome in words."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellular_bench.benchmark.execution import worker
from cellular_bench.benchmark.execution.executor import Executor
from cellular_bench.benchmark.execution.finish import MOST_RESULT_BYTES, Finished, finish
from cellular_bench.benchmark.execution.job import Job
from cellular_bench.benchmark.results.store import OUTPUTS, RESULT, Store
from cellular_bench.core.files import discard

MANY = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def handed_over(planned: Any, small: Any, silent: Any, tmp_path_factory: Any) -> Iterator[tuple[Job, Path]]:
    """A run whose method has handed over, and a copy of that."""
    folder = tmp_path_factory.mktemp("finish")
    plan = planned("healthy", split={"kind": "kfold", "n_splits": 2})
    store = Store.create(folder / "out", plan.suite)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "delete_views", lambda self: None)
        list(Executor(store=store).execute(plan, datasets=small, progress=silent))
    job = Job(run=plan.runs[0], store=store)
    job.open()
    worker.execute(job.assignment())
    shutil.copytree(job.out, folder / "sound")
    yield job, folder / "sound"
    job.close()


@pytest.fixture
def put(handed_over: tuple[Job, Path]) -> Callable[[str, Any], Finished]:
    """Replace a file of a sound hand-over by bytes or by what a function makes, and finish the run."""
    job, sound = handed_over

    def replaced(name: str, by: bytes | Callable[[Path], object]) -> Finished:
        discard(job.out)
        shutil.copytree(sound, job.out)
        path = job.out / name
        path.unlink()
        if isinstance(by, bytes):
            path.write_bytes(by)
        else:
            by(path)
        return Finished.model_validate_json(finish(job))

    return replaced


def is_failure(finished: Finished) -> bool:
    outcome = finished.outcome
    return (
        outcome.status == "failed"
        and outcome.scores == ()
        and outcome.reason is not None
        and 5 < len(outcome.reason) < 1000
        and outcome.reason.isprintable()
    )


def test_a_sound_hand_over_is_scored(put: Callable[..., Finished], handed_over: tuple[Job, Path]) -> None:
    content = (handed_over[1] / RESULT).read_bytes()
    assert put(RESULT, content).outcome.status == "ok"


@given(content=st.binary(max_size=300))
@MANY
def test_attack_by_any_bytes_as_answer(put: Callable[..., Finished], content: bytes) -> None:
    assert is_failure(put(RESULT, content))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["status", "reason", "peak_gpu_mib", "warm_up_error", "cost", "wall_time_s"])
statuses = st.sampled_from(["ok", "failed", "not_applicable", "out_of_memory", "timeout", "cancelled"])


@given(value=values | st.dictionaries(fields, values), status=st.none() | statuses)
@MANY
def test_attack_by_any_json_as_answer(put: Callable[..., Finished], value: Any, status: str | None) -> None:
    if isinstance(value, dict) and status is not None:
        value = {**value, "status": status}
    finished = put(RESULT, json.dumps(value).encode())
    outcome = finished.outcome
    assert outcome.status in {"ok", "failed", "not_applicable", "out_of_memory"}
    assert (outcome.status == "ok") == (outcome.reason is None) == bool(outcome.scores)
    assert finished.peak_gpu_mib is None or 0 <= finished.peak_gpu_mib < float("inf")
    assert outcome.reason is None or (outcome.reason.isprintable() and len(outcome.reason) < 1000)


@given(content=st.binary(max_size=300))
@MANY
def test_attack_by_any_bytes_as_outputs(put: Callable[..., Finished], content: bytes) -> None:
    assert is_failure(put(OUTPUTS, content))


@pytest.mark.parametrize("byte", [0, 7, 27, 133, 255])
@pytest.mark.parametrize("at", range(0, 64, 3))
def test_attack_by_a_byte_in_the_head_of_outputs(
    put: Callable[..., Finished], handed_over: tuple[Job, Path], at: int, byte: int
) -> None:
    """The head holds a name, which errors of libraries repeat."""
    content = bytearray((handed_over[1] / OUTPUTS).read_bytes())
    content[at] = byte
    finished = put(OUTPUTS, bytes(content))
    assert finished.outcome.status == "ok" or is_failure(finished)


@given(data=st.data())
@settings(MANY, max_examples=60)
def test_attack_by_changed_bytes_of_outputs(
    put: Callable[..., Finished], handed_over: tuple[Job, Path], data: st.DataObject
) -> None:
    content = bytearray((handed_over[1] / OUTPUTS).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.none() | st.integers(0, len(content)))
    finished = put(OUTPUTS, bytes(content[:end]))
    assert finished.outcome.status == "ok" or is_failure(finished)


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o20600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("devices are made by the administrator")


def _hard_link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"of another file")
    os.link(other, path)


def _closed(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is closed to the administrator")
    path.write_bytes(b"{}")
    path.chmod(0)


def _nothing(path: Path) -> None:
    """Leave nothing."""


def _no_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def _no_folder_but_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("a file")


KINDS: dict[str, Callable[[Path], object]] = {
    "passwd": _link("/etc/passwd"),
    "dangling link": _link("nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "endless device": _link("/dev/zero"),
    "device": _device,
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "hard link": _hard_link,
    "closed": _closed,
    "nothing": _nothing,
    "no folder": _no_folder,
    "a file for the folder": _no_folder_but_a_file,
    "ten gigabytes": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 10**10),
    "one byte too many": lambda path: path.write_bytes(b" " * (MOST_RESULT_BYTES + 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [RESULT, OUTPUTS])
def test_attack_by_what_is_no_file(put: Callable[..., Finished], name: str, kind: str) -> None:
    assert is_failure(put(name, KINDS[kind]))


@pytest.mark.parametrize("name", [RESULT, OUTPUTS])
def test_a_link_to_a_sound_file_is_refused(
    put: Callable[..., Finished], handed_over: tuple[Job, Path], name: str
) -> None:
    """Even where the file would be right: what a link leads to may change, or be somebody else's."""
    assert is_failure(put(name, lambda path: path.symlink_to(handed_over[1] / name)))


def test_a_link_to_the_truth_is_refused(put: Callable[..., Finished], handed_over: tuple[Job, Path]) -> None:
    truth = handed_over[0].truth_folder / "truth.npz"
    assert is_failure(put(OUTPUTS, lambda path: path.symlink_to(truth)))


def test_attack_by_the_truth_as_a_copy_gives_no_other_names(
    put: Callable[..., Finished], handed_over: tuple[Job, Path]
) -> None:
    """A copy of the truth has other arrays than outputs have."""
    truth = (handed_over[0].truth_folder / "truth.npz").read_bytes()
    assert is_failure(put(OUTPUTS, truth))
