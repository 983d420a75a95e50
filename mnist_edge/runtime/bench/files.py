"""Find what there is to measure in a model."""

import io
import os
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from PIL import Image

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.bundle.records import Latency, Parity
from mnist_edge.errors import ModelNotFoundError, UsageError
from mnist_edge.images import SAMPLES, decode, preprocess
from mnist_edge.runtime.bench.records import Candidate
from mnist_edge.runtime.describe import DescribedFile, State, describe
from mnist_edge.runtime.model import PRETRAINED, locate, open_model

PICTURE: Final = (1600, 1200)
"""Width and height of the photograph whose preparation is timed."""

SAMPLE: Final = "drawn-3.png"
"""The picture of `SAMPLES` that a model is measured with that has no golden vectors at hand."""


class Files(Struct, frozen=True, kw_only=True):
    """The files of a model."""

    place: Path
    """The bundle or the single file."""

    candidates: tuple[Candidate, ...]
    """Those that onnxruntime runs."""

    others: dict[Format, Candidate]
    """The others; it takes more than the runtime to open them."""

    missing: tuple[str, ...]
    """Those that the manifest lists and the bundle lacks, as it may on a device."""

    golden: Format | None
    """The format of an intact file with golden vectors, measured or not; None if there is none."""

    default: str | None
    """The file that answers by default; None if there is none."""

    recommended: str | None
    """The one that the manifest recommends."""


def find(target: str | os.PathLike[str], form: Format | None = None) -> Files:
    """The files of a bundle, a pretrained model or a single file, verified against their digests.

    Args:
        target: a bundle, an ``.onnx`` file or the name of a pretrained model.
        form: leave out files of other formats.

    Raises:
        ModelError: there is no such model, it is not exported yet, it holds no such file, or a file has changed since
            its export.
        UsageError: the single file is of another format.
    """
    place = Path(locate(target))
    facts = describe(place)
    wanted = {
        name: file
        for name, file in facts.files.items()
        if file.format is not UNSET and (form is None or file.format is form)
    }
    if place.is_dir():
        manifest = reading.read_manifest(place)
        for name in (name for name, file in wanted.items() if file.state is State.ALTERED):
            reading.read_verified(place, name, manifest)  # raises what every command says of it
    else:
        (single,) = facts.files.values()
        if not wanted:
            raise UsageError(f"{place}: is {single.format}, not {form}: leave the format out, or name another file")
    present = {name: file for name, file in wanted.items() if file.state is State.INTACT}
    if not present:
        named = form.file_name if form else facts.answers or "exported file"
        remedy = "name another format"
        if place.parent != Path(PRETRAINED):  # whose weights are not there
            remedy += (
                f", or run  mnist-edge export {place} --formats {form}" if form else f", or {reading.reexport(place)}"
            )
        raise ModelNotFoundError(f"{place}: holds no {named}: {remedy}")
    measured = {} if facts.measured is UNSET else facts.measured
    found = [_candidate(place, name, file, measured.get(name)) for name, file in present.items()]
    intact = [file.format for file in (present | facts.files).values() if file.state is State.INTACT]
    return Files(
        place=place,
        candidates=tuple(each for each in found if each.format in RUNNABLE),
        others={each.format: each for each in found if each.format not in RUNNABLE},
        missing=tuple(name for name, file in wanted.items() if file.state is State.MISSING),
        golden=next((each for each in intact if each is not UNSET and each in RUNNABLE), None),
        default=facts.answers,
        recommended=None if facts.recommended is UNSET else facts.recommended.file,
    )


def _candidate(place: Path, name: str, file: DescribedFile, latency: Latency | None) -> Candidate:
    assert isinstance(file.format, Format)
    parity: Parity | UnsetType = file.parity
    return Candidate(
        file=name,
        format=file.format,
        bytes=file.bytes,
        model=str(place),
        accuracy=None if parity is UNSET else parity.accuracy,
        accuracy_drop=None if parity is UNSET else parity.accuracy_drop,
        agreement=None if parity is UNSET else parity.agreement,
        max_abs_diff=None if parity is UNSET else parity.max_abs_diff,
        batch_dependence=None if latency is None else latency.batch_dependence,
    )


def sample(found: Files) -> tuple[bytes, bytes]:
    """What the files of a model are measured with: golden vectors, else a packaged digit; the first as a photograph.

    Returns:
        Raw pixels, uint8 [n, 28, 28], and a JPEG file of dark ink on lit paper.
    """
    if found.golden is None:
        images = preprocess(decode(Path(SAMPLES, SAMPLE)))[None]
    else:
        images = open_model(found.place, format=found.golden).contents.golden.images
    width, height = PICTURE
    digit = Image.fromarray(images[0].reshape(images.shape[-2:])).resize((height // 2, height // 2))
    ink = np.zeros((height, width), np.float32)
    top, left = height // 4, (width - height // 2) // 2
    ink[top : top + height // 2, left : left + height // 2] = np.asarray(digit, np.float32) / 255
    light = np.linspace(215, 170, width, dtype=np.float32) + np.linspace(10, -10, height, dtype=np.float32)[:, None]
    encoded = io.BytesIO()
    Image.fromarray((light * (1 - 0.8 * ink)).astype(np.uint8)).convert("RGB").save(encoded, "JPEG", quality=90)
    return images.tobytes(), encoded.getvalue()
