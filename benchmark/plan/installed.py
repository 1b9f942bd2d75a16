"""Where and with what a run was done."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import combinations

DISTRIBUTION = "cellular-bench"
#: Packages that the numbers of every method pass through.
COMMON = ("anndata", "numpy", "scipy")
NOT_INSTALLED = "not installed"
#: Modules of a method of which each may have been absent or not.
MOST_COMBINED = 4


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
    names = {*COMMON, *distributions, *(_distribution_of(module) for module in modules)}
    return {name: _version(name) for name in sorted(names)}


def packages_before(
    packages: Mapping[str, str], modules: Sequence[str], distributions: Sequence[str] = ()
) -> Iterator[dict[str, str]]:
    """Yield what :func:`packages_of` gave while one or more of the modules were not installed.

    Parameters
    ----------
    packages
        What it gives now.
    modules, distributions
        As there.

    Examples
    --------
    >>> now = packages_of(["sklearn"])
    >>> [before["sklearn"] for before in packages_before(now, ["sklearn"])]
    ['not installed']
    """
    always = {*COMMON, *distributions}
    holds = {module: _distribution_of(module) for module in dict.fromkeys(modules)}
    came = [name for name, dist in holds.items() if dist not in always and packages[dist] != NOT_INSTALLED]
    # All of them where they are many: there is no end of combinations.
    sizes = range(1, len(came) + 1) if len(came) <= MOST_COMBINED else (1, len(came))
    for absent in (set(group) for size in sizes for group in combinations(came, size)):
        kept = always | {dist for name, dist in holds.items() if name not in absent}
        yield {name: packages[name] for name in kept} | dict.fromkeys(absent, NOT_INSTALLED)


def _distribution_of(module: str) -> str:
    found = _distributions().get(module.partition(".")[0])
    return found[0] if found else module


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {module: sorted(names) for module, names in packages_distributions().items()}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return NOT_INSTALLED
