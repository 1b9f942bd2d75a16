"""How much a command prints: ``--quiet``, ``--verbose`` and ``--log-file`` of every command."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellular_bench.core.errors import UserError
from cellular_bench.core.text import visible

if TYPE_CHECKING:
    from cellular_bench.progress import ConsoleProgress

#: Parent of the loggers of all our modules.
LOG = logging.getLogger("cellular_bench")
_QUIET = "cellular_bench.quiet"


class _Visible(logging.Formatter):
    """Writes lines that a terminal obeys nothing of."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        return visible(super().format(record))


_PLAIN, _DETAILED = _Visible(), _Visible("%(asctime)s %(levelname)s %(message)s")


def options() -> list[click.Option]:
    """Return the options, to be added to a command."""
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set_quiet,
            help="Print only errors and the requested output.",
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_set_verbose,
            help="Print each step, and where an error arose.",
        ),
        click.Option(
            ["--log-file"], type=click.Path(dir_okay=False, path_type=Path), expose_value=False,
            callback=_open_log, help="Append each step to this file, with the time.",
        ),
    ]  # fmt: skip


def add_options(command: click.Command) -> click.Command:
    """Give the options to a command and to those below it, once."""
    if not any("--log-file" in parameter.opts for parameter in command.params):
        command.params.extend(options())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_options(below)
    return command


def echo(text: object, *, err: bool = False) -> None:
    """Print a line, whatever it holds: a terminal obeys none of it."""
    click.echo(visible(str(text)), err=err)


def progress() -> ConsoleProgress:
    """Return the progress that is printed; with ``--quiet`` it shows warnings only."""
    from rich.console import Console

    from cellular_bench.progress import ConsoleProgress

    context = click.get_current_context(silent=True)
    return ConsoleProgress(Console(quiet=bool(context and context.meta.get(_QUIET))))


def _set_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        context.meta[_QUIET] = True
    _refuse_both(context)


def _set_verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_PLAIN)
        _add(context, handler)
        context.meta["cellular_bench.verbose"] = True
    _refuse_both(context)


def _refuse_both(context: click.Context) -> None:
    if context.meta.get(_QUIET) and context.meta.get("cellular_bench.verbose"):
        raise UserError("Give either --quiet or --verbose, not both.")


def _open_log(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    try:
        handler = logging.FileHandler(value, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--log-file {value} cannot be written: {error.strerror}.") from error
    handler.setFormatter(_DETAILED)
    _add(context, handler)
    LOG.info("run-benchmark %s", " ".join(sys.argv[1:]))


def _add(context: click.Context, handler: logging.Handler) -> None:
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)

    def remove() -> None:
        LOG.removeHandler(handler)
        handler.close()

    context.find_root().call_on_close(remove)
