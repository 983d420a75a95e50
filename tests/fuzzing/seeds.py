"""Valid inputs, made by the project's own writers, from which fuzzing starts."""

import functools
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.decoding import plain
from mnist_edge.data import idx

TESTS: Final = Path(__file__).parents[1]
PRETRAINED: Final = TESTS.parent / "mnist_edge" / "pretrained"
SAMPLES: Final = TESTS.parent / "mnist_edge" / "samples"


@functools.cache
def digits() -> NDArray[np.uint8]:
    """Six strokes that look like digits, uint8 [6, 28, 28], the same on every machine."""
    images = np.zeros((6, 28, 28), np.uint8)
    for index, image in enumerate(images):
        image[5:24, 10 + index : 13 + index] = 255
        image[4 + 3 * index : 7 + 3 * index, 6:22] = 200
    return images


LABELS: Final = np.array([0, 1, 0, 1, 0, 1], np.uint8)


def idx_images() -> Iterator[bytes]:
    yield idx.encode(digits())
    yield idx.encode(digits()[:0])
    yield gzip.compress(idx.encode(digits()), mtime=0)
    yield gzip.compress(b"", mtime=0) + gzip.compress(idx.encode(digits()), mtime=0)


def idx_labels() -> Iterator[bytes]:
    yield idx.encode(LABELS)
    yield gzip.compress(idx.encode(LABELS), mtime=0)


def names() -> Iterator[bytes]:
    yield b"zero\none\n"
    yield "null\r\neins\r\nzwölf".encode()


def csv() -> Iterator[bytes]:
    rows = np.column_stack([LABELS, digits().reshape(6, -1)])[:4]
    lines = [",".join(map(str, row)) for row in rows.tolist()]
    header = ",".join(["label", *(f"pixel{number}" for number in range(784))])
    yield "\n".join([header, *lines]).encode()
    yield "\r\n".join([*lines, ""]).encode("utf-8-sig")
    yield "\n".join(";".join([*line.split(",")[1:], line.split(",")[0]]) for line in lines).encode()
    yield "\n".join(",".join(f'"{cell}.0"' for cell in line.split(",")) for line in lines).encode()
    yield "\n".join(line.partition(",")[2] for line in lines).encode()


def npy() -> Iterator[bytes]:
    for array in (digits(), digits()[:, None], digits()[0], np.asfortranarray(digits()), digits().astype(np.int64)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        yield buffer.getvalue()
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, digits(), version=(2, 0))
    yield buffer.getvalue()


def manifests() -> Iterator[bytes]:
    for name in ("cnn", "cnn-nano"):
        yield (PRETRAINED / name / "manifest.json").read_bytes()
    yield (TESTS / "made_by_0_1_0" / "manifest.json").read_bytes()


def trainings() -> Iterator[bytes]:
    """Of this version and of 0.1.0, and what `import` writes."""
    from mnist_edge.bundle import reading

    yield (TESTS / "made_by_0_1_0" / "training.json").read_bytes()
    trained = plain(reading.read_training(TESTS / "made_by_0_1_0")) | {"version": 3}
    yield json.dumps(trained).encode()
    shared = ("architecture", "parameters", "labels", "preprocessing", "data", "model_sha256", "versions")
    imported = {name: trained[name] for name in shared} | {
        "kind": "imported",
        "version": 3,
        "source": {"place": "net.py:Net", "arguments": {"width": 32}, "sha256": "0" * 64, "input": "flat"},
        "ending": "log-softmax",
        "weights": {"name": "weights.pth", "sha256": "0" * 64},
        "normalization": {"mean": 0.1307, "std": 0.3081},
        "inverted": False,
        "transposed": True,
        "test": trained["epochs"][0]["test"],
    }
    yield json.dumps(imported).encode()


def metadata(key: str) -> Iterator[bytes]:
    """The metadata of that key in the exported files that ship with the package."""
    import onnx

    for name in ("cnn", "cnn-nano"):
        for file in ("model.onnx", "model.int8-static.onnx"):
            model = onnx.load_model(PRETRAINED / name / file)
            yield {entry.key: entry.value for entry in model.metadata_props}[key].encode()


def models() -> Iterator[bytes]:
    for file in ("model.onnx", "model.int8-static.onnx"):
        yield (PRETRAINED / "cnn-nano" / file).read_bytes()


def pictures(form: str) -> Iterator[bytes]:
    """Pictures in one of Pillow's formats: grey, coloured, transparent, of few colours, of several pages."""
    from PIL import Image

    sheet = Image.fromarray(255 - np.hstack([np.pad(image, 6) for image in digits()[:3]]))
    colours = {
        "PNG": ("L", "RGB", "RGBA", "LA", "P", "1", "I;16"),
        "JPEG": ("L", "RGB", "CMYK"),
        "BMP": ("L", "RGB", "1", "P"),
        "GIF": ("L", "P"),
        "PPM": ("L", "RGB", "1"),
        "TIFF": ("L", "RGB", "RGBA", "1", "I;16", "F", "CMYK"),
        "WEBP": ("RGB", "RGBA"),
    }[form]
    for mode in colours:
        picture = sheet.convert("I").convert(mode) if mode == "I;16" else sheet.convert(mode)
        yield _saved(picture, form)
    small = Image.fromarray(digits()[0])
    match form:
        case "JPEG":
            yield _saved(sheet, form, progressive=True)
            yield _saved(sheet, form, exif=_rotated())
        case "PNG":
            yield _saved(small, form)
            yield _saved(sheet, form, exif=_rotated())
            yield _saved(small, form, save_all=True, append_images=[small.rotate(90)])
        case "GIF" | "WEBP":
            yield _saved(small, form, save_all=True, append_images=[small.rotate(90)], duration=40)
        case "TIFF":
            yield _saved(small, form, save_all=True, append_images=[small.rotate(90), sheet])
            for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
                yield _saved(sheet, form, compression=compression)
            yield _saved(sheet.convert("1"), form, compression="group4")
        case "PPM":
            text = " ".join(map(str, digits()[0].reshape(-1).tolist()))
            yield f"P2 28 28 255 {text}".encode()
            yield b"Pf 4 4 -1.0\n" + np.linspace(0, 1, 16, dtype="<f4").tobytes()
        case _:
            yield _saved(small, form)


def _saved(picture: object, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)  # type: ignore[attr-defined]  # a Pillow image
    return buffer.getvalue()


def _rotated() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def weights() -> Iterator[bytes]:
    """State_dicts of a linear layer, in each form that is read."""
    import torch

    layers = {"weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "bias": torch.ones(2)}
    contents: tuple[object, ...] = (
        layers,
        {"model": {f"module.{name}": tensor.double() for name, tensor in layers.items()}, "epoch": 3},
    )
    for content in contents:
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            yield buffer.getvalue()
    safetensors = __import__("safetensors.torch").torch
    yield safetensors.save(layers)


def small_weights(folder: Path) -> None:
    """Put the weights that belong to the first of `trainings` into a folder."""
    (folder / "model.pth").write_bytes((TESTS / "made_by_0_1_0" / "model.pth").read_bytes())
