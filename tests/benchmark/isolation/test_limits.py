"""Limits hold for everything that a run starts, and costs count all of it."""

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import psutil
import pytest

from cellular_bench.benchmark.execution import worker
from cellular_bench.benchmark.isolation import gpu_memory, scratch
from cellular_bench.benchmark.isolation.bounded_log import BoundedLog
from cellular_bench.benchmark.isolation.call import Ended, call
from cellular_bench.benchmark.schema.records import Limits

ROOMY = Limits(time_limit_s=120, memory_limit_mib=4096)

#: A daemon: it leaves its session and its parent, and would live for an hour.
DAEMON = """
import os, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        Path({pid_file!r}).write_text(str(os.getpid()))
        {work}
    os._exit(0)
while not (Path({pid_file!r}).exists() and Path({pid_file!r}).read_text()):
    time.sleep(0.01)
{then}
"""


def executed(code: str, tmp_path: Path, limits: Limits = ROOMY) -> Ended:
    return call(exec, code, {}, limits=limits, log=tmp_path / "log.txt")


def test_what_follows_a_call_runs_after_all_of_it_has_gone(tmp_path) -> None:
    pid_file, seen = tmp_path / "pid", tmp_path / "seen"
    code = DAEMON.format(pid_file=str(pid_file), work="time.sleep(3600)", then="print('first')")
    look = f"from pathlib import Path; Path({str(seen)!r}).write_text(str(Path(f'/proc/{{pid}}').exists()))"
    follow = f"pid = int(open({str(pid_file)!r}).read()); {look}; print('second', flush=True)"
    log = tmp_path / "log.txt"
    outcome = call(exec, code, limits=ROOMY, log=log, then=partial(exec, follow))
    assert (outcome.status, outcome.broken_after) == ("ok", None)
    assert seen.read_text() == "False"
    assert log.read_text() == "first\nsecond\n"


