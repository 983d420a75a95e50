"""Decide whether onnxruntime may see a file: by its content alone, before anything of it is run.

onnxruntime runs whatever a graph says: a loop without end, a node that asks for 8 GB, an integer division that ends the
process. Anybody can compute the checksum of such a file. So a file is only loaded if it holds nothing but what our
exporters write, and if the memory and the work for one image, which follow from its shapes, are bounded.
"""

from typing import Final

from msgspec import Struct

from mnist_edge.contract import HEIGHT, INPUT_NAME, IR_VERSION, OPSET, OUTPUT_NAME, WIDTH
from mnist_edge.runtime.onnx_file.layers import multiplications, scratch
from mnist_edge.runtime.onnx_file.messages import (
    FLOAT,
    ITEM_SIZES,
    MOST_SIDES,
    UINT8,
    Declared,
    Images,
    Node,
    OnnxModel,
    Tensor,
    described,
)
from mnist_edge.runtime.onnx_file.operators import OPERATORS, is_allowed
from mnist_edge.runtime.onnx_file.shapes import Call, ShapeError, check

MOST_NODES: Final = 4_000
"""A quantized DenseNet-201 has about 2,500. Nodes, and the values between them, are most of a file's fields."""

MOST_ELEMENTS: Final = 2**25
"""Elements of all computed values for one image. A ResNet-50 has 22 million for an image of 224×224."""

MOST_WORK: Final = 2**32
"""Products for one image: a tenth of a second or two of work. A ResNet-50 computes 4.1 billion for 224×224 pixels."""

_OLDEST_IR: Final = 3
"""Older files may leave out the opset."""

_OPSETS: Final = {"": OPSET, "com.microsoft": 1}

_SHAPES: Final = {("Reshape", 1), ("Expand", 1), ("Resize", 3)}
"""The operators and inputs that are shapes of results."""

_INPUT: Final = Tensor(UINT8, (Images(1), 1, HEIGHT, WIDTH))


class Admitted(Struct, frozen=True):
    """What is known of a graph that was let through."""

    classes: int
    """The number of its logits."""

    bytes_per_image: int
    """The size of all that it computes for one image. A batch needs no more than that for each."""

    values: dict[str, Tensor]
    """Everything that it computes, its input and its constants, by name."""


class VersionError(ValueError):
    """A file is for another version of ONNX than our files."""


def admit(model: OnnxModel) -> Admitted:
    """Check a file's graph.

    Raises:
        VersionError: it is for another opset, or a newer IR version, than our files.
        ShapeError: it holds what our files never do, or asks for too much.
    """
    _check_versions(model)
    images = model.inputs.get(INPUT_NAME)
    fits = images is not None and images.fits(_INPUT) and len(model.inputs) == 1
    check(fits and INPUT_NAME not in model.initializers, f"takes {_described(model.inputs)}")
    values = {**model.initializers, INPUT_NAME: _INPUT}
    check(len(model.nodes) <= MOST_NODES, f"{len(model.nodes):,} nodes, more than {MOST_NODES:,}")
    size = elements = work = 0
    for node in model.nodes:
        results, products = _result(node, values)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                _add(values, name, result, model)
            elements += result.elements
            size += result.images * result.elements * ITEM_SIZES[result.type]
        work += products
        check(elements <= MOST_ELEMENTS, f"more than {MOST_ELEMENTS:,} elements for an image")
        check(work <= MOST_WORK, f"more than {MOST_WORK:,} products for an image")
    return Admitted(_classes(model, values), size, values)


def _check_versions(model: OnnxModel) -> None:
    if not _OLDEST_IR <= model.ir_version <= IR_VERSION:
        raise VersionError(f"IR version {model.ir_version}, not {IR_VERSION}")
    for domain, version in {"": 0, **model.opsets}.items():
        if domain not in _OPSETS:
            raise VersionError(f"operators of {domain!r:.80}")
        if version != _OPSETS[domain]:
            raise VersionError(f"opset {version}{f' of {domain!r:.80}' * bool(domain)}, not {_OPSETS[domain]}")


def _result(node: Node, values: dict[str, Tensor]) -> tuple[list[Tensor], int]:
    """What a node returns, and how many products it computes."""
    where = f"node {node.name!r:.80} ({node.operator!r:.40})"
    operator = OPERATORS.get(node.operator)
    if operator is None:
        raise ShapeError(f"{where}: no operator of ours")
    for name, value in node.attributes.items():
        check(name in operator.attributes and is_allowed(name, value), f"{where}: {name!r:.40} = {value!r:.40}")
    check(len(node.inputs) <= operator.most, f"{where}: {len(node.inputs)} inputs")
    check(all(not name or name in values for name in node.inputs), f"{where}: an input that is not there")
    call = Call(node, [values[name] if name else None for name in node.inputs])
    try:
        results = operator.rule(call)
        for result in results:
            _check_result(call, result)
        products = multiplications(call, results)
        check(scratch(call, results) <= MOST_ELEMENTS, "too large a window, or weights")
    except (ShapeError, IndexError, ValueError, ArithmeticError, MemoryError) as error:
        raise ShapeError(f"{where}: {error}") from error
    check(len(node.outputs) <= len(results), f"{where}: {len(node.outputs)} outputs")
    return results, products


def _check_result(call: Call, result: Tensor) -> None:
    check(len(result.dims) <= MOST_SIDES, f"{len(result.dims)} sides, more than {MOST_SIDES}")
    check(result.elements <= MOST_ELEMENTS, f"more than {MOST_ELEMENTS:,} elements for an image")
    check(result.images <= 1, "it mixes images")
    # What is computed from the number of images must stay known, or it could become part of an answer.
    for number, tensor in enumerate(call.inputs):
        if tensor and tensor.depends_on_their_number and (call.node.operator, number) not in _SHAPES:
            check(result.values is not None, "it mixes images")


def _add(values: dict[str, Tensor], name: str, result: Tensor, model: OnnxModel) -> None:
    check(name not in values, f"{name!r:.80}: computed twice")
    values[name] = result
    declared = model.declared.get(name)
    check(declared is None or declared.fits(result), f"{name!r:.80}: declared as another shape than it has")


def _classes(model: OnnxModel, values: dict[str, Tensor]) -> int:
    result = values.get(OUTPUT_NAME)
    check([*model.outputs] == [OUTPUT_NAME] and result is not None, f"returns {_described(model.outputs)}")
    assert result is not None
    expected = Tensor(FLOAT, (Images(1), result.elements))
    fits = result == expected and model.outputs[OUTPUT_NAME].fits(expected)
    check(fits, f"returns {_described(model.outputs)}")
    return result.elements


def _described(values: dict[str, Declared]) -> str:
    """Inputs or outputs in words: ``'image' [N, 1, 28, 28]``."""
    return ", ".join(f"{name!r:.80} {described(each.dims)}" for name, each in values.items()) or "nothing"
