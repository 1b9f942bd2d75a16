"""Packages with an exact version, the only ones that a file may ask for."""

from __future__ import annotations

from cellular_bench.core.errors import UserError


def exact_name(line: str) -> str:
    """Return the name of the package in a line ``NAME==VERSION``; extras and markers may be in it.

    An address, a path, an option, a range or a wildcard is refused: pip would fetch and build whatever they
    name.

    Raises
    ------
    UserError
        If the line is anything else.

    Examples
    --------
    >>> exact_name('numpy==2.4.6; python_version >= "3.11"'), exact_name("celltypist[plots]==1.7.1")
    ('numpy', 'celltypist')
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version

    problem = f"'{line}' does not pin an exact version; write NAME==VERSION."
    if not line.isprintable():  # two lines would be two requirements
        raise UserError(problem)
    try:
        requirement = Requirement(line)
        (version,) = requirement.specifier
        Version(version.version)
    except (InvalidRequirement, InvalidVersion, ValueError, RecursionError) as error:
        raise UserError(problem) from error
    # In a file of requirements, pip reads options out of what follows a space and a dash.
    if version.operator != "==" or requirement.url or " -" in line:
        raise UserError(problem)
    return requirement.name