@pytest.mark.parametrize(
    ("follow", "how"),
    [
        ("raise OSError('no space')", "exit code 1"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_what_follows_a_call_fails_apart_from_it(tmp_path, follow: str, how: str) -> None:
    log = tmp_path / "log.txt"
    outcome = call(exec, "print('fine')", limits=ROOMY, log=log, then=partial(exec, follow))
    assert (outcome.status, outcome.exit_code, outcome.broken_after) == ("ok", 0, how)
    assert log.read_text().startswith("fine\n")
    assert ("OSError: no space" in log.read_text()) == (how == "exit code 1")


@pytest.mark.parametrize("file", [None, "script.py"])
def test_the_main_module_of_the_caller_is_left_as_it_is(tmp_path, monkeypatch, file: str | None) -> None:
    """A notebook and ``python -c`` have no file; a name of None there is taken for a path by others."""
    main = sys.modules["__main__"]
    monkeypatch.delattr(main, "__file__", raising=False)
    if file is not None:
        monkeypatch.setattr(main, "__file__", file, raising=False)
    before = dict(vars(main))
    assert executed("pass", tmp_path).status == "ok"
    assert dict(vars(main)) == before


@pytest.mark.parametrize("name", ["short", "long" * 40])
def test_all_temporary_files_are_in_one_folder_however_long_its_name(tmp_path, name: str) -> None:
    """So that the next harness can remove what a killed one left, the sockets of multiprocessing included."""
    temporary = tmp_path / name
    temporary.mkdir()
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from cellular_bench.benchmark.isolation import call\n"
        "from cellular_bench.benchmark.schema.records import Limits\n"
        "call.PRELOADED = []\n"
        f"log = Path({str(tmp_path / 'log.txt')!r})\n"
        "for _ in range(2):\n"
        "    print(call.call(exec, 'print(6 * 7)', limits=Limits(), log=log).status)\n"
        "print(*[name[:15] for name in os.listdir(os.environ['TMPDIR'])])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("ok\nok\ncellular-bench-\n", "")
    assert (tmp_path / "log.txt").read_text() == "42\n42\n"
    assert list(temporary.iterdir()) == []


def test_nothing_follows_a_call_that_failed(tmp_path) -> None:
    made = tmp_path / "made"
    follow = partial(exec, f"open({str(made)!r}, 'w')")
    outcome = call(exec, "1 / 0", limits=ROOMY, log=tmp_path / "log.txt", then=follow)
    assert outcome.status == "failed"
    assert not made.exists()


def is_alive(pid_file: Path) -> bool:
    try:
        return psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("then", "limits", "status"),
    [
        ("", ROOMY, "ok"),
        ("os.kill(os.getpid(), 11)", ROOMY, "failed"),
        ("time.sleep(3600)", Limits(time_limit_s=3, memory_limit_mib=4096), "timeout"),
    ],
)
def test_a_daemon_ends_with_its_run(tmp_path, then: str, limits: Limits, status: str) -> None:
    pid_file = tmp_path / "pid"
    code = DAEMON.format(pid_file=str(pid_file), work="time.sleep(3600)", then=then)
    assert executed(code, tmp_path, limits).status == status
    assert not is_alive(pid_file)


def test_a_daemon_ends_with_a_killed_harness(wait_for, tmp_path) -> None:
    pid_file = tmp_path / "pid"
    code = DAEMON.format(pid_file=str(pid_file), work="time.sleep(3600)", then="time.sleep(3600)")
    script = (
        "from pathlib import Path\n"
        "from cellular_bench.benchmark.isolation import call\n"
        "from cellular_bench.benchmark.schema.records import Limits\n"
        "call.PRELOADED = []\n"
        f"call.call(exec, {code!r}, limits=Limits(), log=Path({str(tmp_path / 'log')!r}))\n"
    )
    harness = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
        assert is_alive(pid_file)
    finally:
        harness.kill()
        harness.wait()
    wait_for(lambda: not is_alive(pid_file))


SPIN = "t = time.process_time()\n        while time.process_time() - t < {seconds}: pass"


def test_processor_time_of_a_daemon_is_counted_until_the_mark(tmp_path) -> None:
    pid_file = tmp_path / "pid"
    then = """
from cellular_bench.benchmark.isolation.marks import mark
mark("begin"); time.sleep(1.5); mark("end"); time.sleep(1.5)
"""
    spin = SPIN.format(seconds=3600)
    outcome = executed(DAEMON.format(pid_file=str(pid_file), work=spin, then=then), tmp_path)
    assert outcome.status == "ok", outcome.reason
    assert 0.3 <= outcome.cpu_time_s <= 2.2
    assert 1.5 <= outcome.wall_time_s < 2.9


#: Works for a second in processes whose time nobody asks the system for.
UNCOUNTED = {
    "a child that ends": "if os.fork() == 0: work(); os._exit(0)\nos.wait()",
    "children that are not waited for": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    "if os.fork() == 0: work(); os._exit(0)\ntime.sleep(.1)\n"
    "while psutil.Process().children(): time.sleep(.05)",
    "a daemon that ends": "if os.fork() == 0:\n    os.setsid()\n"
    "    if os.fork() == 0: work(); open(done, 'w')\n    os._exit(0)\nos.wait()\n"
    "while not os.path.exists(done): time.sleep(.05)",
    "a patched clock": "time.process_time = time.perf_counter = time.monotonic = lambda: 0.0\nown_work()",
}


@pytest.mark.parametrize("how", UNCOUNTED)
def test_processor_time_that_a_run_hides_is_counted(tmp_path, how: str) -> None:
    code = f"""
import os, psutil, resource, signal, time
done = {str(tmp_path / "done")!r}
def own_work():
    while sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) < start + 2: pass
start = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
def work():
    global start
    start = 0
    own_work()
from cellular_bench.benchmark.isolation.marks import mark
mark("begin")
{UNCOUNTED[how]}
mark("end")
"""
    outcome = executed(code, tmp_path)
    assert outcome.status == "ok", (tmp_path / "log.txt").read_text()
    assert 1.4 < outcome.cpu_time_s < 4
    assert outcome.wall_time_s > 1.9


@pytest.mark.parametrize(
    "false",
    [
        "mark('end'); mark('begin')",
        "marks._own.sendall(b'e' * 50)",
        "marks._own.sendall(b'x' * 1000)",
        "marks._own.close()",
        "marks.mark = lambda name: None",
        "os.closerange(3, 100)",
    ],
)
def test_marks_of_a_run_cannot_make_it_look_cheaper(tmp_path, false: str) -> None:
    code = f"""
import os, time
from cellular_bench.benchmark.isolation import marks
from cellular_bench.benchmark.isolation.marks import mark
mark("begin")
{false}
time.sleep(1)
try: mark("end")
except OSError: pass
"""
    outcome = executed(code, tmp_path)
    assert outcome.status == "ok", (tmp_path / "log.txt").read_text()
    assert 1 <= outcome.wall_time_s < 30


def test_a_run_does_not_wait_for_threads_that_it_left_over(tmp_path) -> None:
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()\nprint('done')"
    outcome = executed(code, tmp_path, Limits(time_limit_s=20, memory_limit_mib=4096))
    assert (outcome.status, (tmp_path / "log.txt").read_text()) == ("ok", "done\n")


@pytest.mark.parametrize("number", ["SIGSTOP", "SIGTERM", "SIGKILL", "SIGSEGV", "SIGALRM", "SIGHUP"])
def test_a_signal_to_the_supervisor_ends_the_run_alone(wait_for, tmp_path, number: str) -> None:
    if signal.getsignal(getattr(signal, number)) is signal.SIG_IGN:
        pytest.skip("this signal is ignored here, as under nohup, and then by all that is started")
    pid_file = tmp_path / "pid"
    code = f"""
import os, signal, time
open({str(pid_file)!r}, 'w').write(str(os.getpid()))
os.kill(os.getppid(), signal.{number})
time.sleep(3600)
"""
    outcome = executed(code, tmp_path, Limits(time_limit_s=3, memory_limit_mib=4096))
    assert (outcome.status, "process that watches" in outcome.reason) == (
        "timeout" if number == "SIGSTOP" else "failed",
        True,
    )
    wait_for(lambda: not is_alive(pid_file))


HOARD = """
import os, time
import numpy as np
shared = np.ones({shared} * 2**17)
for _ in range(4):
    if os.fork() == 0:
        own = np.ones({own} * 2**17)
        time.sleep({seconds})
        os._exit(0)
for _ in range(4):
    os.wait()
"""


def test_memory_of_children_counts_and_shared_pages_count_once(tmp_path) -> None:
    limits = Limits(time_limit_s=120, memory_limit_mib=1500)
    sharing = executed(HOARD.format(shared=500, own=1, seconds=2), tmp_path, limits)
    assert sharing.status == "ok", sharing.reason  # five times 500 MiB, were they counted five times
    assert 500 < sharing.peak_rss_mib < 1500
    hoarding = executed(HOARD.format(shared=1, own=500, seconds=100), tmp_path, limits)
    assert hoarding.status == "out_of_memory"
    assert "the limit is 1500 MiB" in hoarding.reason


def test_a_child_that_comes_and_goes_between_two_looks_counts_by_its_peak(tmp_path) -> None:
    code = "import os\nif os.fork() == 0:\n    x = b'x' * (700 * 2**20)\n    os._exit(0)\nos.wait()"
    assert executed(code, tmp_path).peak_rss_mib > 700


@pytest.fixture
def small_cgroup(wait_for):
    """A group of processes that may use 400 MB together; the kernel kills what uses more."""
    for folder, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup") / folder / f"cellular-bench-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(400 * 2**20))
        except OSError:
            group.rmdir()
            continue
        break
    else:
        pytest.skip("groups with a memory limit can be made by the administrator of a Linux machine only")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_what_the_kernel_kills_for_memory_is_told_from_a_crash(small_cgroup, tmp_path) -> None:
    join = f"import os\nopen({str(small_cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    killed = executed(join + "x = [b'x' * 2**26 for _ in range(20)]", tmp_path)
    assert killed.status == "out_of_memory"
    assert killed.reason == "The kernel killed the process because memory ran out."
    crashed = executed("import os\nos.kill(os.getpid(), 9)", tmp_path)
    assert (crashed.status, crashed.reason) == ("failed", "The process was ended by signal SIGKILL.")


def test_a_run_that_kills_its_supervisor_is_a_failure_that_leaves_nothing(wait_for, tmp_path) -> None:
    pid_file = tmp_path / "pid"
    then = "os.kill(os.getppid(), 9); time.sleep(3600)"
    code = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{then}"
    outcome = executed(code, tmp_path)
    assert outcome.status == "failed"
    assert "The process that watches the run was ended (SIGKILL)" in outcome.reason
    wait_for(lambda: not is_alive(pid_file))


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError and cupy.cuda.memory.OutOfMemoryError are called."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("Tried to allocate 20.00 GiB."), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1024 bytes."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("I forgot"), False),
        (ValueError("memory"), False),
    ],
)
def test_errors_that_say_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert worker.is_out_of_memory(error) is expected


