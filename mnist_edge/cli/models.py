"""The --model that may be one of our architectures or a user's own class."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_edge.bundle.recipe import Architecture, architecture_named
from mnist_edge.bundle.source import Argument, InputForm, Source, folder_name, is_source, parse_arguments, split_place
from mnist_edge.errors import UsageError


@dataclass(frozen=True)
class ChosenModel:
    """What --model, --model-args and --input name. Nothing is loaded yet."""

    text: str

    architecture: Architecture | None
    """None for a user's own class."""

    arguments: dict[str, Argument]
    form: InputForm

    @property
    def folder_name(self) -> str:
        """The name of its bundle, unless the user gives another."""
        return self.architecture or folder_name(split_place(self.text)[1])

    def located(self) -> Architecture | Source:
        """The architecture, or where the user's class is. Needs torch. Raises as `mnist_edge.training.sources.find`."""
        if self.architecture is not None:
            return self.architecture
        from mnist_edge.training import sources

        return sources.find(self.text, self.arguments, self.form)


def chosen_model(text: str, arguments: Sequence[str] | None, form: InputForm | None) -> ChosenModel:
    """Take --model, --model-args and --input together. Raises UsageError if they do not make sense."""
    if is_source(text):
        split_place(text)
        return ChosenModel(text, None, parse_arguments(arguments or ()), form or InputForm.IMAGE)
    if text.endswith(".py"):
        raise UsageError(f"{text}: name the class in it, too, as  {text}:Net")
    if arguments or form:
        raise UsageError(f"--model-args and --input are for a class of your own: leave them out with --model {text}")
    return ChosenModel(text, architecture_named(text), {}, InputForm.IMAGE)


def own_model(text: str | None, arguments: Sequence[str] | None) -> ChosenModel | None:
    """A user's class that --model names, and its --model-args; None without --model. Raises as `chosen_model`."""
    if text is None:
        if arguments:
            raise UsageError("--model-args is for a class of your own: name it with --model")
        return None
    if not is_source(text):
        raise UsageError(f"{text!r:.200} is no class of your own: write  FILE.py:CLASS,  or leave out --model")
    return chosen_model(text, arguments, None)
