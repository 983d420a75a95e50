"""What an exported ``.onnx`` file says of itself, so that one copied file is a whole deployment."""

import json
from dataclasses import replace
from typing import Any

import onnx
import torch

from mnist_edge import __version__
from mnist_edge.bundle import UNSEALED, seal
from mnist_edge.contract import (
    CONTRACT_KEY,
    DIGEST_KEY,
    GOLDEN_KEY,
    PROVENANCE_KEY,
    Calibration,
    Contract,
    to_json,
)
from mnist_edge.runtime.golden import Golden
from mnist_edge.training.checkpoint import Trained


def provenance(trained: Trained) -> dict[str, Any]:
    """Where a model comes from: no dates, no paths, nothing that differs between two exports of the same weights."""
    training = trained.training
    return {
        "architecture": trained.architecture.value,
        "parameters": training["parameters"],
        "recipe": training["recipe"],
        "epochs": len(training["epochs"]),
        "seed": training["seed"],
        "data": {"name": training["data"]["name"], "sha256": training["data"]["sha256"]},
        "model_sha256": training["model_sha256"],
        "trained_by": training["versions"],
        "exported_by": {"mnist-edge": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
    }


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
