"""Methods that attack the harness while they run; what they would predict is that of a healthy method."""

import atexit
import builtins
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from cellular_bench import MethodSpec, NotApplicableError, Prediction
from cellular_bench.core.errors import ContractError


class Steady:
    """Nearest class mean."""

    artifacts = None
    spec = MethodSpec(
        method_id="steady", name="Steady", tasks=("annotation",), labels="train", inductive=True
    )

    def __init__(self, *, seed=0):
        self.seed = seed

    def fit(self, train):
        label = np.asarray(train.obs["label"], dtype=str)
        self.labels = np.unique(label)
        self.means = np.stack([train.X[label == name].mean(axis=0).A1 for name in self.labels])

    def predict(self, query):
        self.act()
        X = query.X.toarray()
        distance = ((X[:, None, :] - self.means[None]) ** 2).sum(axis=2)
        return Prediction(label_pred=self.labels[distance.argmin(axis=1)], novelty=distance.min(axis=1))

    def act(self):
        """Do no harm."""


def vandal(function):
    """Make a method of what it does before it predicts."""
    name = function.__name__
    made = MethodSpec(method_id=name, name=name, tasks=("annotation",), labels="train", inductive=True)
    kind = type(f"Vandal_{name}", (Steady,), {"spec": made, "act": function, "__module__": __name__})
    globals()[kind.__name__] = kind
    return function


def out_folder():
    """Return the folder of what this method hands over: it is in a caller's variables."""
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(getattr(value, "out", None), Path):
                return value.out
        frame = frame.f_back
    raise LookupError


def leave_with(content, name="result.json"):
    """Write a file of the hand-over and end the process at once."""
    (out_folder() / name).write_bytes(content)
    os._exit(0)


ANSWER = {"status": "ok", "reason": None}


@vandal
def negative_costs(self):
    """Negative costs in the answer."""
    leave_with(json.dumps({**ANSWER, "wall_time_s": -5.0, "cpu_time_s": -2540.0}).encode())


@vandal
def not_a_number(self):
    """NaN as GPU memory in the answer."""
    leave_with(b'{"status": "ok", "reason": null, "peak_gpu_mib": NaN}')


@vandal
def unknown_status(self):
    """A status that nobody knows."""
    leave_with(b'{"status": "splendid", "reason": null}')


@vandal
def cancelled_status(self):
    """The status of a benchmark that was stopped."""
    leave_with(b'{"status": "cancelled", "reason": null}')


@vandal
def ok_without_outputs(self):
    """Success in the answer, and nothing handed over."""
    leave_with(json.dumps(ANSWER).encode())


@vandal
def deep_json(self):
    """An answer of brackets within brackets."""
    leave_with(b"[" * 60_000)


@vandal
def huge_answer(self):
    """An answer of ten gigabytes, which takes no room on the disk."""
    os.truncate(os.open(out_folder() / "result.json", os.O_CREAT | os.O_WRONLY), 10**10)
    os._exit(0)


@vandal
def pipe_as_answer(self):
    """A named pipe in place of the answer."""
    os.mkfifo(out_folder() / "result.json")
    os._exit(0)


@vandal
def pipe_as_outputs(self):
    """A named pipe in place of the outputs."""
    os.mkfifo(out_folder() / "outputs.npz")
    leave_with(json.dumps(ANSWER).encode())


@vandal
def socket_as_answer(self):
    """A socket in place of the answer."""
    os.chdir(out_folder())
    socket.socket(socket.AF_UNIX).bind("result.json")
    os._exit(0)


@vandal
def folder_as_answer(self):
    """A folder in place of the answer."""
    (out_folder() / "result.json").mkdir()
    os._exit(0)


@vandal
def link_to_passwd(self):
    """A link to a file of the system in place of the outputs."""
    (out_folder() / "outputs.npz").symlink_to("/etc/passwd")
    leave_with(json.dumps(ANSWER).encode())


@vandal
def link_to_the_truth(self):
    """A link to the truth of the split in place of the outputs."""
    truth = sorted(out_folder().parents[2].glob("splits/*/*/truth.npz"))
    (out_folder() / "outputs.npz").symlink_to(truth[0] if truth else "../../../splits/a/b/truth.npz")
    leave_with(json.dumps(ANSWER).encode())


@vandal
def endless_device(self):
    """A link to a device that never ends in place of the answer."""
    (out_folder() / "result.json").symlink_to("/dev/zero")
    os._exit(0)


