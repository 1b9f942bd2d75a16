"""Versions of installed packages."""

from __future__ import annotations

import csv
import functools
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

DISTRIBUTION = "cellular-bench"
#: The file with the exact versions that were tested with this Python.
CONSTRAINTS = "constraints.txt" if sys.version_info < (3, 12) else "constraints-latest.txt"
#: The oldest and the newest minor version that was tested, of Python and of each package that is needed.
TESTED = Path(__file__).with_name("tested.csv")
#: Packages that the numbers of every method pass through.
COMMON = ("anndata", "numpy", "scipy")
NOT_INSTALLED = "not installed"


def packages_of(modules: Sequence[str], distributions: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of the packages that a method's result depends on.

    These are the packages that hold the modules it requires, its own where it comes from one, and the
    three that every method's numbers pass through. What those depend on in turn is left out, so that an
    upgrade of something unrelated leaves earlier results valid.

    Parameters
    ----------
    modules
        Importable names, as in ``MethodSpec.requires``.
    distributions
        Names of packages, as in ``pip list``.

    Examples
    --------
    >>> sorted(packages_of(["sklearn"]))
    ['anndata', 'numpy', 'scikit-learn', 'scipy']
    """
    known = distributions_by_module()
    names = {known.get(module.partition(".")[0], [module])[0] for module in modules}
    return {name: version_of(name) for name in sorted({*COMMON, *distributions, *names})}


@functools.cache
def distributions_by_module() -> dict[str, list[str]]:
    """Return the names of the installed packages that hold each top-level module."""
    return {module: sorted(names) for module, names in packages_distributions().items()}


def version_of(distribution: str) -> str:
    """Return the version of a package, as in ``pip list``."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return NOT_INSTALLED


def untested() -> list[str]:
    """Return what is installed in a version older or newer than those that were tested, with these.

    Later releases of a minor version count as tested.
    """
    from packaging.version import Version

    found = []
    with TESTED.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name, oldest, newest = row["package"], row["oldest"], row["newest"]
            have = platform.python_version() if name == "python" else version_of(name)
            if have != NOT_INSTALLED and not Version(oldest) <= Version(_minor(have)) <= Version(newest):
                tested = oldest if oldest == newest else f"{oldest} to {newest}"
                found.append(f"{name} {have} (tested: {tested})")
    return found


def _minor(text: str) -> str:
    """Return major and minor version.

    Examples
    --------
    >>> _minor("1.17.2rc1"), _minor("26")
    ('1.17', '26.0')
    """
    from packaging.version import Version

    found = Version(text)
    return f"{found.major}.{found.minor}"
