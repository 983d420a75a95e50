"""Fourteen faults, each planted into what people write with torch.onnx and onnxruntime, and into mnist-edge."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from compare_int8 import quantized_by_onnxruntime, quantized_statically_by_onnxruntime
from numpy.typing import NDArray
from torch import nn

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import BATCH_AXIS, DIGITS, INPUT_NAME, OPSET, OUTPUT_NAME, STANDARDIZED
from mnist_edge.data.datasets import Dataset
from mnist_edge.export import examples
from mnist_edge.export.graph import RawPixels, example, raw_pixels
from mnist_edge.export.parity import in_batches, run_module
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.model import DEFAULT_PRETRAINED, PRETRAINED, is_pretrained
from mnist_edge.training import checkpoint
from mnist_edge.training.checkpoint import Trained
from tests.export import faults
from tests.export.faults import InExport

NAMES = "names"
"""The metadata under which Ultralytics, among others, stores the labels."""

OLDER_OPSET = 17
"""The oldest that torch converts this network to; given an older one, it keeps its own without a word in the file."""

SEVEN = Path(__file__).parents[1] / "docs" / "seven.jpg"


class Case:
    """The bundle and the data that every fault is planted into."""

    def __init__(self, bundle: Path, data: Dataset, where: str | Path | None = None) -> None:
        """Set what is examined; `where` is the name or the path of the data, None for the bundle's own."""
        self.bundle, self.data, self.where = bundle, data, where

    def moved(self, bundle: Path) -> "Case":
        """The same with a copy of the bundle, which a fault may change."""
        return Case(Path(shutil.copytree(self.bundle, bundle)), self.data, self.where)

    @cached_property
    def trained(self) -> Trained:
        """The model that was trained. Whatever changes it takes a copy."""
        return checkpoint.load(self.bundle)

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """The test images, [n, 1, 28, 28]."""
        return self.data.test.images[:, None]

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """PyTorch's logits for them."""
        return in_batches(run_module(raw_pixels(self.trained)), self.images, CHUNK)

    @property
    def other(self) -> Path:
        """The float32 file of another training."""
        own = str(self.trained.training.architecture)
        return Path(PRETRAINED, own if is_pretrained(own) else DEFAULT_PRETRAINED, Format.ONNX.file_name)

    def module(self, *, transposed: bool = False) -> RawPixels:
        """The trained model that takes raw pixels, which may be changed."""
        model = copy.deepcopy(self.trained.model)
        return RawPixels(model, self.trained.contract.normalization, transposed=transposed).eval()


@dataclass(frozen=True)
class Made:
    """What was exported, and the file as it is used."""

    module: nn.Module
    program: torch.onnx.ONNXProgram
    path: Path

    def edited(self, change: Callable[[onnx.ModelProto], object]) -> "Made":
        """The same with a change to the file."""
        model = onnx.load(self.path)
        change(model)
        onnx.save(model, self.path)
        return self


