"""What the parser says about commands, options and arguments that do not exist, where it is clear what was meant."""

import itertools
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.cli.output import command
from mnist_edge.names import near

SYNONYMS: Final = {
    "classify": ("predict",),
    "infer": ("predict",),
    "test": ("evaluate", "selftest"),
    "convert": ("export",),
    "benchmark": ("info",),
}
"""What other tools call our commands."""


class Commands(TyperGroup):
    """The group of all commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name."""
        meant = SYNONYMS.get(args[0])
        if meant and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {', '.join(map(repr, meant))}?")
        return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's arguments."""
        hint = None if ctx.resilient_parsing else self._hint(args)
        if hint:
            ctx.fail(hint)
        return super().parse_args(ctx, args)

    def _hint(self, args: list[str]) -> str | None:
        name = str(self.name)
        names = {parameter.name for parameter in self.params}
        if "target" in names and "model" not in names:
            for option, value in itertools.pairwise([*args, "MODEL"]):
                if option == "--model" or option.startswith("--model="):
                    model = option.partition("=")[2] or value
                    return f"{name} takes the model as an argument:  {command(name, model)}"
        if name == "train" and args and not args[0].startswith("-"):
            meant = near(args[0], Architecture)
            instead = f"did you mean  {command(name, '--model', meant[0])}?" if meant else "see --model and --data"
            return f"train takes options only, no {args[0]!r}: {instead}"
        return None