def test_a_run_that_prints_much_leaves_the_beginning_and_the_end(tmp_path) -> None:
    code = "print('first')\nfor i in range(100): print('x' * 2**20)\nprint('last')"
    assert executed(code, tmp_path).status == "ok"
    text = (tmp_path / "log.txt").read_bytes()
    assert len(text) < 2.2 * 2**20
    assert text.startswith(b"first\nxxx")
    assert text.endswith(b"xxx\nlast\n")
    assert b"bytes left out" in text


@pytest.mark.parametrize("n_bytes", [0, 10, 4096, 8191, 8192, 9500, 300_000])
def test_a_log_keeps_every_byte_of_its_ends(tmp_path, n_bytes: int) -> None:
    data = bytes(i % 251 for i in range(n_bytes))
    reader, writer = os.pipe()
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    log = BoundedLog(reader, file, kept_bytes=4096)
    for start in range(0, n_bytes, 1000):
        os.write(writer, data[start : start + 1000])
        assert log.drain()
    os.close(writer)
    assert not log.drain()
    log.close()
    os.close(reader)
    os.close(file)
    kept = (tmp_path / "log").read_bytes()
    if n_bytes <= 8192:
        assert kept == data
        return
    head, _, end = kept.partition(b"\n[... ")
    left_out, _, tail = end.partition(b" bytes left out ...]\n")
    assert head == data[:4096]
    assert 4096 <= len(tail) < 4096 + 1000
    assert data.endswith(tail)
    assert len(head) + int(left_out) + len(tail) == n_bytes


