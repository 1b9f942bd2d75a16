"""Versions of installed packages."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version

DISTRIBUTION = "cellular-bench"
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
