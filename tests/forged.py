"""Models with a valid checksum and hostile content, by kind. Anybody can make such files."""

import base64
import functools
import json
import zlib
from collections.abc import Callable
from typing import Final

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mnist_edge.bundle import checksum
from mnist_edge.contract import CHECKSUM_KEY, CONTRACT_KEY, GOLDEN_KEY, OUTPUT_NAME

Forged = dict[str, bytes]
"""The content of files by what is wrong with them."""


def sealed(model: ModelProto) -> bytes:
    """A model's bytes with a new checksum."""
    for entry in model.metadata_props:
        if entry.key == CHECKSUM_KEY:
            entry.value = checksum.UNSET_CHECKSUM
    return checksum.with_checksum(model.SerializeToString())


def changed(content: bytes, change: Callable[[ModelProto], object]) -> bytes:
    model = onnx.load_from_string(content)
    change(model)
    return sealed(model)


# Golden vectors and other metadata


def entry(model: ModelProto, key: str) -> onnx.StringStringEntryProto:
    return next(each for each in model.metadata_props if each.key == key)


@functools.cache
def bomb(size: int) -> str:
    """So many zero bytes, compressed, in base64."""
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    data = b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()
    return base64.b64encode(data).decode()


def golden(content: bytes) -> Forged:
    def of(**fields: object) -> bytes:
        def change(model: ModelProto) -> None:
            stored = entry(model, GOLDEN_KEY)
            stored.value = json.dumps(json.loads(stored.value) | fields)

        return changed(content, change)

    many = 100_000
    return {
        "count is negative": of(count=-1),
        "count is zero": of(count=0),
        "count has 400 digits": of(count=int("9" * 400)),
        "count is a fraction": of(count=1.5),
        "inflate to a gigabyte": of(images=bomb(2**30)),
        "inflate to a gigabyte, of a count that fits": of(images=bomb(2**30), count=2**30 // 784),
        "a hundred thousand": of(images=bomb(2**27), count=many),
        "fewer than their count": of(count=4000),
        "no zlib": of(images=base64.b64encode(b"\0" * 784).decode()),
        "no base64": of(logits="{{{"),
        "tolerance is negative": of(tolerance=-1.0),
        "tolerance is text": of(tolerance="all"),
    }


def metadata(content: bytes) -> Forged:
    def contract(**fields: object) -> bytes:
        def change(model: ModelProto) -> None:
            stored = entry(model, CONTRACT_KEY)
            stored.value = json.dumps(json.loads(stored.value) | fields)

        return changed(content, change)

    def text(key: str, value: str) -> bytes:
        return changed(content, lambda model: setattr(entry(model, key), "value", value))

    return {
        "a hundred megabytes": changed(content, lambda model: model.metadata_props.add(key="x", value="x" * 10**8)),
        "three hundred thousand entries": changed(
            content, lambda model: [model.metadata_props.add(key=str(number)) for number in range(300_000)]
        ),
        "a key twice": changed(content, lambda model: model.metadata_props.add(key=CONTRACT_KEY, value="{}")),
        "no contract": changed(content, lambda model: model.metadata_props.remove(entry(model, CONTRACT_KEY))),
        "no golden vectors": changed(content, lambda model: model.metadata_props.remove(entry(model, GOLDEN_KEY))),
        "a contract of brackets": text(CONTRACT_KEY, "[" * 100_000),
        "a contract with NaN": text(CONTRACT_KEY, '{"version": NaN}'),
        "a number of 400 digits": contract(normalization={"mean": int("9" * 400), "std": 1}),
        "an infinite number": text(CONTRACT_KEY, '{"version": 2, "normalization": {"mean": 1e999}}'),
        "labels that recolour the terminal": contract(labels=[f"\x1b[3{digit}m" for digit in range(10)]),
        "labels that reverse the line": contract(labels=[f"\u202e{digit}" for digit in range(10)]),
        "more labels than logits": contract(labels=[str(number) for number in range(11)]),
        "not UTF-8": sealed_bytes(content.replace(b'"labels":["0"', b'"labels":["\xff"')),
    }


def sealed_bytes(content: bytes) -> bytes:
    """Bytes that need not be a model, with a new checksum."""
    start = content.index(checksum._ENTRY) + len(checksum._ENTRY)
    return checksum.with_checksum(content[:start] + checksum.UNSET_CHECKSUM.encode() + content[start + 64 :])


# Graphs


def before_the_end(
    content: bytes, nodes: list[NodeProto], constants: dict[str, np.ndarray] | None = None, *, opset: int | None = None
) -> bytes:
    """A model whose logits go through more nodes, from ``before`` to ``logits``; no shapes are declared."""

    def change(model: ModelProto) -> None:
        last = next(node for node in model.graph.node if OUTPUT_NAME in node.output)
        last.output[:] = ["before" if name == OUTPUT_NAME else name for name in last.output]
        model.graph.node.extend(nodes)
        for name, value in (constants or {}).items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        if opset:
            model.opset_import[0].version = opset

    return changed(content, change)


def back(wide: str, sides: int) -> list[NodeProto]:
    """Nodes that take the mean over all but the first two sides."""
    axes = helper.make_node("Constant", [], ["back_axes"], value_ints=[*range(2, sides)])
    return [axes, helper.make_node("ReduceMean", [wide, "back_axes"], [OUTPUT_NAME], keepdims=0)]


def memory(content: bytes) -> Forged:
    node = helper.make_node
    huge = 100_000_000

    def wide(nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> bytes:
        axes = {"axes": np.array([2])}
        end = node("ReduceMean", ["wide", "axes"], [OUTPUT_NAME], keepdims=0)
        up = node("Unsqueeze", ["before", "axes"], ["column"])
        return before_the_end(content, [up, *nodes, end], axes | constants)

    doublings = [node("Concat", [f"d{at}"] * 2, [f"d{at + 1}"], axis=2) for at in range(40)]
    column = {"column_shape": np.array([-1, 1]), "rows": np.array([-1, 10])}
    return {
        "Expand": wide([node("Expand", ["column", "to"], ["wide"])], {"to": np.array([1, 1, huge])}),
        "Tile": wide([node("Tile", ["column", "by"], ["wide"])], {"by": np.array([1, 1, huge])}),
        "Pad": wide([node("Pad", ["column", "by"], ["wide"])], {"by": np.array([0, 0, 0, 0, 0, huge])}),
        "Resize": wide(
            [node("Resize", ["column", "", "scales"], ["wide"])], {"scales": np.array([1, 1, huge], np.float32)}
        ),
        "Concat, doubled forty times": wide(
            [node("Identity", ["column"], ["d0"]), *doublings, node("Identity", ["d40"], ["wide"])], {}
        ),
        "Add of a row and a column": wide(
            [
                node("Expand", ["column", "to"], ["a"]),
                node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
                node("Add", ["a", "b"], ["c"]),
                node("ReduceSum", ["c", "axes"], ["wide"], keepdims=1),
            ],
            {"to": np.array([1, 1, 100_000])},
        ),
        "MatMul of a column and a row": wide(
            [node("MatMul", ["column", "row"], ["wide"])], {"row": np.zeros((1, 20_000_000), np.float32)}
        ),
        "ConstantOfShape": before_the_end(
            content,
            [
                node("ConstantOfShape", ["of"], ["zeros"]),
                node("ReduceMax", ["zeros"], ["zero"]),
                node("Add", ["before", "zero"], [OUTPUT_NAME]),
            ],
            {"of": np.array([huge, 20])},
        ),
        "Range": before_the_end(
            content,
            [
                node("Range", ["from", "to", "by"], ["numbers"]),
                node("Cast", ["numbers"], ["floats"], to=1),
                node("ReduceMax", ["floats"], ["last"]),
                node("Add", ["before", "last"], [OUTPUT_NAME]),
            ],
            {"from": np.array(0), "to": np.array(10**9), "by": np.array(1)},
        ),
        "OneHot": before_the_end(
            content,
            [
                node("ArgMax", ["before"], ["best"], axis=1, keepdims=0),
                node("OneHot", ["best", "many", "two"], ["hot"]),
                node("Slice", ["hot", "zero", "ten", "one"], [OUTPUT_NAME]),
            ],
            {
                "many": np.array(10**9),
                "two": np.zeros(2, np.float32),
                "zero": np.array([0]),
                "ten": np.array([10]),
                "one": np.array([1]),
            },
        ),
        # Images become columns, so that the number of images times itself is computed.
        "images against images": before_the_end(
            content,
            [
                node("Reshape", ["before", "column_shape"], ["a"]),
                node("Transpose", ["a"], ["b"], perm=[1, 0]),
                node("MatMul", ["a", "b"], ["c"]),
                node("Reshape", ["c", "column_shape"], ["d"]),
                node("Transpose", ["d"], ["e"], perm=[1, 0]),
                node("MatMul", ["d", "e"], ["f"]),
                node("ReduceMean", ["f", "axis"], ["g"], keepdims=1),
                node("Reshape", ["g", "rows"], [OUTPUT_NAME]),
            ],
            column | {"axis": np.array([1])},
        ),
        "Conv with wide padding": before_the_end(
            content,
            [
                node("Reshape", ["before", "to_image"], ["x"]),
                node("Conv", ["x", "kernel"], ["y"], pads=[0, 10**8, 0, 10**8]),
                *back("y", 4),
            ],
            {"to_image": np.array([-1, 10, 1, 1]), "kernel": np.zeros((10, 10, 1, 1), np.float32)},
        ),
        "ConvTranspose with long steps": before_the_end(
            content,
            [
                node("Reshape", ["before", "to_image"], ["x"]),
                node("ConvTranspose", ["x", "kernel"], ["y"], strides=[4000, 4000]),
                *back("y", 4),
            ],
            {"to_image": np.array([-1, 1, 5, 2]), "kernel": np.zeros((1, 10, 1, 1), np.float32)},
        ),
    }


def control_flow(content: bytes) -> Forged:
    node, value = helper.make_node, helper.make_tensor_value_info
    logits = value("out", TensorProto.FLOAT, None)
    forever = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Identity", ["x"], ["out"])],
        "forever",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), logits],
    )
    loop = node("Loop", ["", "true", "before"], [OUTPUT_NAME], body=forever)
    branch = helper.make_graph([node("Identity", ["before"], ["out"])], "branch", [], [logits])
    true = {"true": np.array(True)}  # an array
    nested = branch
    for _ in range(20):
        inner = node("If", ["true"], ["out"], then_branch=nested, else_branch=branch)
        nested = helper.make_graph([inner], "nested", [], [logits])
    scanned = helper.make_graph(
        [node("Identity", ["x"], ["out"])], "scanned", [value("x", TensorProto.FLOAT, None)], [logits]
    )

    def function(model: ModelProto, body: list[NodeProto]) -> None:
        model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], body, [helper.make_opsetid("", 18)]))
        model.opset_import.append(helper.make_opsetid("mine", 1))
        last = next(each for each in model.graph.node if OUTPUT_NAME in each.output)
        last.output[:] = ["before"]
        model.graph.node.append(node("F", ["before"], [OUTPUT_NAME], domain="mine"))

    return {
        "Loop without end": before_the_end(content, [loop], true),
        "If": before_the_end(
            content, [node("If", ["true"], [OUTPUT_NAME], then_branch=branch, else_branch=branch)], true
        ),
        "twenty nested Ifs": before_the_end(
            content, [node("If", ["true"], [OUTPUT_NAME], then_branch=nested, else_branch=branch)], true
        ),
        "Scan": before_the_end(content, [node("Scan", ["before"], [OUTPUT_NAME], body=scanned, num_scan_inputs=1)]),
        "a function": changed(content, lambda model: function(model, [node("Relu", ["x"], ["y"])])),
        "a function that calls itself": changed(
            content, lambda model: function(model, [node("F", ["x"], ["y"], domain="mine")])
        ),
        "an operator of another domain": before_the_end(
            content, [node("Gelu", ["before"], [OUTPUT_NAME], domain="com.microsoft")]
        ),
        "Optional": before_the_end(
            content, [node("Optional", ["before"], ["o"]), node("OptionalGetElement", ["o"], [OUTPUT_NAME])]
        ),
    }


