"""Create and remove Python environments in the cache folder, with uv or with venv and pip."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.environments.declaration import Declaration, PythonPackages
from cellular_bench.environments.status import MARKER, home, place, python_in, state

Installer = Literal["pip", "uv"]

#: Number of lines of output that an error message shows.
LAST_LINES = 15
#: Output of pip and uv if they cannot reach the package index.
_NO_NETWORK = (
    "NewConnectionError",
    "Name or service not known",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "Connection refused",
    "dns error",
    "Failed to fetch",
)
_FACTS = """
import json, platform
from importlib.metadata import distributions
import h5py, numpy
names = {d.metadata["Name"]: d.version for d in distributions()}
print(json.dumps({"python": platform.python_version(), "packages": dict(sorted(names.items()))}))
"""


def create(
    declaration: Declaration, *, installer: Installer | None = None, say: Callable[[str], None] = print
) -> Path:
    """Build a Python environment unless it exists, and return its folder.

    Parameters
    ----------
    declaration
        Environment to build.
    installer
        ``"uv"`` or ``"pip"``; None: uv if it is on the PATH, else pip.
    say
        Called with a line of text for each step.

    Returns
    -------
    pathlib.Path
        Folder of the environment.

    Raises
    ------
    UserError
        If a step fails, with the last lines of its output. An incomplete environment is removed.
    """
    folder = place(declaration)
    packages = declaration.python
    if packages is None:
        raise UserError(
            f"Environment '{declaration.name}' uses R, whose packages are installed by you and not created "
            f"here. `run-benchmark env list` shows the commands."
        )
    with _locked(folder):
        if state(declaration).is_ready:
            say(f"{declaration.name} is ready: {folder}")
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        log = folder.with_name(f"{folder.name}.log")
        log.unlink(missing_ok=True)
        try:
            _build(declaration, packages, installer or _default_installer(), log=log, say=say)
        except BaseException:  # including Ctrl-C: an incomplete environment is useless
            shutil.rmtree(folder, ignore_errors=True)
            raise
    say(f"{declaration.name} is ready: {folder}")
    return folder


def remove(declaration: Declaration) -> list[Path]:
    """Delete all environments of this name, including incomplete ones and those of older declarations.

    Returns
    -------
    list of pathlib.Path
        The folders that were deleted.
    """
    folders = folders_of(declaration.name)
    for folder in folders:
        with _locked(folder):
            (folder / MARKER).unlink(missing_ok=True)  # first, so that an interruption leaves it incomplete
            shutil.rmtree(folder)
        for beside in (f"{folder.name}.log", f"{folder.name}.lock"):
            folder.with_name(beside).unlink(missing_ok=True)
    return folders


def folders_of(name: str) -> list[Path]:
    """Return the folders of all environments of this name, for current and older declarations."""
    candidates = home().glob(f"{name}-{'[0-9a-f]' * 12}")
    return sorted(path for path in candidates if path.is_dir())


def find_python(version: str) -> Path:
    """Return a Python interpreter of a version: the current one, one on the PATH, or one of pyenv.

    Parameters
    ----------
    version
        Major and minor version, such as ``"3.11"``.

    Raises
    ------
    UserError
        If there is no such interpreter.
    """
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    named = [shutil.which(name) for name in (f"python{version}", "python3")]
    for candidate in [sys.executable, *named, *pyenv]:
        if candidate and _version_of(candidate) == version:
            return Path(candidate)
    raise UserError(
        f"No Python {version} was found: neither this one ({sys.executable}), nor python{version} or python3 "
        "on the PATH, nor in ~/.pyenv/versions. Install it, or install uv, which downloads it."
    )


def _version_of(python: Path | str) -> str:
    """Return major and minor version; empty if it does not run, such as a pyenv shim without its Python."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else ""


def _default_installer() -> Installer:
    return "uv" if shutil.which("uv") else "pip"


