"""The command-line application: its commands, and what they have in common."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from mnist_edge import __version__
from mnist_edge.cli import answers, bench, device, evaluate, export, imports, info, report, train
from mnist_edge.cli.display import print_json
from mnist_edge.cli.failures import NOTHING_CHANGED, Failed, explain, if_interrupted
from mnist_edge.cli.hints import Command, Commands
from mnist_edge.cli.options import Quiet, Verbose
from mnist_edge.cli.output import Loudness, say, set_loudness
from mnist_edge.errors import UsageError

COMMANDS: Final = (
    train.train,
    imports.import_weights,
    export.export,
    export.verify,
    evaluate.evaluate,
    report.report,
    device.predict,
    device.read,
    info.info,
    bench.bench,
    device.selftest,
    device.doctor,
)

LINES: Final = (device.predict, device.read)
"""Commands whose ``--json`` prints one line per item, not one document."""

EXAMPLES: Final = """\b
Examples:
  mnist-edge predict photo.jpg              classify a picture of a digit
  mnist-edge read meter.jpg                 read several digits in one picture
  mnist-edge train && mnist-edge export     train a model and export it
  mnist-edge evaluate cnn --mistakes bad/   save the images that it gets wrong
"""

EPILOGS: Final = {train.train: train.ARCHITECTURES, device.predict: answers.HELP}
"""What stands below the options in the help of a command."""

app = typer.Typer(
    cls=Commands,
    epilog=EXAMPLES,
    help="Train small image classifiers, export them, prove that the exported files answer as PyTorch does, and run "
    "them without torch.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: what all commands have in common.

    The command also takes --quiet and --verbose, and says what holds after an interruption. With ``--json`` it prints
    a document even when it fails, ``{"error": "…", "exit_code": N}`` plus the facts of a `Failed`. For `predict` and
    `read` the document is one more line after those already printed. stderr and the exit code are left to `main`.
    """

    @functools.wraps(function)
    def run(*, quiet: bool, verbose: bool, **options: Any) -> None:
        try:
            set_loudness(_loudness(quiet=quiet, verbose=verbose))
            with if_interrupted(lambda: NOTHING_CHANGED):
                function(**options)
        except BaseException as error:
            if options.get("json") and (explained := explain(error)):
                words, code = explained
                facts = error.facts if isinstance(error, Failed) else {}
                with contextlib.suppress(OSError):  # stdout may be what failed
                    print_json(
                        {"error": " ".join(words.split()), "exit_code": code, **facts},
                        indent=None if function in LINES else 2,
                    )
            raise

    own, common = inspect.signature(function), inspect.signature(_loudness).parameters.values()
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *common])  # type: ignore[attr-defined]  # inspect reads it
    run.__annotations__ = function.__annotations__ | {each.name: each.annotation for each in common}
    return run


def _loudness(*, quiet: Quiet = False, verbose: Verbose = False) -> Loudness:
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other: give one of them")
    return Loudness.QUIET if quiet else Loudness.VERBOSE if verbose else Loudness.NORMAL


def command_name(function: Callable[..., None]) -> str:
    """The name under which a function is a command."""
    return function.__name__.removesuffix("_weights")  # "import" is no name for a function


def _commands() -> list[str]:
    return [command_name(function) for function in COMMANDS]


def show_help(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Argument(autocompletion=_commands, help="The command.  [default: all of them]")
    ] = None,
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


for command in COMMANDS:
    app.command(command_name(command), cls=Command, epilog=EPILOGS.get(command))(as_command(command))
app.command("help")(as_command(show_help))
