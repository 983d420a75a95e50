"""C99: the compiled file gives onnxruntime's very logits, and every change of it is found.

Expected values come from onnxruntime's session for the int8-static file, and from the runtime.
"""

import dataclasses
import math
import platform
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from msgspec import structs

from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.errors import ParityError, UnsupportedFormatError
from mnist_edge.export import c, examples, int8_static
from mnist_edge.export.c import compiling, memory, proving, source
from mnist_edge.export.c.layers import Layer
from mnist_edge.runtime.compiling import FLAGS
from mnist_edge.runtime.model import PRETRAINED, load
from mnist_edge.runtime.prediction import ood_score, softmax
from mnist_edge.runtime.session import Session
from mnist_edge.training import checkpoint
from tests.export import networks
from tests.export.test_own_networks import bundle
from tests.helpers import long_after, script, subset

STATIC, C = Format.INT8_STATIC.file_name, Format.C.file_name

STRICT = ("-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")

pytestmark = pytest.mark.usefixtures("by_gcc")


@pytest.fixture(scope="module")
def images(mnist):
    """Test images, noise, a blank image and a full one."""
    noise = np.random.default_rng(seed=2).integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
    plain = np.stack([np.full((1, 28, 28), value, np.uint8) for value in (0, 255)])
    return np.concatenate([mnist.test.images[:200, None], noise, plain])


def pretrained(name):
    return Path(PRETRAINED, name, STATIC).read_bytes()


def expected_logits(content, images):
    (logits,) = Session(content).run([OUTPUT_NAME], {INPUT_NAME: images})
    return logits


def compiled(content, *flags):
    return compiling.compiled(source.generate(content, "digits"), "digits", C, (*FLAGS, *flags)).run


# What every architecture and every chain of layers must give


@pytest.fixture(scope="module")
def content_of(bundle_of):
    def find(architecture):
        if architecture in (Architecture.SIMPLE_NN, Architecture.SIGMOID_NN):
            return (bundle_of(architecture)[0] / STATIC).read_bytes()
        return pretrained(architecture)

    return find


@pytest.mark.parametrize("flags", [(), pytest.param(("-Os",), marks=pytest.mark.long)], ids=["fast", "small"])
@pytest.mark.parametrize("architecture", Architecture, ids=str)
def test_logits_are_onnxruntimes_bit_for_bit(content_of, images, architecture, flags):
    content = content_of(architecture)
    np.testing.assert_array_equal(compiled(content, *flags)(images), expected_logits(content, images))


CHAINS = (networks.LeNet, networks.Leaky, networks.Falling, networks.OnlyLinear)


@pytest.fixture(scope="module")
def chain(mnist, tmp_path_factory):
    """Maps a module to the int8-static file that its random weights give."""
    data = subset(mnist, 300, 50)

    def make(kind):
        torch.manual_seed(1)
        folder = bundle(kind, data, tmp_path_factory.mktemp("chain") / kind.__name__, is_fitted=False)
        return int8_static.convert(examples.choose(checkpoint.load(folder), data))

    return make


@pytest.mark.parametrize("kind", long_after(2, CHAINS))
def test_chains_of_other_layers(chain, images, kind):
    content = chain(kind)
    for flags in ((), ("-Os",)):
        np.testing.assert_array_equal(compiled(content, *flags)(images), expected_logits(content, images))
    text = source.generate(content)
    c.check_weights(text.encode(), C, SimpleNamespace(origin=content))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (networks.Residual, "its Add cannot become C: its input is not the output of the operator before it"),
        (networks.Branches, "its Conv cannot become C: its group is 8"),
        (networks.Tanh, "its AveragePool cannot become C: onnxruntime computes it in float32"),
        (networks.Rows, "cannot become C"),
        (networks.FallingSums, "its HardSwish cannot become C: it falls before it rises"),
        (networks.Softmax, "its Softmax cannot become C: onnxruntime computes it in float32"),
    ],
)
def test_an_operator_that_cannot_be_is_named(chain, kind, words):
    content = chain(kind)
    with pytest.raises(UnsupportedFormatError, match=words) as caught:
        source.generate(content)
    assert str(caught.value).endswith(": export without c")


def test_no_pool_may_follow_a_function_that_falls():
    """As onnxruntime's sigmoid does, between neighbouring float32 numbers."""
    after_one = np.nextafter(np.float32(1), np.float32(2))
    layer = Layer(
        name="conv1",
        size=(2, 2, 1),
        weights=np.ones((1, 1, 1, 1), np.int8),
        bias=np.array([2**23 - 8], np.int32),
        step=np.array([2.0**-23], np.float32),
        zero_in=0,
        scale=np.float32(1),
        function=lambda numbers: ((numbers >= 1) & (numbers != after_one)).astype(np.uint8),
    )
    proving.prove(layer, layer.exact)
    with pytest.raises(ParityError, match="the function after its conv1 falls somewhere, and a max pool follows"):
        proving.prove(dataclasses.replace(layer, pool=(2, 2)), layer.exact)