def _build(
    declaration: Declaration,
    packages: PythonPackages,
    installer: Installer,
    *,
    log: Path,
    say: Callable[[str], None],
) -> None:
    folder = place(declaration)
    steps = {"uv": _uv_steps, "pip": _pip_steps}[installer]
    for title, command in steps(packages, folder, _requirements(declaration, folder)):
        say(f"{declaration.name}: {title} (log: {log})")
        _run(command, log=log, doing=f"{declaration.name}: {title}")
    facts = _run(
        [str(python_in(folder)), "-I", "-c", _FACTS],
        log=log,
        doing=f"{declaration.name}: looking for numpy and h5py, which every environment needs",
    )
    described = {
        **json.loads(facts.splitlines()[-1]),
        "digest": declaration.digest,
        "installer": installer,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text_atomically(folder / MARKER, json.dumps(described, indent=1) + "\n")


def _requirements(declaration: Declaration, folder: Path) -> Path:
    """Write the packages to install to a requirements file beside the environment."""
    assert declaration.python is not None  # checked by the caller
    lines = declaration.lock_lines or declaration.python.requirements
    path = folder.with_name(f"{folder.name}.log").with_suffix(".txt")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _pip_steps(packages: PythonPackages, folder: Path, file: Path) -> Iterator[tuple[str, list[str]]]:
    python = find_python(packages.version)
    venv = [str(python), "-m", "venv", str(folder)]
    pip = [str(python_in(folder)), "-I", "-m", "pip"]
    if str(python) == sys.executable and importlib.util.find_spec("pip"):
        # The current pip is newer than the one bundled with venv, and no second copy is needed.
        venv.append("--without-pip")
        # -P: no pip of the working folder.
        pip = [sys.executable, "-P", "-m", "pip", "--python", str(python_in(folder))]
    yield f"a venv with Python {packages.version}", venv
    pip += ["--disable-pip-version-check", "--no-input"]
    yield "installing packages with pip", [*pip, "install", *_no_deps(packages), "-r", str(file)]
    yield "checking that no package is missing", [*pip, "check"]


def _no_deps(packages: PythonPackages) -> list[str]:
    """Install only the packages of a lock, unless it is declared to leave some to be resolved.

    The step ``check`` verifies that none is missing.
    """
    return ["--no-deps"] if packages.lock and not packages.resolve else []


def _uv_steps(packages: PythonPackages, folder: Path, file: Path) -> Iterator[tuple[str, list[str]]]:
    yield f"a venv with Python {packages.version}", ["uv", "venv", "--python", packages.version, str(folder)]
    python = ["--python", str(python_in(folder))]
    yield (
        "installing packages with uv",
        ["uv", "pip", "install", *python, *_no_deps(packages), "-r", str(file)],
    )
    yield "checking that no package is missing", ["uv", "pip", "check", *python]


def _run(command: Sequence[str], *, log: Path, doing: str) -> str:
    """Run a step, append its output to the log, and return the output."""
    with log.open("a+b") as file:  # written directly, so that users can follow the log
        file.write(f"$ {' '.join(command)}\n".encode())
        file.flush()
        start = file.tell()
        # What PYTHONPATH names would be taken for packages of the environment.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        code = _wait(
            subprocess.Popen(  # noqa: S603
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        )
        file.seek(start)
        printed = file.read().decode("utf-8", errors="replace")
    if code != 0:
        raise UserError(_failure(doing, printed, log))
    return printed


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a step; if interrupted, kill it with all its children, such as compilers."""
    try:
        return process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _failure(doing: str, printed: str, log: Path) -> str:
    last = "\n  ".join(printed.strip().splitlines()[-LAST_LINES:])
    hint = ""
    if any(sign in printed for sign in _NO_NETWORK):
        hint = "\nThe package index could not be reached: creating an environment needs a network once."
    return f"{doing} failed. Its last lines (full output in {log}):\n  {last}{hint}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Prevent other processes from building or removing the same environment at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