@vandal
def no_out_folder(self):
    """The folder of what is handed over is removed."""
    try:
        out_folder().rmdir()
    except OSError:
        with contextlib.suppress(OSError):
            out_folder().rename(self.artifacts / "moved")


@vandal
def everything_removed(self):
    """All folders of the run are removed, its home and temporary folder included."""
    import shutil

    for path in (out_folder(), self.artifacts, Path.home(), Path(os.environ["TMPDIR"]), Path.cwd()):
        shutil.rmtree(path, ignore_errors=True)


@vandal
def read_only_folders(self):
    """All folders of the run become read-only and closed."""
    for path in (self.artifacts, Path.home(), Path(os.environ["TMPDIR"]), Path.cwd(), out_folder()):
        path.chmod(0)


@vandal
def artifacts_of_every_sort(self):
    """Links, pipes, sockets and deep folders among the artifacts, and a history that is none."""
    (self.artifacts / "history.json").write_bytes(b"\xff[" * 100)
    (self.artifacts / "link").symlink_to("/etc/passwd")
    (self.artifacts / "folder").symlink_to("/")
    (self.artifacts / "loop").symlink_to(self.artifacts)
    os.mkfifo(self.artifacts / "pipe")
    deep = self.artifacts
    for _ in range(40):
        deep = deep / "d"
        deep.mkdir()
    (deep / "\n\x1b[2J<b>").write_text("odd name")


@vandal
def artifacts_as_a_link(self):
    """The folder of artifacts becomes a link to one of the system."""
    try:
        self.artifacts.rmdir()
        self.artifacts.symlink_to("/etc")
    except OSError:
        (self.artifacts / "etc").symlink_to("/etc")


@vandal
def closed_artifacts(self):
    """A folder among the artifacts that cannot be entered."""
    (self.artifacts / "closed").mkdir()
    (self.artifacts / "closed" / "file").write_text("x")
    (self.artifacts / "closed").chmod(0)
    self.artifacts.chmod(0o500)


# Errors.


@vandal
def not_applicable_without_words(self):
    """NotApplicableError("")."""
    raise NotApplicableError("")


@vandal
def contract_error_without_words(self):
    """ContractError("")."""
    raise ContractError("")


class MuteError(Exception):
    def __str__(self):
        raise SystemExit(7)

    __repr__ = __str__


@vandal
def mute_error(self):
    """An error whose text cannot be had."""
    raise MuteError


@vandal
def error_of_megabytes(self):
    """A reason of five megabytes with escape sequences."""
    raise ValueError("\x1b[2J<script>" + "x" * 5_000_000)


@vandal
def deep_recursion(self):
    """Recursion until the stack of C ends."""
    sys.setrecursionlimit(10**9)

    def again(n):
        return sorted([n], key=again)

    again(0)


@vandal
def keyboard_interrupt(self):
    """KeyboardInterrupt, as if the user had stopped the benchmark."""
    raise KeyboardInterrupt


@vandal
def generator_exit(self):
    """An error that is no Exception."""
    raise GeneratorExit("out")


# What it prints.


@vandal
def prints_a_hundred_megabytes(self):
    """A hundred megabytes of output."""
    for _ in range(100):
        os.write(1, b"x" * 2**20)


@vandal
def prints_no_text(self):
    """Bytes that are no text, and sequences that a terminal obeys."""
    os.write(2, b"\xff\xfe\0\x1b]0;title\x07\x1b[2J" * 1000)


@vandal
def closes_everything(self):
    """All descriptors are closed."""
    os.closerange(0, 4096)


@vandal
def floods_the_marks(self):
    """A flood of marks."""
    from cellular_bench.benchmark.isolation import marks

    marks._own.settimeout(1)
    try:
        while True:
            marks._own.send(b"eb" * 1000)
    except OSError:
        pass


@vandal
def fills_the_pipe_of_the_log(self):
    """A descriptor of the log that nobody can write to any more."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    print("x" * 100_000, flush=False)


# Processes and threads.


@vandal
def leaves_threads(self):
    """Threads that never end."""
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(3600,)).start()


@vandal
def leaves_daemons(self):
    """Daemons of daemons, each as the leader of a process group."""
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                time.sleep(3600)
            os._exit(0)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break


@vandal
def fork_bomb(self):
    """Children that have children, sixty of them."""
    for _ in range(60):
        if os.fork() == 0:
            time.sleep(3600)
            os._exit(0)


@vandal
def many_short_children(self):
    """Children that come and go while the run is being ended."""
    if os.fork() == 0:
        while True:
            if os.fork() == 0:
                os._exit(0)
            time.sleep(0.001)


@vandal
def ignores_children(self):
    """SIGCHLD is ignored."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if os.fork() == 0:
        os._exit(0)