# The text


def c_program(folder, content, code, *flags, compiler="gcc", suffix=".c"):
    """Compile a program that includes the file as ``model.h``; returns its path."""
    (folder / "model.h").write_text(source.generate(content, "digits"))
    (folder / f"main{suffix}").write_text(code)
    command = [compiler, *flags, "-o", "main", f"main{suffix}", "-lm"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder / "main"


MAIN = r"""
#define MNIST_EDGE_IMPLEMENTATION
#define DIGITS_PROBABILITY
#define DIGITS_SELFTEST
#include "model.h"
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    static uint8_t pixels[DIGITS_PIXELS];
    float logits[DIGITS_CLASSES];
    uint8_t *arena = (uint8_t *)malloc(DIGITS_ARENA); /* so that the sanitizer sees its ends */
    if (arena == NULL || digits_selftest(arena) != 0)
        return 1;
    while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {
        int winner = digits_logits(pixels, arena, logits);
        printf("%s %.9g %.9g %d\n", digits_labels[winner], (double)digits_probability(logits),
               (double)digits_ood_score(logits), digits_decide(logits, 0.9f, 0.99f));
    }
    free(arena);
    return 0;
}
"""


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", "-std=c99 -O0"),
        ("gcc", "-std=c99 -O2"),
        ("gcc", "-std=c99 -Os"),
        ("g++", "-std=c++11 -O2"),
        ("clang", "-std=c99 -O2"),
        ("clang++", "-std=c++11 -Os"),
    ],
)
def test_no_compiler_warns(content_of, tmp_path, compiler, flags):
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    suffix = ".cpp" if "++" in compiler else ".c"
    for architecture in (Architecture.CNN_NANO, Architecture.SIGMOID_NN):
        content = content_of(architecture)
        program = c_program(tmp_path, content, MAIN, *flags.split(), *STRICT, compiler=compiler, suffix=suffix)
        assert subprocess.run(program, input=b"", check=False).returncode == 0


@pytest.mark.parametrize(
    ("kind", "flags"), long_after(1, [(None, "-O2"), (networks.LeNet, "-Os")]), ids=["cnn-nano", "LeNet"]
)
def test_sanitizers_find_nothing_and_probabilities_are_the_runtimes(chain, images, tmp_path, kind, flags):
    content = pretrained("cnn-nano") if kind is None else chain(kind)
    sanitizing = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = c_program(tmp_path, content, MAIN, "-std=c99", flags, *sanitizing)
    result = subprocess.run(program, input=images.tobytes(), capture_output=True, check=True)
    rows = [line.split() for line in result.stdout.decode().splitlines()]
    calibration = load(content, STATIC).contract.calibration
    logits = expected_logits(content, images)
    assert [int(label) for label, *_ in rows] == logits.argmax(axis=1).tolist()
    probability = softmax(logits, calibration.temperature if calibration else 1.0).max(axis=1)
    score = ood_score(logits, calibration) if calibration else np.zeros(len(logits))
    np.testing.assert_allclose([float(row[1]) for row in rows], probability, rtol=1e-6)
    np.testing.assert_allclose([float(row[2]) for row in rows], score, atol=1e-6)
    abstains = (probability < 0.9) | (score > 0.99)
    assert [int(row[3]) for row in rows] == np.where(abstains, -1, logits.argmax(axis=1)).tolist()