def divisions(content: bytes) -> Forged:
    node = helper.make_node
    lowest = np.array(-(2**63))

    def whole(operator: str, kind: int, constant: np.ndarray, **fields: object) -> bytes:
        nodes = [
            node("Cast", ["before"], ["whole"], to=kind),
            node(operator, ["whole", "by"], ["divided"], **fields),
            node("Cast", ["divided"], [OUTPUT_NAME], to=TensorProto.FLOAT),
        ]
        return before_the_end(content, nodes, {"by": constant})

    return {
        "by zero, 64 bits": whole("Div", TensorProto.INT64, np.array(0)),
        "by zero, 32 bits": whole("Div", TensorProto.INT32, np.array(0, np.int32)),
        "remainder by zero": whole("Mod", TensorProto.INT64, np.array(0)),
        "remainder by zero, 32 bits": whole("Mod", TensorProto.INT32, np.array(0, np.int32)),
        "the lowest by -1": before_the_end(
            content,
            [
                node("Div", ["lowest", "by"], ["divided"]),
                node("Cast", ["divided"], ["f"], to=1),
                node("Add", ["before", "f"], [OUTPUT_NAME]),
            ],
            {"lowest": lowest, "by": np.array(-1)},
        ),
        "of bytes": whole("Div", TensorProto.UINT8, np.array(0, np.uint8)),
    }


