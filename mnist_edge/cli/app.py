"""The command line's commands, assembled in the order in which a model goes through them."""

from typing import Annotated, Final

import typer

from mnist_edge import __version__
from mnist_edge.cli import device, train, workshop

COMMANDS: Final = (
    train.train,
    workshop.export,
    workshop.verify,
    workshop.evaluate,
    device.predict,
    device.read,
    device.info,
    device.selftest,
    device.doctor,
)

app = typer.Typer(
    help="Train small image classifiers, export them, prove the exported files, run them without torch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is there in half the time
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"mnist-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for command in COMMANDS:
    app.command()(command)
