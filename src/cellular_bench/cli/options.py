"""Options and parsers that several commands share."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from cellular_bench.core.errors import UserError
from cellular_bench.core.names import listed
from cellular_bench.core.types import ProfileName

if TYPE_CHECKING:
    pass

F = TypeVar("F", bound=Callable[..., Any])


#: Keys of ``datasets.preparation.recipes.RECIPES``, named here so that ``--help`` loads no numpy.
RECIPE_NAMES = ("study", "study_annotated", "scanpy", "none")
RECIPE_HELP = (
    "Filters and normalisation: of the CELLULAR study, the same without its filter of cells, of scanpy's "
    "introduction, or no filter."
)


FIGURES_HELP = "Draw UMAPs, curves, confusion matrices and training."


class NameList(click.ParamType):  # type: ignore[type-arg]  # generic only in the stubs
    """Names separated by commas; one that holds a comma, or begins or ends with a space, in double quotes."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split the text; a tuple passes."""
        if isinstance(value, tuple):
            return value
        try:
            names = listed(str(value))
        except csv.Error as error:
            self.fail(f"'{value}' is not a list of names: {error}.", param, ctx)
        if not names:  # as good as not given: everything would run
            self.fail(f"'{value}' names nothing.", param, ctx)
        return names


class DataNames(NameList):
    """Names of the data, checked as a list but not split: only the data show which names contain commas."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        super().convert(value, param, ctx)
        return value


class IntList(NameList):
    """Whole numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split the text and read each number."""
        try:
            return tuple(int(part) for part in super().convert(value, param, ctx))
        except ValueError:
            self.fail(f"'{value}' is not a list of whole numbers, such as 0,1,2.", param, ctx)


class PositiveNumber(click.ParamType):  # type: ignore[type-arg]  # generic only in the stubs
    """A finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number; a range of click's would let NaN pass."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            self.fail(f"'{value}' is not a number above 0.", param, ctx)
        return number


def read_by(reader: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return the callback of an option whose text a function reads."""
    return lambda ctx, param, value: reader(value)


def names_of(
    known: Callable[[], Iterable[str]],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes the last of several names in a shell."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in known() if name.startswith(last)]

    return complete


EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

plugin_option = click.option(
    "--plugin",
    "plugins",
    type=EXISTING_FILE,
    multiple=True,
    help="Python file with methods, metrics, data sets or tasks of your own; may be repeated.",
)
param_option = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="METHOD.NAME=VALUE",
    callback=read_by(lambda texts: parse_params(texts)),
    help="Parameter of a method.",
)
format_option = click.option(
    "--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
adata_option = click.option("--adata", type=click.Path(path_type=Path), help="Your own h5ad file.")
batch_key_option = click.option("--batch-key", help="Column of obs that holds the batches of your cells.")
label_key_option = click.option("--label-key", help="Column of obs that holds the cell types of your cells.")
label_keys_option = click.option(
    "--label-key",
    multiple=True,
    help="Column of obs that holds the cell types of your cells. Methods that learn see the first; each "
    "further one (repeat the option) is another labelling, under which integration is scored too. Without "
    "any, integration is ranked without labels.",
)
cluster_labels_option = click.option(
    "--cluster-labels",
    is_flag=True,
    help="Score integration also under labels that are made: clusters within each batch.",
)
counts_layer_option = click.option(
    "--counts-layer", help="Layer that holds raw counts, or X. Found by itself where possible."
)

keep_option = click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Column of obs with a condition, such as a treatment, that integration must keep. No method sees "
    "it; may be repeated.",
)
donor_key_option = click.option(
    "--donor-key",
    help="Column of obs that holds the donors by which conditions are scored.  [default: the batches]",
)


def min_cells_option(default: int | None, shown: str) -> Callable[[F], F]:
    """Return the option of how many cells are too few."""
    return click.option(
        "--min-cells",
        type=click.IntRange(min=1),
        default=default,
        help="Least number of cells of a scored split, and of a batch in metrics that read batches, where "
        f"others are larger; 1: any.  [default: {shown}]",
    )


def profile_option(default: ProfileName | None, shown: str) -> Callable[[F], F]:
    """Return the option of how exact scores are to be."""
    return click.option(
        "--profile",
        type=click.Choice(get_args(ProfileName)),
        default=default,
        help="How exact scores are: fast and standard approximate where cells are very many.  "
        f"[default: {shown}]",
    )


def weights_option(shown: str) -> Callable[[F], F]:
    """Return the option of the weights of aspects."""
    from cellular_bench.benchmark.schema.weights import read_weights

    return click.option(
        "--weights",
        metavar="RULE|ASPECT=W,...",
        callback=read_by(lambda text: None if text is None else read_weights(text)),
        help="How aspects make the overall score: a rule such as scib, or weights that add up to 1, such as "
        f"batch_correction=0.3,bio_conservation=0.4,structure=0.3.  [default: {shown}]",
    )


def names_option(flag: str, field: str, known: Callable[[], Iterable[str]]) -> Callable[[F], F]:
    """Return a repeatable option of names that take the place of the suite's."""
    return click.option(
        flag,
        field,
        type=NameList(),
        multiple=True,
        callback=read_by(lambda groups: tuple(chain.from_iterable(groups))),
        shell_complete=names_of(known),
        help="Instead of the suite's.",
    )


def parse_params(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``METHOD.NAME=VALUE`` texts; values are JSON, or plain text where they are not.

    Raises
    ------
    UserError
        If a text has another form.

    Examples
    --------
    >>> parse_params(["knn.n_neighbors=5", "cellular.preset=paper"])
    {'knn': {'n_neighbors': 5}, 'cellular': {'preset': 'paper'}}
    """
    params: dict[str, dict[str, Any]] = defaultdict(dict)
    for text in texts:
        target, equals, value = text.partition("=")
        method_id, dot, name = target.partition(".")
        if not (equals and dot and method_id and name):
            raise UserError(f"--param '{text}' is not of the form METHOD.NAME=VALUE.")
        params[method_id][name] = _value(value)
    return dict(params)


def parse_embeddings(texts: Sequence[str]) -> dict[str, str]:
    """Read ``MODEL=FILE`` texts.

    Raises
    ------
    UserError
        If a text has another form, or a model is named twice.

    Examples
    --------
    >>> parse_embeddings(["scgpt=scgpt.npz", "mine@2024-03=mine.h5ad"])
    {'scgpt': 'scgpt.npz', 'mine@2024-03': 'mine.h5ad'}
    """
    files: dict[str, str] = {}
    for text in texts:
        model, equals, file = text.partition("=")
        if not (equals and model and file):
            raise UserError(f"--embedding '{text}' is not of the form MODEL=FILE.")
        if model in files:
            raise UserError(f"--embedding names '{model}' twice; give each file a name.")
        files[model] = file
    return files


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