def attributes(content: bytes) -> Forged:
    def of_conv(**fields: object) -> bytes:
        def change(model: ModelProto) -> None:
            conv = next(each for each in model.graph.node if each.op_type == "Conv")
            for name, value in fields.items():
                kept = [each for each in conv.attribute if each.name != name]
                del conv.attribute[:]
                conv.attribute.extend([*kept, helper.make_attribute(name, value)])

        return changed(content, change)

    def pool(**fields: object) -> bytes:
        nodes = [
            helper.make_node("Reshape", ["before", "to_image"], ["x"]),
            helper.make_node("MaxPool", ["x"], ["y"], **fields),
            *back("y", 4),
        ]
        return before_the_end(content, nodes, {"to_image": np.array([-1, 10, 1, 1])})

    return {
        "group 0": of_conv(group=0),
        "group -1": of_conv(group=-1),
        "strides of 0": of_conv(strides=[0, 0]),
        "strides of -1": of_conv(strides=[-1, -1]),
        "dilations of 0": of_conv(dilations=[0, 0]),
        "dilations of 2⁴⁰": of_conv(dilations=[2**40, 2**40]),
        "three strides": of_conv(strides=[1, 1, 1]),
        "a window of another size": of_conv(kernel_shape=[1, 1]),
        "negative padding": of_conv(pads=[-1, -1, -1, -1]),
        "padding that depends on the size": of_conv(auto_pad="SAME_UPPER"),
        "a float for an integer": of_conv(group=1.0),
        "an attribute that it does not have": of_conv(loops=3),
        "a pool of nothing": pool(kernel_shape=[0, 0]),
        "a pool that is wider than the image": pool(kernel_shape=[3, 3]),
        "blocks of no size": before_the_end(
            content,
            [
                helper.make_node("Reshape", ["before", "to_image"], ["x"]),
                helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=0),
                *back("y", 4),
            ],
            {"to_image": np.array([-1, 10, 1, 1])},
        ),
    }


