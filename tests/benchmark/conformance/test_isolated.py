"""Checks in a separate process: whatever a method does there, each check is reported, once."""

import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import psutil
import pytest

from cellular_bench.benchmark.conformance import checks
from cellular_bench.benchmark.conformance.isolated import check_isolated
from cellular_bench.benchmark.conformance.metrics import METRIC_CHECKS
from cellular_bench.cli import group

METHOD = '''
import ctypes, os, signal, threading, time
from pathlib import Path
from cellular_bench import MethodSpec


class Tried:
    """The expression matrix, and what is tried."""

    spec = MethodSpec(method_id="tried", name="Tried", tasks=("integration",))

    def __init__(self, *, seed: int = 0, scale: float = 1.0):
        self.scale = scale

    def fit_embed(self, adata):
        {body}
        return adata.X.toarray() * self.scale
'''
IDS = [check.check_id for check in checks()]
#: A thread that outlives the checks and spoils the end of their process.
SPOILER = """
        if os._exit.__name__ == "_exit":
            leave = os._exit
            os._exit = lambda code: leave(4)
"""
#: A thread that outlives the method.
LEFT_OVER = "threading.Thread(target=time.sleep, args=(3600,)).start()"


def plugin(folder: Path, body: str) -> Path:
    path = folder / "tried.py"
    path.write_text(METHOD.format(body=body.strip()), encoding="utf-8")
    return path


def check(*arguments: object) -> tuple[int, str]:
    """Call the command; return its exit code and what it printed."""
    out = StringIO()
    with redirect_stdout(out):
        code = group.main(["check", *map(str, arguments)], standalone_mode=False) or 0
    return code, out.getvalue()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("os._exit(0)", "The process ended with exit code 0 during this check. A method must not exit."),
        ("os._exit(3)", "The process ended with exit code 3."),
        ("ctypes.string_at(0)", "The process was ended by signal SIGSEGV."),
        ("raise KeyboardInterrupt", "The process ended with exit code 1."),
    ],
)
def test_a_method_that_ends_its_process_fails_the_check_at_which_it_does(tmp_path, body, found) -> None:
    code, printed = check(plugin(tmp_path, body))
    lines = printed.splitlines()
    assert code == 1
    assert lines[0] == f"tried ({tmp_path / 'tried.py'})"
    assert lines[1].split() == ["passed", "spec_sane"]
    assert lines[2].split() == ["failed", "runs"]
    assert f"Found: {found}" in lines[3]
    shown = [line.split() for line in lines[1:] if line.startswith("  ") and not line.startswith("   ")]
    assert [words[1] for words in shown] == IDS
    assert {words[0] for words in shown[2:]} == {"skipped"}
    assert printed.count("the process ended during the check 'runs'") == len(IDS) - 2


def test_a_crash_says_which_line_called_the_code_that_crashed(tmp_path) -> None:
    path = plugin(tmp_path, "ctypes.string_at(0)")
    runs = {result.check_id: result for result in check_isolated("method", "tried", plugins=[path])}["runs"]
    assert f'"{path}", line 16 in fit_embed' in runs.message


def test_the_check_is_named_whichever_it_is(tmp_path) -> None:
    path = plugin(tmp_path, "if adata.obs['batch'].nunique() < 2: os._exit(0)")
    results = {result.check_id: result for result in check_isolated("method", "tried", plugins=[path])}
    assert [name for name, result in results.items() if result.status == "failed"] == ["single_batch"]
    assert results["rare_label"].message == "the process ended during the check 'single_batch'"
    assert results["seed_repeats"].status == "passed"


def test_a_process_that_does_not_end_well_after_the_checks_is_a_failure(tmp_path) -> None:
    path = plugin(tmp_path, SPOILER)
    results = list(check_isolated("method", "tried", plugins=[path]))
    assert [result.check_id for result in results] == [*IDS, "process"]
    assert [result.check_id for result in results if result.status == "failed"] == ["process"]
    assert "exit code 4" in results[-1].message


def test_a_thread_that_is_left_over_is_not_waited_for(tmp_path) -> None:
    results = list(check_isolated("method", "tried", plugins=[plugin(tmp_path, LEFT_OVER)]))
    assert [result.check_id for result in results] == IDS
    assert [result.check_id for result in results if result.status == "failed"] == []


@pytest.mark.parametrize("body", ["os.fork()", "if os.fork() == 0: raise ValueError('in the child')"])
def test_a_method_that_forks_is_reported_once(tmp_path, body) -> None:
    code, printed = check(plugin(tmp_path, body))
    assert code == 0, printed
    shown = [line.split()[1] for line in printed.splitlines() if line.startswith(("  passed", "  skipped"))]
    assert shown == IDS


def test_what_a_method_prints_is_not_among_the_results(tmp_path) -> None:
    code, printed = check(plugin(tmp_path, "print('  failed            runs')"))
    assert code == 0
    assert "failed" not in printed
    log = tmp_path / "log.txt"
    check(plugin(tmp_path, "print('epoch 1')"), "--log-file", log)
    assert "tried printed:\nepoch 1" in log.read_text(encoding="utf-8")


def test_results_come_as_they_are_found(tmp_path) -> None:
    go = tmp_path / "go"
    waits = f"""
        until = time.monotonic() + 60
        while not Path({str(go)!r}).exists():
            assert time.monotonic() < until, "nobody has heard of the first check"
            time.sleep(0.01)
    """
    results = check_isolated("method", "tried", plugins=[plugin(tmp_path, waits)])
    assert next(results).check_id == "spec_sane"
    go.touch()
    assert "failed" not in {result.status for result in results}


def test_nothing_is_left_of_checks_that_nobody_waits_for(tmp_path) -> None:
    pid = tmp_path / "pid"
    body = f"Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    results = check_isolated("method", "tried", plugins=[plugin(tmp_path, body)])
    assert next(results).check_id == "spec_sane"
    until = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    results.close()
    assert not psutil.pid_exists(int(pid.read_text()))


def test_parameters_reach_the_other_process(tmp_path) -> None:
    code, printed = check(plugin(tmp_path, ""), "--param", "tried.scale=1e300")
    assert code == 1
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("  failed")] == ["finite"]


def test_a_metric_that_exits_fails_its_check(tmp_path) -> None:
    known = [check.check_id for check in METRIC_CHECKS]
    path = tmp_path / "exits.py"
    path.write_text(
        "import os\n"
        "from cellular_bench import metric\n\n\n"
        '@metric(metric_id="exits", name="Exits", aspect="annotation", definition="None: it exits.")\n'
        'def exits(label, label_pred):\n    """Exit."""\n    os._exit(0)\n',
        encoding="utf-8",
    )
    results = list(check_isolated("metric", "exits", plugins=[path]))
    assert [result.check_id for result in results] == known
    ended = next(at for at, result in enumerate(results) if "exit code 0" in result.message)
    assert results[ended].status == "failed"
    assert {result.status for result in results[ended + 1 :]} == {"skipped"}
    assert len(results) > ended + 1
