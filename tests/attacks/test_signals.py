"""Attacks by signals to the processes of the harness, at every stage of a run."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SIGNALLERS = Path(__file__).parent / "plugins" / "signallers.py"
STAGES = ("construct", "fit", "predict", "end", "daemon")
NUMBERS = ("SIGTERM", "SIGKILL", "SIGSEGV", "SIGHUP", "SIGALRM", "SIGSTOP")
TIME_LIMIT_S = 8.0
SPLIT = {"kind": "reference_query", "reference": ["batch1"]}


@pytest.fixture
def signalled(attack: Callable[..., Any], tmp_path: Path) -> Callable[..., list[Any]]:
    """Let a method send signals between others; return the records of those that sent some."""

    def run(kind: str, *params: dict[str, str]) -> list[Any]:
        senders = [{"method_id": "signals", "params": one} for one in params]
        methods = ["signals", "nearest_centroid", *senders, "random_label"]
        started = time.monotonic()
        done = attack(
            tmp_path / "out",
            methods,
            SIGNALLERS,
            kind=kind,
            split=SPLIT,
            n_jobs=1,
            time_limit_s=TIME_LIMIT_S,
            memory_limit_mib=4000,
        )
        assert time.monotonic() - started < 40 + len(params) * (TIME_LIMIT_S + 10)
        records = list(done.store.records())
        others = [one for one in records if one.method.params.get("stage", "none") == "none"]
        assert [one.status for one in others] == ["ok"] * 3, [one.reason for one in others]
        found = [one for one in records if one not in others]
        assert len(found) == len(params)
        for one in found:
            assert one.status in {"ok", "failed", "timeout"}
            assert one.status == "ok" or len(one.reason) > 10
            seconds = (one.finished_at - one.started_at).total_seconds()
            assert seconds < TIME_LIMIT_S + 12, one.method.params
        return found

    return run


def combinations(target: str, numbers: tuple[str, ...], stages: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"target": target, "number": number, "stage": stage} for number in numbers for stage in stages]


def test_attack_by_signals_to_the_supervisor(signalled: Callable[..., list[Any]]) -> None:
    few = combinations("supervisor", ("SIGTERM", "SIGKILL"), ("construct", "end"))
    assert {one.status for one in signalled("process", *few)} == {"failed"}


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["namespaces", "landlock", "process"])
def test_attack_by_every_signal_at_every_stage(
    signalled: Callable[..., list[Any]], kind: str, number: str
) -> None:
    for one in signalled(kind, *combinations("supervisor", (number,), STAGES)):
        kills_itself = (
            number == "SIGKILL" and one.method.params["stage"] == "daemon"
        )  # its parent is the method
        is_walled = kind != "process" and number == "SIGKILL"
        assert one.status == "ok" or kills_itself or not is_walled, (one.method.params, one.reason)


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("kind", ["namespaces", "process"])
def test_attack_by_signals_to_the_server_and_the_tracker(
    signalled: Callable[..., list[Any]], kind: str, number: str
) -> None:
    both = (*combinations("server", (number,), ("fit", "end")), *combinations("tracker", (number,), ("fit",)))
    signalled(kind, *both)


@pytest.mark.slow
def test_attack_by_signals_to_the_whole_group(signalled: Callable[..., list[Any]]) -> None:
    found = signalled("process", *combinations("group", ("SIGTERM", "SIGKILL", "SIGHUP"), ("predict",)))
    assert {one.status for one in found} == {"failed"}


def test_attack_at_import(attack: Callable[..., Any], tmp_path: Path) -> None:
    """In the process of the method only: its working folder has the name that the harness gives it."""
    text = SIGNALLERS.read_text().replace('os.environ.get("SIGNAL_AT_IMPORT")', "True")
    plugin = tmp_path / "at_import.py"
    plugin.write_text(text.replace('os.environ["SIGNAL_AT_IMPORT"]', '"SIGKILL"'))
    done = attack(
        tmp_path / "imports", ["signals", "nearest_centroid"], plugin, kind="process", split=SPLIT, n_jobs=1
    )
    ends = {one.method.method_id: one.status for one in done.store.records()}
    assert ends == {"signals": "failed", "nearest_centroid": "ok"}
