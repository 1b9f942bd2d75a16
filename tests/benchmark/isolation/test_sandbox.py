"""What a method behind walls can and cannot do; each kind that works here, as root and as another user."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.isolation.sandbox import Walls, landlock
from cellular_bench.benchmark.isolation.sandbox.places import visible

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="walls are for Linux")

SOURCE = Path(sys.modules["cellular_bench"].__path__[0]).parent
NOBODY = 65534
KINDS = ("namespaces", "landlock")
USERS = ("me", "nobody")
#: Enters and runs the code that is the last argument; ``outcome`` gives what an attempt came to.
PROGRAM = """
import ctypes, errno, json, os, signal, socket, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cellular_bench.benchmark.isolation.sandbox import Walls, enter
def outcome(attempt, *args):
    try:
        attempt(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
libc = ctypes.CDLL(None, use_errno=True)
def libc_outcome(name, *args):
    return "done" if getattr(libc, name)(*args) >= 0 else errno.errorcode[ctypes.get_errno()]
readable, writable, hidden = (tuple(map(Path, paths)) for paths in json.loads(sys.argv[3]))
enter(sys.argv[2], Walls(readable=readable, writable=writable, hidden=hidden))
exec(sys.argv[4])
"""
NO_FILE = {"ENOENT", "EACCES", "ENOTDIR", "ELOOP", "EPERM"}
NO_WRITE = {"EROFS", "EACCES", "ENOENT", "EPERM"}


@dataclass
class Inside:
    """A run behind walls, with its folders: all in ``base``, which every user may enter."""

    kind: str
    user: str
    base: Path
    python: str

    @property
    def run(self) -> Path:
        return self.base / "results" / "runs" / "mine"

    @property
    def view(self) -> Path:
        return self.base / "views" / "view.h5ad"

    def start(self, code: str, *, walls: Walls | None = None, **options: Any) -> subprocess.Popen[str]:
        walls = walls or Walls(readable=(self.view,), writable=(self.run,))
        paths = [[str(p) for p in group] for group in (walls.readable, walls.writable, walls.hidden)]
        if self.user == "nobody":
            options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        command = [self.python, "-I", "-B", "-c", PROGRAM, str(SOURCE), self.kind, json.dumps(paths), code]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=self.base, **options)

    def __call__(self, code: str, **options: Any) -> SimpleNamespace:
        with self.start(code, **options) as process:
            out, err = process.communicate(timeout=60)
        return SimpleNamespace(out=out.strip(), err=err, code=process.returncode)

    def outcomes(self, attempts: Mapping[str, str]) -> dict[str, Any]:
        """Return what each attempt, an expression, came to: ``"done"`` or the name of an error."""
        ended = self(
            f"print(json.dumps({{name: eval(attempt) for name, attempt in {dict(attempts)!r}.items()}}))"
        )
        assert ended.code == 0, ended.err
        return dict(json.loads(ended.out))

    def outcome(self, attempt: str) -> Any:
        return self.outcomes({"": attempt})[""]


@cache
def python_of(user: str) -> str | None:
    """Return an interpreter that a user can start and that can import the package; None if there is none."""
    options: dict[str, Any] = {}
    if user == "nobody":
        if os.geteuid() != 0:
            return None
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import cellular_bench.benchmark.isolation.sandbox"
    )
    for python in filter(None, (sys.executable, shutil.which("python3", path="/usr/bin"))):
        try:
            subprocess.run(
                [python, "-I", "-B", "-c", code], check=True, capture_output=True, cwd="/", **options
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    return None


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that other users can enter, unlike pytest's, with two runs, a result and a source file."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name).resolve()
        for path in ("results/runs/mine", "results/runs/other", "views", "data", "home"):
            (folder / path).mkdir(parents=True)
        for path in (
            "results/runs/other/outputs.npz",
            "results/suite.json",
            "views/view.h5ad",
            "data/source.h5ad",
        ):
            (folder / path).write_text("secret")
        (folder / "home" / ".netrc").write_text("secret")
        (folder / "link").symlink_to(folder / "data")
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o777)
        yield folder


def inside_as(kind: str, user: str, base: Path) -> Inside:
    if kind in sandbox.best().missing:
        pytest.skip(f"{kind}: {sandbox.best().missing[kind]}")
    python = python_of(user)
    if python is None:
        pytest.skip(f"cannot start Python as {user}")
    return Inside(kind, user, base, python)


#: The last one is like the one before: Landlock has no use for privileges.
WAYS = [
    *((kind, user) for kind in KINDS for user in USERS if (kind, user) != ("landlock", "nobody")),
    pytest.param(("landlock", "nobody"), marks=pytest.mark.slow),
]


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(way))
def inside(request: pytest.FixtureRequest, base: Path) -> Inside:
    return inside_as(*request.param, base)


@pytest.fixture(params=USERS)
def namespaced(request: pytest.FixtureRequest, base: Path) -> Inside:
    return inside_as("namespaces", request.param, base)


def test_a_run_reads_its_view_and_writes_its_folder(inside: Inside) -> None:
    ended = inside(
        f"print(Path({str(inside.view)!r}).read_text())\n"
        f"Path({str(inside.run / 'made')!r}).write_text('mine')\n"
        f"print(outcome(os.chdir, {str(inside.run)!r}))"
    )
    assert ended.out.split() == ["secret", "done"], ended.err
    assert (inside.run / "made").read_text() == "mine"


SECRETS = [
    "results/suite.json",
    "results/runs/other/outputs.npz",
    "data/source.h5ad",
    "home/.netrc",
    "link/source.h5ad",
]
WAYS: dict[str, Callable[[Path, str], str]] = {
    "direct": lambda base, path: f"{base}/{path}",
    "dots": lambda base, path: f"{base}/results/runs/mine/../../../{path}",
    "usr": lambda base, path: f"/usr/../{base}/{path}",
    "slashes": lambda base, path: f"//{base}/./{path}",
    "init": lambda base, path: f"/proc/1/root{base}/{path}",
    "self": lambda base, path: f"/proc/self/root{base}/{path}",
    "thread": lambda base, path: f"/proc/thread-self/root/..{base}/{path}",
    "outer": lambda base, path: f"/proc/{os.getpid()}/root{base}/{path}",
    "cwd": lambda base, path: f"/proc/{{outer}}/cwd/{path}",
    "old": lambda base, path: f"/.old{base}/{path}",
    "own": lambda base, path: f"{base}/results/runs/mine/way/{path}",
}


def test_attack_files_outside_cannot_be_read(inside: Inside) -> None:
    (inside.run / "way").symlink_to(inside.base)
    paths = [way(inside.base, path).format(outer=os.getpid()) for way in WAYS.values() for path in SECRETS]
    reading = {path: f"outcome(lambda: open({path!r}).read())" for path in paths}
    writing = {f"{path} to write": f"outcome(os.open, {path!r}, os.O_RDWR)" for path in paths}
    found = inside.outcomes(reading | writing)
    assert len(found) == 2 * len(WAYS) * len(SECRETS)
    assert {path: code for path, code in found.items() if code not in NO_FILE} == {}


def test_attack_the_bundled_data_and_other_hidden_files_cannot_be_read(inside: Inside) -> None:
    """A method knows where the package keeps data with all their labels."""
    from cellular_bench.datasets.sources.openers import BUNDLED

    (data,) = BUNDLED.glob("*.h5ad")
    hidden = inside.base / "data"
    (hidden / "known.txt").write_text("not hidden")
    walls = Walls(readable=(hidden,), writable=(inside.run,), hidden=(hidden / "source.h5ad",))
    ended = inside(
        f"for path in {[str(data), str(data.resolve()), str(hidden / 'source.h5ad')]}:\n"
        "    print(outcome(lambda: open(path).read()))\n"
        f"print(Path({str(hidden / 'known.txt')!r}).read_text())",
        walls=walls,
    )
    *refused, known = ended.out.splitlines()
    assert known == "not hidden"
    assert len(refused) == 3
    assert set(refused) <= NO_FILE


def test_attack_results_within_a_system_folder_are_hidden_except_the_run(inside: Inside) -> None:
    """As in a container whose project lies in ``/usr/src`` or ``/opt``."""
    base, made = inside.base, [str(inside.base / "results" / "made"), str(inside.base / "made")]
    walls = Walls(readable=(base,), writable=(inside.run,), hidden=(base / "results",))
    ended = inside(
        f"print(outcome(lambda: open({str(base / 'data/source.h5ad')!r}).read()))\n"
        f"print(outcome(lambda: open({str(base / 'results/suite.json')!r}).read()))\n"
        f"print(outcome(lambda: open({str(base / 'results/runs/other/outputs.npz')!r}).read()))\n"
        f"print(*[outcome(open, path, 'w') for path in {made}])\n"
        f"print(outcome(open, {str(inside.run / 'made')!r}, 'w'))",
        walls=walls,
    )
    readable, *refused, mine = ended.out.split()
    assert (readable, mine) == ("done", "done"), ended.err
    assert len(refused) == 4
    assert set(refused) <= NO_FILE | NO_WRITE


def test_attack_open_folders_are_no_way_out(inside: Inside) -> None:
    folder = os.open(inside.base, os.O_RDONLY)
    try:
        ended = inside(
            f"print(outcome(lambda: os.open('data/source.h5ad', os.O_RDONLY, dir_fd={folder})))\n"
            f"print(outcome(os.fchdir, {folder}))",
            pass_fds=[folder],
        )
    finally:
        os.close(folder)
    assert ended.out.split() == ["EBADF", "EBADF"]


WRITES = {
    "site-packages": "os.path.join(sys.base_prefix, 'lib', 'sitecustomize.py')",
    "package": repr(str(SOURCE / "cellular_bench" / "made.py")),
    "etc": "'/etc/made'",
    "usr": "'/usr/made'",
    "view": "VIEW",
    "beside the view": "os.path.join(os.path.dirname(VIEW), 'made')",
    "result folder": "os.path.join(BASE, 'results', 'made')",
    "other run": "os.path.join(BASE, 'results/runs/other/made')",
    "root": "'/made'",
    "dev": "'/dev/made'",
    "sys": "'/sys/kernel/uevent_helper'",
    "proc": "'/proc/sys/kernel/core_pattern'",
    "tmp": "'/tmp/made'",
}


def test_attack_nothing_outside_can_be_changed(inside: Inside) -> None:
    base, view = str(inside.base), str(inside.view)
    found = {}
    for place, path in WRITES.items():
        path = eval(path, {"BASE": base, "VIEW": view, "os": os, "sys": sys})
        found |= {
            f"{place}, open": f"outcome(os.open, {path!r}, os.O_WRONLY | os.O_CREAT)",
            f"{place}, mkdir": f"outcome(os.mkdir, {path + '.folder'!r})",
            f"{place}, symlink": f"outcome(os.symlink, '/', {path + '.link'!r})",
            f"{place}, rename": f"outcome(os.rename, {view!r}, {path + '.moved'!r})",
            f"{place}, link": f"outcome(os.link, {view!r}, {path + '.linked'!r})",
            f"{place}, truncate": f"outcome(os.truncate, {path!r}, 0)",
        }
    found = inside.outcomes(found | {"remove": f"outcome(os.remove, {view!r})"})
    if inside.kind == "landlock" and landlock.abi() < 3:
        found = {name: code for name, code in found.items() if "truncate" not in name}
    allowed = {*NO_WRITE, "EXDEV", "EBUSY", "EEXIST"}
    assert {name: code for name, code in found.items() if code not in allowed} == {}
    assert inside.view.read_text() == "secret"


def test_attack_no_capability_is_left_or_can_be_had(inside: Inside) -> None:
    ended = inside(
        "print(Path('/proc/self/status').read_text())\n"
        "print(subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout)"
    )
    lines = [line.split() for line in ended.out.splitlines()]
    left = [
        (line[0], int(line[1], 16)) for line in lines if line and line[0] in {"CapPrm:", "CapEff:", "CapAmb:"}
    ]
    assert left == [("CapPrm:", 0), ("CapEff:", 0), ("CapAmb:", 0)] * 2, ended.err
    assert [line[1] for line in lines if line and line[0] == "NoNewPrivs:"] == ["1", "1"]


UNDOING = {
    "remount": "libc_outcome('mount', b'none', b'/usr', None, 32 | 4096, None)",
    "mount": "libc_outcome('mount', b'tmpfs', b'/usr', b'tmpfs', 0, None)",
    "bind": "libc_outcome('mount', b'/usr', b'/etc', None, 4096, None)",
    "umount": "libc_outcome('umount2', b'/usr', 2)",
    "umount hidden": "libc_outcome('umount2', b'/proc', 2)",
    "setns": "libc_outcome('setns', os.open('/proc/self/ns/pid', os.O_RDONLY), 0)",
    "pivot": "libc_outcome('pivot_root', b'/', b'/')",
    "chroot": "outcome(os.chroot, '/usr')",
    "mknod": f"outcome(os.mknod, 'device', 0o60600, {os.makedev(254, 0)})",
    "handle": "libc_outcome('syscall', 304, -100, ctypes.create_string_buffer(64), 0)",
    "setuid": "outcome(os.setuid, 12345)",
}


def test_attack_walls_cannot_be_undone(inside: Inside) -> None:
    found = inside.outcomes({"": f"outcome(os.chdir, {str(inside.run)!r})"} | UNDOING)
    assert found.pop("") == "done"
    refused = {"EPERM", "EINVAL", "EACCES", "ENOENT", "EBADF"}
    assert {way: code for way, code in found.items() if code not in refused} == {}


def test_attack_no_new_namespace(namespaced: Inside) -> None:
    flags = [1 << 28, 1 << 28 | 1 << 17, 1 << 17, 1 << 29, 1 << 30, 1 << 27]
    found = namespaced.outcomes({f"{flag:x}": f"libc_outcome('unshare', {flag})" for flag in flags})
    assert set(found.values()) <= {"EPERM", "ENOSPC"}


def test_attack_tcp_reaches_nothing(inside: Inside) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = inside.outcome(f"outcome(socket.create_connection, ('127.0.0.1', {port}), 2)")
    if inside.kind == "landlock" and landlock.abi() < 4:
        pytest.skip(f"Landlock ABI {landlock.abi()} does not know TCP")
    assert found == ("ECONNREFUSED" if inside.kind == "namespaces" else "EACCES")


def test_attack_landlock_refuses_to_listen(base: Path) -> None:
    inside = inside_as("landlock", "me", base)
    if landlock.abi() < 4:
        pytest.skip(f"Landlock ABI {landlock.abi()} does not know TCP")
    assert inside.outcome("outcome(socket.create_server, ('127.0.0.1', 0))") == "EACCES"


NETWORK = {
    "tcp": "outcome(socket.create_connection, ('1.1.1.1', 53), 2)",
    "udp": "outcome(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b'0', ('1.1.1.1', 53))",
    "udp6": "outcome(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto, b'0', ('2001:db8::1', 53))",
    "raw": "outcome(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)",
    "packet": "outcome(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)",
}


def test_attack_there_is_no_network(namespaced: Inside) -> None:
    refused = {"ENETUNREACH", "EPERM", "EACCES", "EADDRNOTAVAIL", "EAFNOSUPPORT"}
    found = namespaced.outcomes(NETWORK)
    assert {way: code for way, code in found.items() if code not in refused} == {}


def test_attack_names_are_not_resolved_and_there_is_one_interface(namespaced: Inside) -> None:
    """Netlink answers, with what is inside: the loopback interface."""
    ended = namespaced(
        "print([name for _, name in socket.if_nameindex()])\n"
        "try:\n    socket.getaddrinfo('example.org', 80)\n"
        "except socket.gaierror:\n    print('no address')"
    )
    assert ended.out.splitlines() == ["['lo']", "no address"], ended.err


def test_libraries_may_talk_to_themselves(namespaced: Inside) -> None:
    code = (
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(outcome(socket.create_connection, server.getsockname(), 2))"
    )
    assert namespaced(code).out == "done"


def test_attack_abstract_sockets_outside_cannot_be_reached(inside: Inside) -> None:
    if inside.kind == "landlock" and landlock.abi() < 6:
        pytest.skip(f"Landlock ABI {landlock.abi()} does not know abstract sockets")
    name = f"\0cellular-bench-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        found = inside.outcome(f"outcome(socket.socket(socket.AF_UNIX).connect, {name!r})")
    assert found in {"ECONNREFUSED", "EPERM"}


def test_attack_sockets_in_folders_outside_cannot_be_reached(namespaced: Inside) -> None:
    path = namespaced.base / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        assert (
            namespaced.outcome(f"outcome(socket.socket(socket.AF_UNIX).connect, {str(path)!r})") == "ENOENT"
        )


@pytest.fixture
def victim(inside: Inside) -> Iterator[int]:
    """A process outside, of the same user."""
    options = {"user": NOBODY, "group": NOBODY} if inside.user == "nobody" else {}
    with subprocess.Popen(["sleep", "60"], **options) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


REACHING = {
    "kill": "outcome(os.kill, {pid}, signal.SIGTERM)",
    "probe": "outcome(os.kill, {pid}, 0)",
    "pidfd": "outcome(lambda: signal.pidfd_send_signal(os.pidfd_open({pid}), signal.SIGTERM))",
    "ptrace": "libc_outcome('ptrace', 16, {pid}, 0, 0)",
    "memory": "outcome(open, '/proc/{pid}/mem', 'rb')",
    "descriptors": "outcome(os.readlink, '/proc/{pid}/fd/0')",
    "folder": "outcome(os.listdir, '/proc/{pid}/cwd/')",
    "variables": "outcome(lambda: open('/proc/{pid}/environ').read())",
}


def test_attack_processes_outside_cannot_be_reached(inside: Inside, victim: int) -> None:
    knows_signals = inside.kind == "namespaces" or landlock.abi() >= 6
    attempts = {
        name: attempt.format(pid=victim)
        for name, attempt in REACHING.items()
        if knows_signals or name not in {"kill", "probe", "pidfd"}
    }
    refused = {"ESRCH", "ENOENT", "EPERM", "EACCES", "EINVAL"}
    found = inside.outcomes(attempts)
    assert {name: code for name, code in found.items() if code not in refused} == {}


def test_attack_no_signal_leaves(inside: Inside) -> None:
    """Neither one to all, nor one to the group of the process that entered."""
    if inside.kind == "landlock":
        pytest.skip("within Landlock, a run still ends the processes of its group")
    code = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "group = os.getpgrp()\n"
        "print(outcome(os.kill, 0, signal.SIGTERM), outcome(os.killpg, group, signal.SIGTERM))\n"
        "print(outcome(os.kill, -1, signal.SIGKILL))"
    )
    ended = inside(code)
    assert ended.out.split("\n") == ["done done", "ESRCH"]
    assert ended.code == 0


def test_attack_processes_outside_are_not_listed(namespaced: Inside) -> None:
    listed = namespaced.outcome("sorted(int(name) for name in os.listdir('/proc') if name.isdigit())")
    assert listed == [1, 2]


def test_attack_runs_share_no_memory(namespaced: Inside) -> None:
    """Neither in files, nor in System V segments, queues or keys."""
    remember = (
        "Path('/dev/shm/memory').write_text('type 7')\n"
        "libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)\n"
        "print(libc_outcome('shmget', 7777, 4096, 0o1666), libc_outcome('msgget', 7777, 0o1666))\n"
    )
    assert namespaced(remember).out == "done done"
    recall = (
        "print(outcome(open, '/dev/shm/memory'))\n"
        "print(libc_outcome('shmget', 7777, 0, 0), libc_outcome('msgget', 7777, 0))\n"
    )
    assert namespaced(recall).out.split() == ["ENOENT", "ENOENT", "ENOENT"]
    assert not Path("/dev/shm/memory").exists()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls")
def test_attack_runs_share_no_keys(inside: Inside) -> None:
    """Keys stay in the kernel, and whatever is started with the same keyring finds them."""
    if ctypes.CDLL(None).syscall(250, 1, None) < 0:  # a keyring for runs to inherit
        pytest.skip("keys are not permitted here")
    add = "libc.syscall(248, b'user', b'memory', b'type 7', 6, -3)"
    find = "libc.syscall(249, b'user', b'memory', None, 0)"
    if inside(f"print({add} > 0, {find} > 0)").out != "True True":
        pytest.skip("keys are not permitted here")
    assert inside(f"print({find} > 0)").out == "False"


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_codes_arrive(inside: Inside, code: int) -> None:
    assert inside(f"sys.exit({code})").code == code


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "SIGINT"])
def test_signals_arrive(inside: Inside, number: str) -> None:
    code = (
        f"signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.{number}); time.sleep(9)"
    )
    assert inside(code).code == -getattr(signal, number)


def children_s() -> float:
    """Return the processor time of all that this process has waited for, in seconds."""
    return sum(os.times()[2:4])


BUSY = "end = time.process_time() + .5\nwhile time.process_time() < end: pass\n"


@pytest.mark.parametrize("where", ["method", "child", "daemon"])
def test_processor_time_inside_is_counted_outside(inside: Inside, where: str) -> None:
    """A process that nobody inside waits for counts as well, where the kernel lets it be found."""
    code = {
        "method": BUSY,
        "child": f"if os.fork() == 0:\n    exec({BUSY!r})\n    os._exit(0)\nos.wait()",
        "daemon": (
            "done, doing = os.pipe()\n"
            "if os.fork() == 0:\n"
            f"    os.setsid()\n    exec({BUSY!r})\n    os.write(doing, b'0')\n    time.sleep(60)\n"
            "os.read(done, 1)"
        ),
    }[where]
    if (inside.kind, where) == ("landlock", "daemon"):
        pytest.skip("with Landlock, orphans are for the supervisor")
    before = children_s()
    ended = inside(code)
    assert ended.code == 0, ended.err
    assert children_s() - before > 0.45


def test_processor_time_of_a_run_that_is_stopped_is_counted(namespaced: Inside) -> None:
    before = children_s()
    with namespaced.start(
        f"print('ready', flush=True)\n{BUSY}print('busy', flush=True)\ntime.sleep(60)"
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "busy\n"]
        process.terminate()
        assert process.wait(10) == -signal.SIGKILL
    assert children_s() - before > 0.45


def test_all_inside_end_with_the_process_outside(namespaced: Inside) -> None:
    beat = namespaced.run / "beat"
    code = (
        "os.fork()\nos.setsid() if os.getpid() > 2 else None\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        f"while True:\n    Path({str(beat)!r}).write_text(str(time.time())); time.sleep(.02)"
    )
    with namespaced.start(code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    time.sleep(0.3)
    last = beat.read_text() if beat.exists() else ""
    time.sleep(0.2)
    assert (beat.read_text() if beat.exists() else "") == last


def test_a_supervisor_sees_the_memory_inside(inside: Inside) -> None:
    """Shared pages of processes behind walls must be readable for the user outside."""
    import psutil

    code = "memory = bytearray(2**26)\nprint('ready', flush=True)\ntime.sleep(60)"
    with inside.start(code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        texts = [Path(f"/proc/{one.pid}/smaps_rollup").read_text() for one in tree]
        process.kill()
    assert len(tree) == (3 if inside.kind == "namespaces" else 1)
    assert any(int(text.split("Pss:")[1].split()[0]) > 2**16 for text in texts)


@pytest.mark.parametrize("missing", ["readable", "writable", "hidden"])
def test_a_path_that_is_not_there_is_an_error(inside: Inside, missing: str) -> None:
    ended = inside("print('inside')", walls=Walls(**{missing: (inside.base / "absent",)}))
    assert ended.code == 1
    assert ended.out == ""
    assert f"{inside.base}/absent" in ended.err.splitlines()[-1]


def test_a_file_within_a_writable_folder_cannot_be_protected(inside: Inside) -> None:
    walls = Walls(readable=(inside.view,), writable=(inside.view.parent,))
    ended = inside("print('inside')", walls=walls)
    assert (ended.code, ended.out) == (1, "")
    assert "Cannot protect" in ended.err


def test_a_process_with_threads_is_refused(inside: Inside) -> None:
    """The other threads would stay outside."""
    enter = (
        "import threading\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        f"enter({inside.kind!r}, Walls())"
    )
    ended = Inside("process", inside.user, inside.base, inside.python)(enter)
    assert ended.code == 1
    assert "this process has 2" in ended.err


def test_links_on_the_way_stay_links(inside: Inside) -> None:
    """The environment of a method may be reached through links, relative and absolute ones."""
    base = inside.base
    (base / "deep").mkdir()
    (base / "deep" / "up").symlink_to("../link")
    (base / "first").symlink_to(base / "deep")
    path = base / "first" / "up" / "source.h5ad"
    ended = inside(f"print(Path({str(path)!r}).read_text())", walls=Walls(readable=(path,)))
    assert ended.out == "secret", ended.err


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        visible(Walls(readable=(tmp_path / "a",)))


def test_neither_the_folder_of_the_script_nor_the_current_one_is_installed(tmp_path, monkeypatch) -> None:
    for folder in (tmp_path, tmp_path / "script"):
        folder.mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(tmp_path)
    assert not [path for path in visible(Walls()).modes if path.is_relative_to(tmp_path)]


@pytest.mark.parametrize("prefix", ["prefix", "base_prefix"])
def test_a_prefix_that_is_a_home_shows_its_parts_only(tmp_path, monkeypatch, prefix: str) -> None:
    """``./configure --prefix=$HOME``, or an environment in the folder of a project."""
    for name in ("lib", "bin", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, prefix, str(tmp_path))
    modes = visible(Walls()).modes
    found = {path.name: mode for path, mode in modes.items() if path.is_relative_to(tmp_path)}
    assert found == {"lib": "read", "bin": "read"}


def test_folders_of_libraries_are_installed_and_others_on_that_list_are_not(tmp_path, monkeypatch) -> None:
    """Modules of a cluster put libraries anywhere, and some add the current folder."""
    (tmp_path / "lib64").mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", f":.:{tmp_path}:{tmp_path / 'lib64'}")
    monkeypatch.chdir(tmp_path)
    assert [path for path in visible(Walls()).modes if path.is_relative_to(tmp_path)] == [tmp_path / "lib64"]


def test_packages_that_are_linked_are_found(tmp_path, monkeypatch) -> None:
    site, package = tmp_path / "env" / "site-packages", tmp_path / "elsewhere" / "package"
    site.mkdir(parents=True)
    package.mkdir(parents=True)
    (site / "package").symlink_to(package)
    (tmp_path / "linked").symlink_to(tmp_path / "env")
    monkeypatch.syspath_prepend(str(tmp_path / "linked" / "site-packages"))
    found = visible(Walls())
    assert found.modes[site] == found.modes[package] == "read"
    assert found.links[tmp_path / "linked"] == tmp_path / "env"


def test_a_machine_without_walls_says_why(monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "_tried", lambda: dict.fromkeys(KINDS, "not permitted (EPERM)"))
    found = sandbox.best.__wrapped__()
    assert found.kind == "process"
    assert found.missing == dict.fromkeys(KINDS, "not permitted (EPERM)")


def test_landlock_names_what_its_version_leaves_open() -> None:
    assert "TCP" in landlock.gaps(3)
    assert "signals" in landlock.gaps(5)
    assert not {"TCP", "signals"} & set(landlock.gaps(6).replace(",", "").split())


def test_where_user_namespaces_are_forbidden_the_reason_is_given(base: Path) -> None:
    """Tried inside: there, they are."""
    inside = inside_as("namespaces", "me", base)
    code = (
        f"os.environ['TMPDIR'] = {str(inside.run)!r}\n"
        "from cellular_bench.benchmark.isolation.sandbox import best\n"
        "found = best()\nprint(found.kind, found.missing['namespaces'])"
    )
    kind, reason = inside(code).out.split(" ", 1)
    assert reason.startswith("User namespaces: ")
    assert kind in {"landlock", "process"}


def test_a_covered_proc_is_taken_as_it_is_and_shows_no_files_outside(base: Path) -> None:
    """Containers cover parts of /proc, and are refused a new one."""
    inside = inside_as("namespaces", "me", base)
    libc = ctypes.CDLL(None)

    def cover() -> None:
        assert libc.unshare(1 << 17) == 0
        assert libc.mount(b"none", b"/", None, 1 << 14 | 1 << 18, None) == 0
        assert libc.mount(b"/dev/null", b"/proc/version", None, 1 << 12, None) == 0

    if os.geteuid() != 0:
        pytest.skip("needs root")
    ended = inside(
        f"print(Path('/proc/{os.getpid()}').exists(), outcome(os.listdir, '/proc/{os.getpid()}/root'))\n"
        f"print(outcome(os.readlink, '/proc/{os.getpid()}/fd/0'), outcome(os.kill, {os.getpid()}, 0))\n"
        "print(outcome(os.open, '/proc/sys/kernel/core_pattern', os.O_WRONLY))",
        preexec_fn=cover,
    )
    assert ended.out.split() == ["True", "EACCES", "EACCES", "ESRCH", "EROFS"], ended.err


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_landlock_of_older_kernels_still_closes_files(base: Path, version: int) -> None:
    inside = inside_as("landlock", "me", base)
    if version > landlock.abi():
        pytest.skip(f"the kernel has ABI {landlock.abi()}")
    code = (
        "from cellular_bench.benchmark.isolation.sandbox import landlock\n"
        f"landlock.abi = lambda: {version}\n"
        f"view, run = Path({str(inside.view)!r}), Path({str(inside.run)!r})\n"
        "enter('landlock', Walls(readable=(view,), writable=(run,)))\n"
        f"print(outcome(lambda: open({str(base / 'data/source.h5ad')!r}).read()))\n"
        "print(outcome(open, view, 'a'), outcome(open, view), outcome(open, run / 'made', 'w'))\n"
        "print(outcome(socket.create_server, ('127.0.0.1', 0)))\n"
    )
    ended = Inside("process", "me", base, inside.python)(code)
    assert ended.out.split() == ["EACCES", "EACCES", "done", "done", "EACCES" if version >= 4 else "done"]


def test_processes_locks_and_temporary_files_work(inside: Inside) -> None:
    code = (
        f"os.environ['TMPDIR'] = {str(inside.run)!r}\n"
        "import multiprocessing, tempfile\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(abs, [-1, 2]))\n"
        "memory = SharedMemory(create=True, size=8)\nmemory.close()\nmemory.unlink()\n"
        "with tempfile.TemporaryFile() as file:\n    print(file.write(b'0'))\n"
        "print(subprocess.run(['cat'], input='cat', capture_output=True, text=True).stdout)\n"
        "print(outcome(open('/dev/null', 'w').write, '0'), len(os.urandom(8)), sys.stdin.read())"
    )
    ended = inside(code)
    assert ended.out.split("\n") == ["[1, 2]", "1", "cat", "done 8"], ended.err


LIBRARIES = """
import numpy, scipy.linalg, numba, sklearn.decomposition, torch
assert numba.njit(lambda x: x + 1)(2) == 3
assert float(torch.ones(3).sum()) == 3 == numpy.ones(3).sum()
scipy.linalg.svd(numpy.eye(3))
import multiprocessing
def square(x): return x * x
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(square, range(4)) == [0, 1, 4, 9]
import joblib
assert joblib.Parallel(2)(joblib.delayed(pow)(i, 2) for i in range(4)) == [0, 1, 4, 9]
from joblib.externals.loky import get_reusable_executor
get_reusable_executor().shutdown(kill_workers=True)
import tempfile, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.savefig(tempfile.mkdtemp() + "/figure.png")
code = "import cellular_bench.methods, numpy; print(6 * 7)"
assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "42\\n"
import psutil
assert psutil.Process().memory_info().rss > 0
print("all", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_libraries_work(base: Path, kind: str) -> None:
    inside = inside_as(kind, "me", base)
    home = str(inside.run)
    env = {**os.environ, "TMPDIR": home, "HOME": home, "PYTHONPATH": str(SOURCE)}
    env.pop("MPLCONFIGDIR", None)
    ended = inside(f"os.chdir({home!r})\n{LIBRARIES}", env=env)
    assert (ended.out, ended.code) == ("all", 0), ended.err


@pytest.mark.parametrize("kind", ["namespaces", "landlock", "process"])
def test_the_doctor_says_what_separates_runs(monkeypatch, kind) -> None:
    from cellular_bench.workflows import doctor

    missing = dict.fromkeys(KINDS[: [*KINDS, "process"].index(kind)], "not permitted (EPERM)")
    found = sandbox.Found(kind=kind, description=f"by {kind}", missing=missing)
    monkeypatch.setattr(sandbox, "best", lambda: found)
    (finding,) = [finding for finding in doctor.examine() if finding.topic == "sandbox"]
    assert finding.status == ("missing" if missing else "ok")
    assert f"by {kind}" in finding.found
    assert all(f"{other}: not permitted (EPERM)" in finding.found for other in missing)
    assert bool(finding.remedy) == bool(missing)
