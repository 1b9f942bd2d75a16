"""What the process of a method may use: its files, and folders that are the run's and begin empty."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cellular_bench.benchmark.isolation import sandbox
from cellular_bench.benchmark.isolation.sandbox import Isolation, Walls
from cellular_bench.core.files import CACHE_VARIABLE, cache_dir

#: Variables that name folders in which programs keep files from one run to the next.
SHARED: Final = (
    "HF_HOME",
    "HUGGINGFACE_HUB_CACHE",
    "JOBLIB_TEMP_FOLDER",
    "KERAS_HOME",
    "MPLCONFIGDIR",
    "NUMBA_CACHE_DIR",
    "PYTHONUSERBASE",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_HOME",
    "TRANSFORMERS_CACHE",
    "TRITON_CACHE_DIR",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What the process of a method may use.

    Attributes
    ----------
    kind
        Walls around the process; ``"process"``: none beyond those of the system.
    readable, writable
        Files and folders beside the installed programs and the run's own folders.
    hidden
        Folders that may not be read, wherever they are, but for ``readable`` and ``writable`` in them.
    variables
        Environment variables.
    weights
        Folders with pretrained weights. They are readable, and those in the user's home have their place
        in the run's home as well.
    """

    kind: Isolation
    readable: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    weights: Sequence[Path] = ()

    def enter(self, folder: Path) -> None:
        """Move this process to empty folders below ``folder``, and put up the walls.

        Raises
        ------
        OSError
            If that fails: nothing of the method may run then.
        """
        work, home, temporary = (folder / name for name in ("work", "home", "tmp"))
        user = Path.home()
        for path in (work, home, temporary):
            path.mkdir(parents=True)
        for path in self.weights:
            if path.is_relative_to(user):
                link = home / path.relative_to(user)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
        for name in SHARED:
            os.environ.pop(name, None)
        os.environ |= {
            **self.variables,
            CACHE_VARIABLE: str(cache_dir()),  # where environments are
            "HOME": str(home),
            **{name: str(temporary) for name in ("TMPDIR", "TMP", "TEMP", "XDG_RUNTIME_DIR")},
            **{
                f"XDG_{kind.upper()}_HOME": str(home / f".{kind}")
                for kind in ("cache", "config", "data", "state")
            },
        }
        os.chdir(work)
        tempfile.tempdir = str(temporary)
        sys.argv = sys.argv[:1]  # the command line may name labels that are held out
        if self.kind != "process":
            walls = Walls(
                readable=(*self.readable, *self.weights),
                writable=(*self.writable, folder),
                hidden=(*self.hidden, *_cells_of_scanpy()),
            )
            sandbox.enter(self.kind, walls)


def _cells_of_scanpy() -> Iterator[Path]:
    """Yield the files of cells that scanpy brings, which are those of data sets of the catalogue."""
    spec = importlib.util.find_spec("scanpy")
    for folder in spec.submodule_search_locations or () if spec else ():
        yield from Path(folder, "datasets").glob("*.h5ad")
