"""What an exported ``.onnx`` file says of itself, so that one copied file is a whole deployment."""

import copy
import json
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnx
import torch

from mnist_edge import __version__
from mnist_edge.bundle import UNSEALED, seal
from mnist_edge.contract import (
    CONTRACT_KEY,
    DIGEST_KEY,
    GOLDEN_KEY,
    PROVENANCE_KEY,
    WHITE,
    Calibration,
    Contract,
    to_json,
)
from mnist_edge.export.parity import FLOAT32
from mnist_edge.runtime.golden import Golden
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.datasets import Split
from mnist_edge.training.models import normalize

GOLDEN_IMAGES: Final = 20
"""Test images among the golden vectors where there are so many; a blank and a full one come on top."""


def provenance(trained: Trained) -> dict[str, Any]:
    """Where a model comes from: no dates, no paths, nothing that differs between two exports of the same weights."""
    training = trained.training
    return {
        "architecture": trained.architecture.value,
        "parameters": training["parameters"],
        "recipe": training["recipe"],
        "seed": training["seed"],
        "data": {"name": training["data"]["name"], "sha256": training["data"]["sha256"]},
        "model_sha256": training["model_sha256"],
        "trained_by": training["versions"],
        "exported_by": {"mnist-edge": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
    }


def golden_vectors(trained: Trained, test: Split) -> Golden:
    """The first test images of every class, a blank and a full one, with PyTorch's answers.

    The answers are computed in float64 and then rounded, so that they do not depend on the machine of the export.
    """
    classes = len(trained.contract.labels)
    each = -(-GOLDEN_IMAGES // classes)
    first = np.concatenate([np.flatnonzero(test.labels == label)[:each] for label in range(classes)])
    others = np.setdiff1d(np.arange(len(test)), first)
    chosen = np.concatenate([first, others[: max(0, GOLDEN_IMAGES - len(first))]])
    blank = np.zeros_like(test.images[:1])
    images = np.concatenate([test.images[chosen], blank, blank + np.uint8(WHITE)])[:, None]
    exact = copy.deepcopy(trained.model).double()
    with torch.inference_mode():
        logits = exact(normalize(torch.tensor(images).double(), trained.contract.normalization))
    return Golden(images=images, logits=logits.float().numpy(), tolerance=FLOAT32.max_abs_diff)


def calibrate(data: bytes, calibration: Calibration | None) -> bytes:
    """A stamped file whose contract has that calibration, and which is the same otherwise."""
    model = onnx.load_from_string(data)
    for entry in model.metadata_props:
        if entry.key == CONTRACT_KEY:
            contract = Contract.from_dict(json.loads(entry.value))
            entry.value = to_json(replace(contract, calibration=calibration).as_dict())
        elif entry.key == DIGEST_KEY:
            entry.value = UNSEALED
    return seal(model.SerializeToString(deterministic=True))


def stamp(model: onnx.ModelProto, trained: Trained, golden: Golden) -> bytes:
    """The file's bytes: the graph, its contract, provenance, golden vectors and its own digest."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model,
        {
            CONTRACT_KEY: to_json(trained.contract.as_dict()),
            PROVENANCE_KEY: to_json(provenance(trained)),
            GOLDEN_KEY: to_json(golden.as_dict()),
            DIGEST_KEY: UNSEALED,
        },
    )
    return seal(model.SerializeToString(deterministic=True))