def shapes(content: bytes) -> Forged:
    def weights(change: Callable[[TensorProto], object]) -> bytes:
        return changed(content, lambda model: change(max(model.graph.initializer, key=lambda each: len(each.raw_data))))

    def dims(*sides: int) -> bytes:
        return weights(lambda tensor: (tensor.ClearField("dims"), tensor.dims.extend(sides)))

    def value(number: int, side: int) -> bytes:
        def change(model: ModelProto) -> None:
            shape = model.graph.value_info[number].type.tensor_type.shape
            shape.dim[-1].dim_value = side

        return changed(content, change)

    def end(*sides: int | str) -> bytes:
        def change(model: ModelProto) -> None:
            new = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, sides)
            model.graph.output[0].CopyFrom(new)

        return changed(content, change)

    return {
        "weights larger than their bytes": dims(1000, 1000),
        "weights of a negative side": dims(-1, 784),
        "weights of no side": dims(0, 784),
        "weights of 2⁶² elements": dims(2**31 - 1, 2**31 - 1),
        "weights of eight sides and more": dims(*[1] * 100),
        "weights of another type": weights(lambda tensor: setattr(tensor, "data_type", TensorProto.DOUBLE)),
        "weights of a type that there is not": weights(lambda tensor: setattr(tensor, "data_type", 99)),
        "a value that is smaller than it is": value(0, 1),
        "a value that is larger than it is": value(-1, 10**6),
        "one logit": end("N", 1),
        "a thousand logits": end("N", 1000),
        "three images": end(3, 10),
        "three sides": end("N", 10, 1),
        "no side": end(),
    }


