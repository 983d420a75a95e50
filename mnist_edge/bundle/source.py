"""A user's own architecture: where its class is, and what it is built with. The code itself is run elsewhere."""

import math
import re
from collections.abc import Iterable
from enum import StrEnum
from keyword import iskeyword
from typing import Annotated, Final

from msgspec import Meta, Struct, UnsetType

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.contract import Name, Output
from mnist_edge.errors import UsageError
from mnist_edge.names import is_unicode

_LARGEST: Final = 2**63 - 1
"""JSON readers agree on integers up to this one."""

Place = Annotated[str, Meta(max_length=5000)]
"""Linux allows paths of 4,096 bytes."""

Argument = bool | Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)] | float | Place


class InputForm(StrEnum):
    """The shape in which a network takes its images."""

    IMAGE = "image"
    """float32 [N, 1, 28, 28]."""

    FLAT = "flat"
    """float32 [N, 784]."""


class Ending(StrEnum):
    """What a network returns, and how that becomes the output of its exported files."""

    LOGITS = "logits"

    LOG_SOFTMAX = "log-softmax"
    """Log-probabilities: exported as they are."""

    SOFTMAX = "softmax"
    """Probabilities from a softmax, which is left out."""

    PROBABILITIES = "probabilities"
    """Probabilities made in another way: exported as their logarithms."""

    @property
    def output(self) -> Output:
        """What the exported files return."""
        return Output.LOGITS if self in (Ending.LOGITS, Ending.SOFTMAX) else Output.LOG_SOFTMAX


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """A class, or a function, that builds a network: enough to build the same one again."""

    place: Place
    """``FILE.py:CLASS`` with an absolute path, or ``package.module:CLASS``; empty for a module in memory."""

    arguments: Annotated[dict[Name, Argument], Meta(max_length=100)]
    """Keyword arguments of the class; the number of labels, if it takes that, is not among them."""

    sha256: Annotated[str, Meta(max_length=64)]
    """Of the file at `place`, in hex; empty for a module in memory. What that file imports in turn is not covered."""

    input: InputForm = InputForm.IMAGE

    def __post_init__(self) -> None:
        if self.place:
            split_place(self.place)

    @property
    def name(self) -> str:
        """The class, without its place."""
        return split_place(self.place)[1]


def name_of(architecture: Architecture | Source) -> str:
    """The architecture's name; of a user's class, its own."""
    return architecture.name if isinstance(architecture, Source) else architecture.value


def form_of(architecture: Architecture | Source | UnsetType) -> InputForm:
    """What the module takes; ours take images."""
    return architecture.input if isinstance(architecture, Source) else InputForm.IMAGE


def folder_name(name: str) -> str:
    """The name of a class as that of a folder.

    >>> [folder_name(name) for name in ("SimpleNN", "LeNet5", "MLPMixer", "my_net")]
    ['simple-nn', 'le-net5', 'mlp-mixer', 'my-net']
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).replace("_", "-").lower()


def is_source(text: str) -> bool:
    r"""Whether a model's name is meant as ``FILE.py:CLASS`` or ``package.module:CLASS``, well-formed or not.

    >>> [is_source(text) for text in ("cnn", "net.py:Net", "nets.small:Net", r"C:\net.py", r"C:\net.py:Net")]
    [False, True, True, False, True]
    """
    _, colon, name = text.rpartition(":")
    return bool(colon) and "/" not in name and "\\" not in name


def split_place(place: str) -> tuple[str, str]:
    """Split ``FILE.py:CLASS`` or ``package.module:CLASS`` into the file or module, and the class.

    Raises:
        UsageError: it is neither.
    """
    where, _, name = place.rpartition(":")
    if not is_unicode(place):
        raise UsageError(f"{place!a:.200}: is not UTF-8: rename the file or its folder")
    if not where or not name.isidentifier() or iskeyword(name):
        raise UsageError(f"{place!r:.200}: name a file and its class, such as  net.py:Net")
    if not is_file(where) and not all(part.isidentifier() for part in where.split(".")):
        raise UsageError(
            f"{place!r:.200}: neither a .py file nor a module: write  net.py:{name}  or  package.net:{name}"
        )
    return where, name


def is_file(where: str) -> bool:
    """Whether the first part of a place is a file, not a module."""
    return where.endswith(".py") or "/" in where or "\\" in where


def parse_arguments(items: Iterable[str]) -> dict[str, Argument]:
    """Parse ``name=value`` items. Values are integers, finite decimals, ``true`` or ``false``, and otherwise text.

    >>> parse_arguments(["width=32", "dropout=0.5", "bias=false", "activation=relu"])
    {'width': 32, 'dropout': 0.5, 'bias': False, 'activation': 'relu'}

    Raises:
        UsageError: an item is not of that form, repeats a name, or holds an integer beyond 64 bits.
    """
    arguments: dict[str, Argument] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier() or iskeyword(name):
            raise UsageError(f"model argument {item!r:.80}: write  name=value,  such as  width=32")
        if name in arguments:
            raise UsageError(f"model argument {item!r:.80}: {name} is given twice: leave one out")
        if not is_unicode(value):
            raise UsageError(f"model argument {item!a:.80}: is not UTF-8: give other text")
        arguments[name] = _parsed(value)
        if isinstance(arguments[name], int) and abs(int(arguments[name])) > _LARGEST:
            raise UsageError(f"model argument {item!r:.80}: larger than {_LARGEST}: give a smaller number")
    return arguments


def _parsed(value: str) -> Argument:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for number in (int, float):
        try:
            parsed = number(value)
        except ValueError:
            continue
        if math.isfinite(parsed):
            return parsed
    return value
