"""Export a module that is in memory."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec import UNSET
from torch import nn

from mnist_edge.bundle.layout import Format, format_named
from mnist_edge.bundle.records import Manifest
from mnist_edge.bundle.source import InputForm, Source
from mnist_edge.contract import Normalization
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import ModelFormatError, UsageError
from mnist_edge.export import pipeline
from mnist_edge.export.importing import examined, relabelled, write
from mnist_edge.training.checks import check_folder
from mnist_edge.training.user_code import described


def export_module(
    module: nn.Module,
    folder: str | os.PathLike[str],
    *,
    data: Dataset,
    normalization: Normalization | None = None,
    labels: Sequence[str] | None = None,
    form: InputForm = InputForm.IMAGE,
    formats: Sequence[Format] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Export a module that is in memory, and prove every file. ``docs/own-models.md`` has an example that runs.

    The module is copied, never changed. A later ``mnist-edge verify`` needs its class: ``--model FILE.py:CLASS``.

    Args:
        module: takes float32 [N, 1, 28, 28] or [N, 784] and returns logits or probabilities, [N, classes].
        folder: the bundle.
        data: what the module was trained for; see `import_weights`.
        normalization: one of `mnist_edge.contract.NORMALIZATIONS` or another; None to find it.
        labels: the class names, in the order of the module's outputs; None for those of the data.
        form: which of the two shapes the module takes.
        formats: which files to make; None for all but c that can be made.
        overwrite: whether to replace an existing bundle.

    Returns:
        The manifest.

    Raises:
        MnistEdgeError: as `import_weights` and `mnist_edge.export.pipeline.export` do.
    """
    folder = Path(folder)
    wanted = None if formats is None else [format_named(form) for form in formats]
    if wanted == [] or not isinstance(module, nn.Module):
        raise UsageError("nothing to export: give an nn.Module, and at least one format or None for all")
    check_folder(folder, overwrite=overwrite)
    data = relabelled(data, labels)
    model = _copied(module)
    name = type(module).__name__
    source = Source(place="", arguments={}, sha256="", input=form)
    record, _, _ = examined(model, name, source, UNSET, data, normalization)
    write(folder, model, record, overwrite=overwrite)
    return pipeline.export(folder, data, wanted, model=model)


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).cpu().float().eval()
    except (RuntimeError, TypeError) as error:  # it holds computed tensors, as weight_norm leaves them
        raise ModelFormatError(
            f"the module cannot be copied ({described(error)}): save its state_dict, and import that"
        ) from error
