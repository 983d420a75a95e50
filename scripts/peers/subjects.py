"""The models that the peers run: a bundle, what is made from it for them, and PyTorch's answers."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import ARTIFACTS, Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.data import datasets
from mnist_edge.errors import UsageError
from mnist_edge.export.graph import raw_pixels
from mnist_edge.export.parity import in_batches, run_module
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.training import checkpoint
from mnist_edge.training.recipes import FAST
from peers.environments import OWN_COMMAND, UnavailableError, make, run
from peers.table import CONVERTING, Peer, Source

USUAL = (Architecture.CNN, Architecture.CNN_NANO, Architecture.SIMPLE_NN)
"""What is compared if nothing is named."""

FORMATS = (Format.ONNX, Format.INT8_STATIC)
"""The files that peers are given."""

BATCH = 256
"""Images in a batch; the programs that are compiled or converted for a fixed batch are made for it (`protocol.py`)."""

COMPARED = 1000
"""How many of the first test images are compared with PyTorch."""


@dataclass(frozen=True)
class Subject:
    """A model in all its forms."""

    name: str
    bundle: Path
    made: Path
    """What is made from it, and the images."""

    logits: NDArray[np.float32]
    """PyTorch's answers to the first test images, float32 [COMPARED, classes]."""

    @property
    def images(self) -> dict[int, Path]:
        """Files of raw pixels by their number of images."""
        return {count: self.made / f"images-{count}" for count in (1, BATCH, COMPARED)}

    def source(self, peer: Peer, form: Format, cache: Path) -> Path:
        """What a peer opens; converted if it is not there yet.

        Raises:
            UnavailableError: it cannot be made.
        """
        if peer.source is Source.ONNX:
            return self.bundle / form.file_name
        if peer.source is Source.BUNDLE:
            return self.bundle
        if peer.source is Source.TORCHSCRIPT:
            return self.bundle / Format.TORCHSCRIPT.file_name
        self._convert("convert_pytorch.py", OWN_COMMAND)
        program, environment = CONVERTING[peer.source]
        self._convert(program, make(environment, cache)[0])
        return self.made

    def _convert(self, program: str, command: list[str]) -> None:
        mark = self.made / f"{program}.made"
        if not mark.exists():
            script = Path(__file__).parents[1] / "engines" / program
            try:
                run([*command, str(script), str(self.bundle), str(self.made)], self.made)
            except UnavailableError as error:
                raise UnavailableError(f"{program}: {error}") from error
            mark.touch()


def subject(name: str, cache: Path) -> Subject:
    """A model by the name of an architecture, or by the folder of its bundle.

    Raises:
        MnistEdgeError: it cannot be read.
    """
    bundle = bundle_of(name)
    trained = checkpoint.load(bundle)
    made = cache / "models" / f"{bundle.name}-{trained.training.model_sha256[:12]}"
    made.mkdir(parents=True, exist_ok=True)
    images = datasets.load(datasets.DEFAULT).test.images[:COMPARED, None]
    found = Subject(name, bundle, made, in_batches(run_module(raw_pixels(trained)), images, CHUNK))
    for count, file in found.images.items():
        file.write_bytes(images[:count].tobytes())
    return found


def bundle_of(name: str) -> Path:
    """The bundle of an architecture, by its short recipe if it has one; trained and exported if it is not there yet."""
    if Path(name).is_dir():
        return Path(name).resolve()
    if name not in [*Architecture]:
        raise UsageError(f"{name}: neither a bundle nor an architecture: choose from {', '.join(Architecture)}")
    folder = Path(ARTIFACTS, "engines", name).resolve()
    if not (folder / layout.MANIFEST).exists():
        short = ["--fast"] if Architecture(name) in FAST else []
        mnist_edge(["train", "--model", name, "--out", str(folder), "--overwrite", *short])
        mnist_edge(["export", str(folder)])
    reading.read_manifest(folder)
    return folder


def mnist_edge(arguments: Sequence[str]) -> None:
    print("mnist-edge", *arguments, file=sys.stderr, flush=True)
    subprocess.run([*OWN_COMMAND, "-m", "mnist_edge", *arguments, "-q"], check=True, stdout=subprocess.DEVNULL)
