"""The command-line application: its commands, and how they report failures with ``--json``."""

import contextlib
import functools
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from mnist_edge import __version__
from mnist_edge.cli import device, evaluate, export, train
from mnist_edge.cli.display import print_json
from mnist_edge.cli.failures import Failed, explain
from mnist_edge.cli.output import say

COMMANDS: Final = (
    train.train,
    export.export,
    export.verify,
    evaluate.evaluate,
    device.predict,
    device.read,
    device.info,
    device.selftest,
    device.doctor,
)

LINES: Final = (device.predict, device.read)
"""Commands whose ``--json`` prints one line per item, not one document."""

app = typer.Typer(
    help="Train small image classifiers, export them, prove that the exported files answer as PyTorch does, and run "
    "them without torch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help appears in half the time
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"mnist-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def telling_failures(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that with ``--json`` it prints a document even when it fails.

    The document is ``{"error": "…", "exit_code": N}``, plus the facts of a `Failed`. An interruption counts as a
    failure. For `predict` and `read` the document is one more line after those already printed. stderr and the exit
    code are left to `main`.
    """

    @functools.wraps(command)
    def run(*, json: bool, **options: Any) -> None:
        try:
            command(json=json, **options)
        except BaseException as error:
            if json and (explained := explain(error)):
                words, code = explained
                facts = error.facts if isinstance(error, Failed) else {}
                with contextlib.suppress(OSError):  # stdout may be what failed
                    print_json(
                        {"error": " ".join(words.split()), "exit_code": code, **facts},
                        indent=None if command in LINES else 2,
                    )
            raise

    return run


for command in COMMANDS:
    app.command()(telling_failures(command))


@app.command("help")
def show_help(
    context: typer.Context,
    command: Annotated[str | None, typer.Argument(help="The command.  [default: all of them]")] = None,
) -> None:
    """Show the help of a command."""
    root = context.parent
    assert root is not None
    group = root.command
    assert isinstance(group, TyperGroup)
    if command is None:
        say(root.get_help())
        return
    name, found, _ = group.resolve_command(root, [command])  # ends the process if there is none
    assert found is not None
    with found.make_context(name, [], parent=root, resilient_parsing=True) as its:
        say(its.get_help())