def test_it_needs_neither_floats_nor_malloc_nor_much_stack(tmp_path):
    """One function for all layers, as on a microcontroller."""
    (tmp_path / "model.h").write_text(source.generate(pretrained("cnn"), "digits"))
    (tmp_path / "main.c").write_text('#define MNIST_EDGE_IMPLEMENTATION\n#include "model.h"\n')
    for flags in (["-S"], ["-c"]):
        subprocess.run(
            ["gcc", "-std=c99", "-Os", "-fno-pie", "-fstack-usage", *flags, "main.c"], cwd=tmp_path, check=True
        )
    needed = subprocess.run(["nm", "-u", "main.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert {*re.findall(r"U (\w+)", needed)} <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}
    variables = subprocess.run(["nm", "main.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert not re.findall(r" [bBdDC] \w+", variables)
    used = [int(line.split("\t")[1]) for line in (tmp_path / "main.su").read_text().splitlines()]
    assert sum(used) <= 512
    if platform.machine() == "x86_64":
        before, logits = (tmp_path / "main.s").read_text().split("\ndigits_logits:")
        assert "%xmm" in logits  # so that what follows can fail
        assert "%xmm" not in before


@pytest.mark.parametrize(("name", "most"), [("cnn-nano", 4096), ("cnn", 9000)])
def test_the_arena_is_as_small_as_promised(name, most):
    (size,) = re.findall(r"^#define DIGITS_ARENA (\d+)$", source.generate(pretrained(name), "digits"), re.MULTILINE)
    assert int(size) <= most


def test_labels_of_any_kind_are_quoted(tmp_path):
    labels = ("a b", "prefix_", 'quote"', "back\\slash", "??/", "*/", "ü", "漢字")
    listed = ",".join(map(source._quoted, labels))
    (tmp_path / "main.c").write_text(
        f"#include <stdio.h>\nint main(void) {{ const char *labels[] = {{{listed}}}; size_t i;\n"
        "for (i = 0; i < 8; ++i) puts(labels[i]);\nreturn 0; }"
    )
    subprocess.run(["gcc", "-std=c99", *STRICT, "-o", "main", "main.c"], cwd=tmp_path, check=True)
    assert subprocess.run(tmp_path / "main", capture_output=True, check=True).stdout.decode().split("\n")[:-1] == [
        *labels
    ]


def test_a_cortex_m4_gives_the_same_logits(images):
    devices = script("run_on_qemu")
    target = devices.TARGETS["m4"]
    if not target.is_here:
        pytest.skip("needs gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm")
    found = devices.run(pretrained("cnn-nano"), target, images[-100:])
    assert found["images"] == 100
    assert found["differing"] == 0
    assert found["stack"] <= 512
    assert found["instructions"] <= 4_500_000
    # A fault is noticed.
    faulty = source.generate(pretrained("cnn-nano"), "prefix").replace("one / 2 + zero", "zero")
    with mock.patch.object(devices.source, "generate", return_value=faulty):
        assert devices.run(pretrained("cnn-nano"), target, images[-100:])["differing"] > 0


@pytest.mark.parametrize(
    ("architecture", "prefix"), [("cnn-nano", "cnn_nano"), ("_Net2", "net2"), ("Ünet", "net"), ("漢字", "model")]
)
def test_names_begin_with_the_architectures(architecture, prefix):
    model = load(pretrained("cnn-nano"), STATIC)
    provenance = structs.replace(model.contents.provenance, architecture=architecture)
    renamed = structs.replace(model, contents=structs.replace(model.contents, provenance=provenance))
    with mock.patch.object(source, "load", return_value=renamed):
        text = source.generate(pretrained("cnn-nano"))
    assert f"\nint {prefix}_logits(" in text
    assert f"#define {prefix.upper()}_ARENA" in text
    assert text.isascii()


@pytest.mark.parametrize("at_once", [2, 4])
@pytest.mark.parametrize("seed", range(20))
def test_no_output_overwrites_what_is_still_read(seed, at_once):
    """Every byte that a layer reads must still be that of its input, in the order of the C code."""
    random = np.random.default_rng(seed)
    size, layers = (28, 28, 1), []
    while min(size[:2]) > 3 and len(layers) < 5:
        kernel, outputs = random.integers(1, 5, 2), random.integers(1, 9)
        layer = Layer(
            name="conv",
            size=size,
            weights=np.ones((outputs, *kernel, size[2]), np.int8),
            bias=np.zeros(outputs, np.int32),
            step=np.ones(outputs, np.float32),
            zero_in=0,
            stride=tuple(random.integers(1, 3, 2)),
            padding=tuple(random.integers(0, 3, 4)),
            pool=tuple(random.integers(1, 3, 2)),
        )
        if min(layer.result) < 1:
            break
        layers.append(layer)
        size = layer.result
    layers.append(dataclasses.replace(layers[-1], size=size, weights=np.ones((2, *size), np.int8)))
    outs, room = memory.places(layers)
    for layer, start, place in zip(layers[1:-1], outs[:-1], outs[1:], strict=True):
        arena = np.full(room, -1)
        arena[start : start + math.prod(layer.size)] = np.arange(math.prod(layer.size))
        rows, columns, outputs = layer.result
        group = at_once if layer.pool == (1, 1) else 1
        for first in range(0, rows * columns, group):
            pixels = range(first, min(first + group, rows * columns))
            for byte in {byte for pixel in pixels for byte in seen(layer, *divmod(pixel, columns))}:
                assert arena[start + byte] == byte
            arena[place + first * outputs : place + (pixels[-1] + 1) * outputs] = -2
        assert (arena[place : place + rows * columns * outputs] == -2).all()


def seen(layer, row, column):
    """The bytes of its input that a layer reads for one output pixel."""
    height, width, channels = layer.size
    for y in range(layer.pool[0]):
        for x in range(layer.pool[1]):
            top = (row * layer.pool[0] + y) * layer.stride[0] - layer.padding[0]
            left = (column * layer.pool[1] + x) * layer.stride[1] - layer.padding[1]
            for i in range(max(0, top), min(height, top + layer.kernel[0])):
                for j in range(max(0, left), min(width, left + layer.kernel[1])):
                    yield from range((i * width + j) * channels, (i * width + j + 1) * channels)
