"""The deployable graph: raw pixels in, logits out, in evaluation mode, ready to be traced or exported."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mnist_edge.bundle.source import Ending, InputForm
from mnist_edge.contract import HEIGHT, WHITE, WIDTH, Normalization
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.endings import to_logits
from mnist_edge.training.models import arranged, normalize


class RawPixels(nn.Module):
    """The trained model preceded by its preprocessing, operation by operation as in training."""

    def __init__(
        self,
        model: nn.Module,
        normalization: Normalization,
        *,
        inverted: bool = False,
        transposed: bool = False,
        form: InputForm = InputForm.IMAGE,
        ending: Ending = Ending.LOGITS,
    ) -> None:
        super().__init__()
        self.model = model
        self.normalization, self.inverted, self.transposed = normalization, inverted, transposed
        self.form, self.ending = form, ending

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [N, 1, 28, 28] to logits [N, classes], in the model's own precision."""
        pixels = image.to(next(self.model.parameters()).dtype)
        pixels = arranged(pixels, inverted=self.inverted, transposed=self.transposed)
        return to_logits(self.model, self.form, self.ending, normalize(pixels, self.normalization))


def raw_pixels(trained: Trained) -> RawPixels:
    """A trained model that takes raw pixels, in evaluation mode."""
    contract = trained.contract
    module = RawPixels(
        trained.model,
        contract.normalization,
        inverted=contract.inverted,
        transposed=contract.transposed,
        form=trained.training.form,
        ending=trained.training.ending,
    )
    return module.eval()


class Folded(nn.Module):
    """A model whose first layer takes raw pixels: the preprocessing is folded into its weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """uint8 [N, 1, 28, 28] to float32 [N, classes]."""
        logits: Tensor = self.model(image.float())
        return logits


def fold(model: nn.Module, normalization: Normalization) -> nn.Module:
    """A module equal to `RawPixels` up to rounding, with batch normalisation and preprocessing folded into weights.

    In an `nn.Sequential`, batch normalisation is folded into the convolution before it, also across a max pool if all
    scales are positive. The preprocessing is folded into the first layer. Both are computed in float64. If the first
    layer is a convolution and the mean is not zero, the preprocessing stays an operation of its own: folding it would
    change the border, where the convolution pads with zeros.
    """
    folded = copy.deepcopy(model).double().eval()
    _fold_batch_norm(folded)
    first = _first_layer(folded)
    if isinstance(first, nn.Conv2d) and normalization.mean != 0:
        return RawPixels(folded.float(), normalization).eval()
    with torch.no_grad():
        scale = 1 / (WHITE * normalization.std)
        if normalization.mean != 0:
            shift = first.weight.flatten(1).sum(dim=1) * (normalization.mean / normalization.std)
            first.bias = nn.Parameter(-shift if first.bias is None else first.bias - shift)
        first.weight.mul_(scale)
    return Folded(folded.float()).eval()


def example(count: int = 2) -> Tensor:
    """Raw pixels to trace with, uint8 [count, 1, 28, 28]. With a single one, the batch axis would become a constant."""
    return torch.zeros(count, 1, HEIGHT, WIDTH, dtype=torch.uint8)


def _first_layer(model: nn.Module) -> nn.Linear | nn.Conv2d:
    # The first one called, which need not be the first one registered.
    called: list[nn.Linear | nn.Conv2d] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: called.append(layer))
        for layer in model.modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    ]
    with torch.no_grad():
        model(example().to(next(model.parameters()).dtype))
    for hook in hooks:
        hook.remove()
    return called[0]


def _fold_batch_norm(module: nn.Module) -> None:
    for child in module.children():
        _fold_batch_norm(child)
    if not isinstance(module, nn.Sequential):
        return
    for index, layer in enumerate(module):
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        # Scaling commutes with the maximum if no scale is negative.
        pooled = isinstance(module[index - 1], nn.MaxPool2d) and bool((layer.weight > 0).all())
        before = index - 2 if pooled else index - 1
        convolution = module[before]
        if before >= 0 and isinstance(convolution, nn.Conv2d):
            module[before], module[index] = fuse_conv_bn_eval(convolution, layer), nn.Identity()