def test_a_log_on_a_full_disk_is_lost_and_says_so() -> None:
    reader, writer = os.pipe()
    file = os.open("/dev/full", os.O_WRONLY)
    log = BoundedLog(reader, file)
    os.write(writer, b"x")
    log.drain()
    log.close()
    os.close(reader)
    os.close(file)
    os.close(writer)
    assert log.is_lost


FAKE_DRIVER = """#!/bin/sh
grep -l "^PPid:.$PPID$" /proc/[0-9]*/status | while read -r file; do
    pid=${file#/proc/}; echo "${pid%/status}, 900"
done
"""


def test_gpu_memory_is_watched_where_a_driver_tells_it(tmp_path) -> None:
    """With a stand-in for the driver's tool: it says that every child of its caller holds 900 MiB."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(FAKE_DRIVER)
    tool.chmod(0o755)
    script = f"""
from pathlib import Path
from cellular_bench.benchmark.isolation import call
from cellular_bench.benchmark.schema.records import Limits
call.PRELOADED = []
for allowed in (800, 2700):
    limits = Limits(time_limit_s=4, gpu_memory_limit_mib=allowed)
    log = Path({str(tmp_path / "log")!r})
    end = call.call(exec, "import time; time.sleep(60)", limits=limits, log=log)
    print(end.status, end.reason, end.peak_gpu_mib >= 900)
"""
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    over, within = done.stdout.splitlines()
    assert over.startswith("out_of_memory Used ")
    assert over.endswith("MiB of GPU memory, the limit is 800 MiB. True")
    assert within == "timeout Still running after the time limit of 4 s. True"


def test_the_drivers_answer_is_summed_by_process() -> None:
    assert gpu_memory.parse("4711, 512\n4711, 256\n42, [N/A]\n\n") == {4711: 768.0}


HARNESS = """
import time
from cellular_bench.benchmark.isolation import scratch
with scratch.folder() as folder:
    (folder / "big").write_bytes(bytes(1000))
    print(folder, flush=True)
    {then}
"""


def test_what_a_killed_harness_leaves_is_removed_and_nothing_else(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "cellular-bench-thesis").mkdir()  # somebody's own, with a name like ours
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    script = HARNESS.format(then="time.sleep(600)")
    harnesses = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    try:
        killed, alive = (Path(harness.stdout.readline().strip()) for harness in harnesses)
        assert scratch.remove_abandoned() == []
        harnesses[0].kill()
        harnesses[0].wait()
        assert killed.exists()
        assert scratch.remove_abandoned() == [killed.parent]
        assert not killed.exists()
        assert alive.exists()
        assert (tmp_path / "cellular-bench-thesis").exists()
    finally:
        for harness in harnesses:
            harness.kill()
            harness.wait()
            harness.stdout.close()


def test_a_harness_that_ends_well_leaves_nothing(tmp_path) -> None:
    script = HARNESS.format(then="pass")
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
