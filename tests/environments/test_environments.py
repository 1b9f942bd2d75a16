"""Environments are declared, identified, created whole or not at all, and removed."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from cellular_bench.cli import environments as cli
from cellular_bench.core.errors import NotApplicableError, UnknownNameError, UserError
from cellular_bench.environments import building, find, required, shipped, state, status

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
TINY = f"""
title = "Tiny"

[python]
version = "{HERE}"
requirements = ["numpy==99.1", "h5py==99.2", "leaf==1.0"]
"""
WITH_R = """
title = "R"

[r]
version = "4.0"
packages = { Seurat = "4.3.0", rhdf5 = "2.38.0" }
install = { Debian = "sudo apt-get install r-cran-seurat" }
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(folder))
    return folder


def declared(folder: Path, text: str = TINY, name: str = "tiny") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Write a package of one empty module: what pip needs to install, without a network."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder of packages in the place of the package index; another package is on the PYTHONPATH."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "numpy", "99.1")
    write_wheel(folder, "h5py", "99.2")
    write_wheel(folder, "leaf", "1.0", requires="root")
    write_wheel(folder, "root", "3.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    intruder = tmp_path / "elsewhere" / "intruder-1.0.dist-info"
    intruder.mkdir(parents=True)
    (intruder / "METADATA").write_text("Name: intruder\nVersion: 1.0\nRequires-Dist: nothing-like-it\n")
    monkeypatch.setenv("PYTHONPATH", str(intruder.parent))
    return folder


def create(path: Path) -> list[str]:
    said: list[str] = []
    building.create(find(str(path)), installer="pip", say=said.append)
    return said


def test_an_environment_is_created_once_and_then_known(tmp_path, index):
    path = declared(tmp_path)
    assert [line.partition(" (log")[0] for line in create(path)[:-1]] == [
        f"tiny: a venv with Python {HERE}",
        "tiny: installing packages with pip",
        "tiny: checking that no package is missing",
    ]
    found = required(find(str(path)))
    wanted = {"numpy": "99.1", "h5py": "99.2", "leaf": "1.0", "root": "3.0"}
    assert {name: found.packages[name] for name in wanted} == wanted
    assert "intruder" not in found.packages
    assert found.versions["Python"] == ".".join(map(str, sys.version_info[:3]))
    code = "import leaf, sys; print(sys.prefix)"
    done = subprocess.run([*found.command, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(status.place(find(str(path))))
    assert create(path) == [f"tiny is ready: {status.place(find(str(path)))}"]


def test_a_lock_is_installed_alone_and_must_be_complete(tmp_path, index):
    lock = tmp_path / "tiny.lock"
    lock.write_text("# resolved\nnumpy==99.1\nh5py==99.2  # why\nleaf==1.0\n", encoding="utf-8")
    path = declared(tmp_path, TINY + 'lock = "tiny.lock"\n')
    with pytest.raises(UserError, match=r"leaf 1.0 requires root, which is not installed"):
        create(path)
    assert not status.place(find(str(path))).exists()


def test_a_lock_may_leave_packages_to_be_resolved(tmp_path, index):
    lock = tmp_path / "tiny.lock"
    lock.write_text("numpy==99.1\nh5py==99.2\nleaf==1.0\n", encoding="utf-8")
    path = declared(tmp_path, TINY + 'lock = "tiny.lock"\nresolve = true\n')
    create(path)
    assert required(find(str(path))).packages["root"] == "3.0"
    assert find(str(path)).digest != find(str(declared(tmp_path, TINY + 'lock = "tiny.lock"\n'))).digest


def test_pip_has_the_last_word_and_nothing_half_built_stays(tmp_path, index):
    path = declared(tmp_path, TINY.replace("leaf==1.0", "leaf==2.0"))
    with pytest.raises(UserError, match=r"(?s)installing packages with pip failed.*leaf==2.0"):
        create(path)
    assert state(find(str(path))).problem == "it has not been created"
    assert building.folders_of("tiny") == []


def test_without_a_network_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(
        UserError, match="index could not be reached: creating an environment needs a network"
    ):
        create(declared(tmp_path))


def test_an_environment_without_h5py_is_refused(tmp_path, index):
    path = declared(tmp_path, TINY.replace('"h5py==99.2", ', ""))
    with pytest.raises(UserError, match=r"(?s)looking for numpy and h5py.*No module named 'h5py'"):
        create(path)
    assert not state(find(str(path))).is_ready


def test_a_creation_that_is_killed_is_not_taken_for_a_finished_one(tmp_path, index, repo):
    path = declared(tmp_path)
    code = (
        "import os, signal; from cellular_bench.environments import building, find\n"
        "def say(line):\n    if 'installing' in line: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"building.create(find({str(path)!r}), installer='pip', say=say)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    folder = status.place(find(str(path)))
    assert status.python_in(folder).exists()
    assert state(find(str(path))).problem == "its creation was not finished"
    with pytest.raises(NotApplicableError, match=r"not finished. Fix: run-benchmark env create /"):
        required(find(str(path)))
    create(path)
    assert state(find(str(path))).is_ready


def test_a_creation_that_is_stopped_leaves_nothing(tmp_path, index):
    def stop(line: str) -> None:
        if "installing" in line:
            raise KeyboardInterrupt

    found = find(str(declared(tmp_path)))
    with pytest.raises(KeyboardInterrupt):
        building.create(found, installer="pip", say=stop)
    assert not status.place(found).exists()


def test_a_step_that_is_stopped_ends_with_all_that_it_started(tmp_path):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    pid, command = tmp_path / "pid", "sleep 600 & echo $! > pid.new; mv pid.new pid; wait"
    try:
        step = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, start_new_session=True)
        while not pid.exists():
            time.sleep(0.01)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            building._wait(step)
    finally:
        signal.signal(signal.SIGALRM, before)
    deadline = time.monotonic() + 30
    child = int(pid.read_text())
    while psutil.pid_exists(child) and psutil.Process(child).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert step.returncode == -signal.SIGKILL


def pretend(path: Path, python: str = "3.11.7") -> Path:
    """Put an environment there that looks finished, as if it had been created."""
    folder = status.place(find(str(path)))
    status.python_in(folder).parent.mkdir(parents=True)
    status.python_in(folder).symlink_to(sys.executable)
    facts = {"python": python, "packages": {"numpy": "99.1"}}
    (folder / status.MARKER).write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_another_declaration_is_another_environment_and_both_are_removed(tmp_path):
    old = pretend(declared(tmp_path))
    path = declared(tmp_path, TINY.replace("leaf==1.0", "leaf==1.1"))
    other = pretend(declared(tmp_path, name="tiny-2"))
    assert not state(find(str(path))).is_ready
    new = pretend(path)
    assert old != new
    assert building.remove(find(str(path))) == sorted([old, new])
    assert not old.exists() and not new.exists() and other.exists()
    assert building.remove(find(str(path))) == []


def test_the_digest_follows_what_is_installed_and_nothing_else(tmp_path):
    first = find(str(declared(tmp_path))).digest
    renamed = find(str(declared(tmp_path, TINY.replace("Tiny", "Small"), name="small")))
    assert renamed.digest == first
    assert find(str(declared(tmp_path, TINY.replace("99.1", "99.3")))).digest != first
    lock = tmp_path / "tiny.lock"
    locked = declared(tmp_path, TINY + 'lock = "tiny.lock"\n')
    lock.write_text("numpy==99.1\n", encoding="utf-8")
    one = find(str(locked)).digest
    lock.write_text("numpy==99.1 \\\n    --hash=sha256:00ff\n", encoding="utf-8")
    assert len({first, one, find(str(locked)).digest}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TINY.replace("leaf==1.0", "leaf>=1.0"),
            "'leaf>=1.0' does not pin an exact version; write NAME==VERSION",
        ),
        (TINY.replace("leaf==1.0", "leaf==1.*"), "does not pin"),
        (TINY.replace(f'"{HERE}"', '">=3.8"'), "python.version is '>=3.8'; it must be of the form 3.11"),
        (TINY + 'lock = "none.lock"\n', "Lock file .*none.lock cannot be read: No such file"),
        (TINY + WITH_R.partition("\n\n")[2], "it must have either a table"),
        ('title = "Nothing"\n', "it must have either a table"),
        (TINY + 'wheels = "x"\n', "python.wheels: Unexpected keyword argument"),
        ("title = ", "is not valid TOML"),
    ],
)
def test_a_wrong_declaration_is_explained(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        find(str(declared(tmp_path, text)))


def test_unknown_names_and_versions_are_explained(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'seurat'"):
        find("seurad")
    with pytest.raises(UserError, match=r"absent.toml cannot be read"):
        find(str(tmp_path / "absent.toml"))
    with pytest.raises(UserError, match=r"No Python 3\.99 was found: neither this one"):
        building.find_python("3.99")


def fake_r(folder: Path, monkeypatch, **versions: str) -> None:
    """An Rscript that reports given versions."""
    lines = "".join(f"{name}\\t{version}\\n" for name, version in versions.items())
    script = folder / "Rscript"
    script.write_text(f"#!/bin/sh\nprintf '{lines}'\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv(status.RSCRIPT_VARIABLE, str(script))


@pytest.mark.parametrize(
    ("versions", "problem"),
    [
        ({"R": "4.2.2", "Seurat": "4.3.0", "rhdf5": "2.42.0"}, None),
        ({"R": "4.2.2", "Seurat": "4.3.0.1", "rhdf5": "2.38"}, "rhdf5 is 2.38, at least 2.38.0 is needed"),
        ({"R": "4.2.2", "Seurat": "10.0", "rhdf5": ""}, "the R package rhdf5 is not installed"),
        ({"R": "3.6.3", "Seurat": "4.3.0", "rhdf5": "2.42"}, "R is 3.6.3, at least 4.0 is needed"),
    ],
)
def test_r_is_ready_with_the_lowest_versions(tmp_path, monkeypatch, versions, problem):
    fake_r(tmp_path, monkeypatch, **versions)
    found = state(find(str(declared(tmp_path, WITH_R, name="with_r"))))
    assert found.problem == problem
    if problem is None:
        assert found.versions == versions
    else:
        assert found.versions == {"environment with_r": "missing"}


def test_without_r_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(status.RSCRIPT_VARIABLE, raising=False)
    path = declared(tmp_path, WITH_R, name="with_r")
    with pytest.raises(NotApplicableError, match=r"no Rscript on the PATH. Fix: sudo apt-get install r-"):
        required(find(str(path)))
    done = CliRunner().invoke(cli.command, ["create", str(path)])
    assert isinstance(done.exception, UserError)
    assert "sudo apt-get install r-cran-seurat  (Debian)" in str(done.exception)


def test_what_ships_is_well_formed():
    assert {"liger", "seurat"} <= set(shipped())
    for name in shipped():
        found = find(name)
        if found.python is None:
            continue
        locked = {line.partition("==")[0].lower() for line in found.lock_lines}
        assert {"numpy", "h5py"} <= locked
        assert {line.lower() for line in found.python.requirements} <= {
            line.lower() for line in found.lock_lines
        }


def test_the_list_tells_what_is_missing_and_what_is_left_over(tmp_path, monkeypatch):
    fake_r(tmp_path, monkeypatch, R="4.2.2", Seurat="4.0.0", Matrix="1.5.3", rhdf5="2.42.0", jsonlite="1.8.4")
    left = status.home() / "liger-0123456789ab"
    left.mkdir(parents=True)
    text = CliRunner().invoke(cli.command, ["list"]).output
    assert "missing: it has not been created\n  fix: run-benchmark env create liger" in text
    assert f"of an older declaration, or unfinished: {left}" in text
    assert "missing: Seurat is 4.0.0, at least 4.3.0 is needed" in text
    rows = json.loads(CliRunner().invoke(cli.command, ["list", "--format", "json"]).output)
    assert {row["environment"]: row["methods"] for row in rows}["seurat"] == [
        "seurat",
        "seurat_cca",
    ]


def test_the_command_line_creates_locks_and_removes(tmp_path, index):
    path = str(declared(tmp_path))
    run = CliRunner().invoke
    assert "tiny is ready" in run(cli.command, ["create", path, "--with", "pip"]).output
    assert {"h5py==99.2", "leaf==1.0", "numpy==99.1", "root==3.0"} <= set(
        run(cli.command, ["lock", path]).output.splitlines()
    )
    assert run(cli.command, ["remove", path]).output.startswith("removed ")
    assert "nothing to remove" in run(cli.command, ["remove", path]).output