def exported(
    module: nn.Module,
    path: Path,
    *,
    labels: tuple[str, ...] = DIGITS,
    any_batch: bool = True,
    opset: int = OPSET,
    external_data: bool = False,
) -> Made:
    """Export as torch's documentation does, with the labels in the metadata."""
    program = torch.onnx.export(
        module,
        (example(),),
        dynamo=True,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        dynamic_shapes=({0: torch.export.Dim(BATCH_AXIS)},) if any_batch else None,
        opset_version=opset,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[NAMES] = json.dumps(labels)
    program.save(path, external_data=external_data)
    return Made(module, program, path)


def _plain(case: Case, path: Path) -> Made:
    return exported(case.module(), path)


def _without_eval(case: Case, path: Path) -> Made:
    return exported(faults.with_dropout(case.module()).train(), path)


def _normalization(case: Case, path: Path) -> Made:
    return exported(RawPixels(case.module().model, STANDARDIZED).eval(), path)


def _one_weight(case: Case, path: Path) -> Made:
    return _plain(case, path).edited(faults.negate_one_weight)


def _labels(case: Case, path: Path) -> Made:
    return exported(case.module(), path, labels=faults.swapped(DIGITS))


def _batch(case: Case, path: Path) -> Made:
    return exported(case.module(), path, any_batch=False)


def _nan(case: Case, path: Path) -> Made:
    module = case.module()
    with torch.no_grad():
        faults.set_nan(list(module.parameters())[-2].view(-1))
    return exported(module, path)


def _truncated(case: Case, path: Path) -> Made:
    made = _plain(case, path)
    faults.truncate(path)
    return made


def _altered(case: Case, path: Path) -> Made:
    made = _plain(case, path)
    faults.flip_bit_of_weight(path)
    return made


def _eight_bits(case: Case, path: Path) -> Made:
    def quantize(model: onnx.ModelProto) -> None:
        chosen = examples.choose(case.trained, case.data)
        model.CopyFrom(quantized_statically_by_onnxruntime(model, chosen.training, reduce_range=False))

    return _plain(case, path).edited(quantize)


def _seven_bits(case: Case, path: Path) -> Made:
    def quantize(model: onnx.ModelProto) -> None:
        chosen = examples.choose(case.trained, case.data)
        model.CopyFrom(quantized_statically_by_onnxruntime(model, chosen.training))

    return _plain(case, path).edited(quantize)


def _dynamic(case: Case, path: Path) -> Made:
    return _plain(case, path).edited(lambda model: model.CopyFrom(quantized_by_onnxruntime(model)))


def _opset(case: Case, path: Path) -> Made:
    made = exported(case.module(), path, opset=OLDER_OPSET)
    assert [each.version for each in onnx.load(path).opset_import] == [OLDER_OPSET]
    return made


def _external(case: Case, path: Path) -> Made:
    made = exported(case.module(), path, external_data=True)
    path.with_name(f"{path.name}.data").unlink()
    return made


def _other_weights(case: Case, path: Path) -> Made:
    made = _plain(case, path)
    shutil.copy(case.other, path)
    return made.edited(lambda model: onnx.helper.set_model_props(model, {NAMES: json.dumps(DIGITS)}))


def _transposed(case: Case, path: Path) -> Made:
    return exported(case.module(transposed=True), path)


Ours = Callable[[Case, pytest.MonkeyPatch], None]
"""Plants a fault into mnist-edge, or into the case's bundle."""


def _exporting(case: Case, form: Format) -> list[object]:
    return ["export", case.bundle, "--formats", form, *([] if case.where is None else ["--data", case.where])]


def _using_the_file(case: Case, form: Format) -> list[object]:
    return ["predict", SEVEN, "--model", case.bundle / form.file_name]


def _using_the_bundle(case: Case, form: Format) -> list[object]:
    return ["predict", SEVEN, "--model", case.bundle, "--format", form]


def _replace(case: Case, _patch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(case.other, case.bundle / Format.ONNX.file_name)


def _conversion(defect: Callable[[pytest.MonkeyPatch], None]) -> Ours:
    return lambda case, patch: defect(patch)


def _file(change: Callable[[Path], None]) -> Ours:
    return lambda case, patch: change(case.bundle / Format.ONNX.file_name)


@dataclass(frozen=True)
class Fault:
    """A fault, and the step of mnist-edge that meets it."""

    theirs: Callable[[Case, Path], Made]
    ours: Ours
    form: Format = Format.ONNX
    met_by: Callable[[Case, Format], list[object]] = _exporting
    """What meets it, as arguments of mnist-edge."""


def _nothing(_case: Case, _patch: pytest.MonkeyPatch) -> None:
    pass


NOTHING = Fault(_plain, _nothing)
NOTHING_INT8 = Fault(_seven_bits, _nothing, Format.INT8_STATIC)

MEETING = (_exporting, _using_the_file, _using_the_bundle)
"""Every step that meets a fault."""

FAULTS = {
    "training mode": Fault(_without_eval, _conversion(InExport.dropout_in_training_mode)),
    "wrong normalisation": Fault(_normalization, _conversion(InExport.customary_normalization)),
    "one weight": Fault(_one_weight, _conversion(InExport.one_weight_negated)),
    "swapped labels": Fault(_labels, _conversion(InExport.labels_swapped)),
    "batch axis fixed": Fault(_batch, _conversion(InExport.batch_axis_fixed)),
    "NaN": Fault(_nan, lambda case, patch: faults.perturb(case.bundle, faults.set_nan)),
    "truncated": Fault(_truncated, _file(faults.truncate), met_by=_using_the_file),
    "altered": Fault(_altered, _file(faults.flip_bit_of_weight), met_by=_using_the_file),
    "saturating int8": Fault(_eight_bits, _conversion(InExport.eight_bit_weights), Format.INT8_STATIC),
    "batch-dependent int8": Fault(
        _dynamic, _conversion(InExport.quantized_by(quantized_by_onnxruntime)), Format.INT8_DYNAMIC
    ),
    "older opset": Fault(_opset, _conversion(InExport.older_opset)),
    "external data missing": Fault(_external, _file(faults.lose_external_data), met_by=_using_the_file),
    "other weights": Fault(_other_weights, _replace, met_by=_using_the_bundle),
    "transposed input": Fault(_transposed, _conversion(InExport.input_transposed)),
}
