"""Declare that a function returns a data set: the plug-in interface for data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cellular_bench.core.types import DatasetSpec
from cellular_bench.datasets.names import check_name

if TYPE_CHECKING:
    from anndata import AnnData

_Function = TypeVar("_Function", bound="Callable[[], AnnData]")


def dataset(
    *,
    dataset_id: str,
    title: str,
    label_key: str | None = None,
    batch_key: str | None = None,
    **facts: Any,
) -> Callable[[_Function], _Function]:
    """Declare that a function returns a data set; the file is then a plug-in (``--plugin FILE``).

    The function is called when the data are needed, and its result is validated like every other data set
    (``docs/data-contract.md``). The decorator returns the function unchanged, with its description as
    ``spec``.

    Parameters
    ----------
    dataset_id
        Lower-case name in records and tables.
    title
        Name for readers.
    label_key, batch_key
        Columns of ``obs``; None for data without labels, or without batches.
    **facts
        Other fields of :class:`~cellular_bench.core.types.DatasetSpec`, such as ``organism``, ``doi``
        and ``counts_layer`` (by default decided by the values).

    Raises
    ------
    UserError
        If the name contains other characters than lower-case letters, digits and underscores.

    Examples
    --------
    >>> from cellular_bench.datasets import catalog
    >>> from cellular_bench.datasets.simulator import simulate
    >>> @dataset(dataset_id="mine", title="Mine", label_key="label", batch_key="batch")
    ... def mine():
    ...     return simulate(n_obs=100, n_vars=50)
    >>> catalog.load(mine.spec).adata.shape
    (100, 50)
    """
    check_name(dataset_id)

    def declare(function: _Function) -> _Function:
        attributes: Any = function
        attributes.spec = DatasetSpec(
            dataset_id=dataset_id,
            title=title,
            source={"kind": "function", "function": function},
            label_key=label_key,
            batch_key=batch_key,
            **{"counts_layer": None, **facts},
        )
        return function

    return declare