@vandal
def ignores_all_signals(self):
    """Every signal is ignored or blocked."""
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))


@vandal
def stopped_children(self):
    """Children that stand still."""
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            time.sleep(3600)
        os.kill(pid, signal.SIGSTOP)


@vandal
def registers_atexit(self):
    """A function at exit that never ends, and one that raises."""
    atexit.register(time.sleep, 3600)
    atexit.register(lambda: 1 / 0)


@vandal
def runs_another_program(self):
    """The process becomes another program."""
    os.execv("/bin/true", ["true"])


@vandal
def replaces_itself_by_a_child(self):
    """The child goes on in place of its parent."""
    if os.fork():
        time.sleep(0.2)
        os._exit(0)


@vandal
def both_go_on(self):
    """Two processes finish the run."""
    os.fork()


# The state of the process.


@vandal
def changes_the_process(self):
    """Folder, mask, limits and priority are changed."""
    os.chdir("/")
    os.umask(0o777)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)


@vandal
def no_file_may_grow(self):
    """No file may have more than a byte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@vandal
def no_memory_may_be_had(self):
    """No memory can be asked for any more."""
    resource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))
    np.ones(10**8)


@vandal
def patched_json(self):
    """json says something else."""
    json.dumps = lambda *args, **more: '{"status": "ok", "reason": null, "wall_time_s": -5.0}'


@vandal
def patched_clock(self):
    """The clocks run backwards."""
    time.time = time.monotonic = time.perf_counter = time.process_time = lambda: -2540.0


@vandal
def patched_os(self):
    """Functions of os do nothing."""
    os._exit = lambda code: None
    os.getpid = lambda: 1
    os.kill = lambda *args: None


@vandal
def patched_open(self):
    """Files cannot be opened."""

    def fails(*args, **more):
        raise OSError(28, "No space left on device")

    builtins.open = fails


@vandal
def patched_numpy(self):
    """Arrays are saved by another function."""
    np.savez = np.savez_compressed = lambda *args, **more: None
    np.asarray = np.array = lambda *args, **more: 1 / 0


@vandal
def patched_metrics(self):
    """Every metric gives 1.0 in the process of the method."""
    from cellular_bench.metrics import METRICS

    for metric_id, spec in list(METRICS.items()):
        object.__setattr__(spec, "function", lambda *args, **more: 1.0)
        METRICS[metric_id] = spec


@vandal
def patched_harness(self):
    """The function that writes results is another."""
    from cellular_bench.benchmark.execution import worker

    worker.write_outputs = lambda *args, **more: None


@vandal
def no_collector(self):
    """The collector of garbage raises."""
    gc.callbacks.append(lambda phase, info: 1 / 0)


@vandal
def quits_by_exec_of_python(self):
    """Another interpreter writes the answer and the outputs."""
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'outputs.npz').write_bytes(b'PK' * 100)"
    subprocess.run([sys.executable, "-I", "-c", code, str(out_folder())], check=False)
    leave_with(json.dumps(ANSWER).encode())


@vandal
def false_units(self):
    """Text in place of numbers."""
    leave_with(b'{"status": "ok", "reason": null, "peak_gpu_mib": "many"}')


@vandal
def blames_memory(self):
    """An answer that blames the machine, with a reason of control characters."""
    leave_with(json.dumps({"status": "out_of_memory", "reason": "\x1b[2J\n" * 500}).encode())


class Liar(str):
    def __str__(self):
        raise RuntimeError("no text")

    def __len__(self):
        return 10**9


class AnswersByClass(Steady):
    """Labels of a class that cannot be written down."""

    spec = MethodSpec(
        method_id="odd_labels", name="odd_labels", tasks=("annotation",), labels="train", inductive=True
    )

    def predict(self, query):
        prediction = super().predict(query)
        label = np.array([Liar(name) for name in prediction.label_pred], dtype=object)
        return Prediction(label_pred=label, novelty=prediction.novelty)


class LazyOutput(Steady):
    """An array that ends the process when it is read."""

    spec = MethodSpec(
        method_id="array_that_exits", name="x", tasks=("annotation",), labels="train", inductive=True
    )

    class Array:
        def __array__(self, *args, **more):
            os._exit(0)

    def predict(self, query):
        return Prediction(label_pred=super().predict(query).label_pred, novelty=self.Array())
