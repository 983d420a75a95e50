"""How a user's module ends, in logits or in probabilities, and how either becomes the output of its exported files.

A softmax at the end is left out: without it, logits keep differences between improbable classes that a probability in
float32 has lost, and the cross-entropy of a training is the one that was meant. Probabilities made in another way
become their logarithms.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.source import Ending, InputForm, Source
from mnist_edge.errors import ModelFormatError
from mnist_edge.training.models import build
from mnist_edge.training.probing import probe

FLOOR: Final = 1e-30
"""Smallest probability of which the logarithm is taken. Below it float32 rounds coarsely."""

CLOSE: Final = 1e-3
"""How far probabilities of one image may be from a sum of 1, for half precision's sake."""

SAME: Final = 1e-6
"""How far a softmax in float32 may be from one in float64."""

REBUILT_WITH: Final = 2**31
"""A seed that nobody else takes, for `require_same_when_rebuilt`."""

_SOFTMAXES: Final = {torch.softmax, torch.special.softmax, functional.softmax, Tensor.softmax}


def to_logits(model: nn.Module, form: InputForm, ending: Ending, images: Tensor) -> Tensor:
    """Run a module and return its logits or, as its ending has it, its log-probabilities.

    Args:
        model: returns what its ending says, [N, classes].
        form: what it takes.
        ending: found by `examine`.
        images: normalised, [N, 1, 28, 28].
    """
    images = given_as(form, images)
    if ending is Ending.SOFTMAX:
        with _Watch() as watch:
            probabilities = model(images)
        output: Tensor = watch.inputs[id(probabilities)]
    else:
        output = model(images)
    if output.dtype != images.dtype:
        output = output.to(images.dtype)
    return output.clamp_min(FLOOR).log() if ending is Ending.PROBABILITIES else output


def given_as(form: InputForm, images: Tensor) -> Tensor:
    """Images, [N, 1, 28, 28], in the form that a module takes."""
    return images.flatten(1) if form is InputForm.FLAT else images


def examine(model: nn.Module, form: InputForm, images: Tensor, classes: int) -> Ending:
    """Check that a user's module can be exported, and find out what it returns.

    Args:
        model: is left in evaluation mode.
        form: what it takes.
        images: normalised, [N, 1, 28, 28], and not all alike.
        classes: the number of labels.

    Raises:
        MnistEdgeError: as `mnist_edge.training.probing.probe` does.
    """
    given = given_as(form, images)
    probe(model, given, classes)
    with torch.no_grad(), _Watch() as watch:
        output = model(given)
    exact = output.double()
    if torch.allclose(exact.logsumexp(dim=1), torch.zeros(len(exact), dtype=torch.float64), atol=CLOSE):
        return Ending.LOG_SOFTMAX
    if bool((exact >= 0).all()) and torch.allclose(exact.sum(dim=1), exact.new_ones(len(exact)), atol=CLOSE):
        before = watch.inputs.get(id(output))
        # The softmax's output may have been changed in place since.
        is_last = before is not None and torch.allclose(before.double().softmax(dim=1), exact, atol=SAME)
        return Ending.SOFTMAX if is_last else Ending.PROBABILITIES
    return Ending.LOGITS


def require_same_when_rebuilt(
    architecture: Architecture | Source, model: nn.Module, form: InputForm, images: Tensor, classes: int
) -> None:
    """Check that a module's state_dict is all that makes its answers.

    Args:
        architecture: builds the module again.
        model: in evaluation mode, on the CPU.
        form: what it takes.
        images: normalised, [N, 1, 28, 28].
        classes: the number of labels.

    Raises:
        ModelFormatError: a second module answers differently with the same state_dict.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(REBUILT_WITH)
        other = build(architecture, classes).eval()
        other.load_state_dict(model.state_dict())
        answers, expected = other(given_as(form, images)).float(), model(given_as(form, images)).float()
    if not torch.allclose(answers, expected, rtol=CLOSE, atol=CLOSE):
        raise ModelFormatError(
            "the network answers differently when it is built again with the same weights: register what it draws or "
            "computes with self.register_buffer(…), so that its state_dict holds it"
        )


class _Watch(TorchFunctionMode):
    """Records the input of every softmax, by the identity of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[int, Tensor] = {}
        self._outputs: list[Tensor] = []  # kept alive, so that no identity occurs twice

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **kwargs or {})
        if function in _SOFTMAXES:
            self._outputs.append(output)
            self.inputs[id(output)] = args[0] if args else (kwargs or {})["input"]
        return output
