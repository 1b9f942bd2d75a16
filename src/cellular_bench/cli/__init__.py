"""The command ``run-benchmark``. Heavy libraries are loaded by the commands that need them only."""

from __future__ import annotations

import importlib
import sys
from typing import Any, ClassVar

import click

from cellular_bench import __version__
from cellular_bench.cli import messages
from cellular_bench.core.errors import BenchError, UnknownNameError
from cellular_bench.core.files import is_disk_error


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for, with "did you mean"."""

    #: Module and summary of each command, in the order of a first visit. Summaries stand here so that
    #: ``--help`` imports none of the modules.
    commands_in: ClassVar[dict[str, tuple[str, str]]] = {
        "run": ("run", "Run a suite and write its leaderboard."),
        "list": ("listing", "List methods, metrics, data sets or suites."),
        "datasets": ("datasets", "List, fetch, check and prepare data sets."),
        "env": ("environments", "Create, list and remove environments of methods."),
        "new": ("new", "Write a method, a metric or a data set to start from."),
        "check": ("check", "Check methods, metrics and data sets."),
        "status": ("status", "Show how far a benchmark is."),
        "report": ("report", "Write the leaderboard of result folders."),
        "merge": ("merge", "Copy the runs of several result folders into one."),
        "import": ("import_results", "Import results that others publish."),
        "compare": ("compare", "Compare the runs that two result folders share."),
        "reproduce": ("reproduce", "Run one record again and compare its scores."),
        "score": ("score", "Score predictions or embeddings made elsewhere."),
        "rescore": ("rescore", "Compute scores again from the kept outputs."),
        "export": ("export", "Export scores as a table, or cells with all outputs."),
        "doctor": ("doctor", "Check this machine, and say what it lacks."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands_in)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.commands_in.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.commands_in:
            return None
        module = importlib.import_module(f"cellular_bench.cli.{self.commands_in[cmd_name][0]}")
        return messages.add_options(module.command)

    def invoke(self, ctx: click.Context) -> Any:
        """Carry out a command; a log hears how it ended."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit as stop:
            messages.LOG.info("ended with code %s", stop.exit_code)
            raise
        except BaseException as error:
            messages.LOG.debug("ended by %s: %s", type(error).__name__, error, exc_info=True)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may have been meant."""
        if args[0] not in self.commands_in and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise UnknownNameError("command", args[0], self.commands_in)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  run-benchmark run
  run-benchmark run --adata my.h5ad --batch-key donor --label-key cell_type
  run-benchmark run --plugin my_method.py --task annotation
  run-benchmark list methods
  run-benchmark score --predictions predictions.csv""",
)
@click.version_option(__version__, prog_name="run-benchmark")
def group() -> None:
    """Benchmark single-cell integration, annotation and novelty detection."""


messages.add_options(group)


def main() -> None:
    """Run the command line; errors about the input end with exit code 2 and no traceback."""
    try:
        sys.exit(group.main(prog_name="run-benchmark", standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. What has a record is kept; run the same command again to go on.", err=True)
        sys.exit(130)
    except BenchError as error:
        messages.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if is_disk_error(error):
            where = f"{error.filename}: " if error.filename else ""
            messages.echo(f"Error: {where}{error.strerror}. Records written so far are intact.", err=True)
            sys.exit(1)
        if error.filename is None:  # not about a file of the user's: a defect, to be seen in full
            raise
        messages.echo(f"Error: {error.filename}: {error.strerror}.", err=True)
        sys.exit(1)