def outputs(content: bytes) -> Forged:
    node = helper.make_node
    rows = {"two": np.array([0]), "axis": np.array([0])}

    def second(model: ModelProto) -> None:
        model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 10]))
        model.graph.node.append(node("Identity", [OUTPUT_NAME], ["more"]))

    return {
        "twice as many rows as images": before_the_end(
            content, [node("Concat", ["before", "before"], [OUTPUT_NAME], axis=0)]
        ),
        "one row for all images": before_the_end(
            content, [node("ReduceMean", ["before", "axis"], [OUTPUT_NAME], keepdims=1)], rows
        ),
        "only the first rows": before_the_end(
            content,
            [node("Slice", ["before", "from", "to"], [OUTPUT_NAME])],
            {"from": np.array([0]), "to": np.array([1])},
        ),
        "float64": before_the_end(content, [node("Cast", ["before"], [OUTPUT_NAME], to=TensorProto.DOUBLE)]),
        "float16": before_the_end(content, [node("Cast", ["before"], [OUTPUT_NAME], to=TensorProto.FLOAT16)]),
        "text": before_the_end(content, [node("Cast", ["before"], [OUTPUT_NAME], to=TensorProto.STRING)]),
        "a second output": changed(content, second),
        "random logits": before_the_end(content, [node("RandomNormalLike", ["before"], [OUTPUT_NAME])]),
        "the other images' logits": before_the_end(
            content, [node("CumSum", ["before", "zero"], [OUTPUT_NAME])], {"zero": np.array(0)}
        ),
    }


def spelling(content: bytes) -> Forged:
    """Files that parsers may read differently, or read for a long time."""

    def field(number: int, payload: bytes) -> bytes:
        length, rest = bytearray(), len(payload)
        while rest > 0x7F:
            length.append(rest & 0x7F | 0x80)
            rest >>= 7
        return bytes([number << 3 | 2, *length, rest]) + payload

    deep = b""
    for _ in range(5_000):  # a graph in an attribute of a node of a graph …
        deep = field(1, field(5, field(6, deep)))
    many = onnx.load_from_string(content)
    many.graph.node.extend([helper.make_node("Relu", ["image"], [f"r{at}"]) for at in range(20_000)])
    return {
        "a second graph": sealed_bytes(content + field(7, b"")),
        "a second version": sealed_bytes(content + b"\x08\x0a"),
        "an unknown field": sealed_bytes(content + field(15, b"x")),
        "a group": sealed_bytes(content + b"\x7b\x7c"),
        "an integer of ten bytes": sealed_bytes(content + b"\x28" + b"\xff" * 9 + b"\x7f"),
        "a needlessly long integer": sealed_bytes(content + b"\x28\x80\x00"),
        "a length beyond the end": sealed_bytes(content + b"\x12\xff\xff\xff\x7f"),
        "a tag and nothing else": sealed_bytes(content + b"\x12"),
        "graphs in graphs": sealed_bytes(content + field(7, deep)),
        "two million empty nodes": sealed_bytes(content + field(7, b"\x0a\x00" * 2_000_000)),
        "twenty thousand nodes": sealed(many),
        "training information": sealed_bytes(content + b"\xa2\x01\x00"),
        "zeros": sealed_bytes(content + bytes(1000)),
    }


def elsewhere(content: bytes) -> Forged:
    def tensors(change: Callable[[TensorProto], object]) -> bytes:
        return changed(content, lambda model: change(max(model.graph.initializer, key=lambda each: len(each.raw_data))))

    def external(location: str) -> Callable[[TensorProto], object]:
        def change(tensor: TensorProto) -> None:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=location)

        return change

    return {
        **{
            f"in {place!r}": tensors(external(place))
            for place in ("weights.bin", "/etc/passwd", "../weights.bin", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "")
        },
        "said to be elsewhere": tensors(lambda tensor: setattr(tensor, "data_location", TensorProto.EXTERNAL)),
        "keys without a location": tensors(lambda tensor: tensor.external_data.add(key="offset", value="0")),
    }


KINDS: Final = {
    "golden vectors": golden,
    "memory": memory,
    "control flow": control_flow,
    "integer division": divisions,
    "metadata": metadata,
    "lying shapes": shapes,
    "outputs": outputs,
    "spelling": spelling,
    "weights elsewhere": elsewhere,
    "attributes": attributes,
}
"""For each kind, what makes its forgeries of a float32 model."""
