"""Train models with several seeds, export them, and print tables of accuracy and parity.

    python scripts/measure_models.py [SEEDS] [MODEL[=SEEDS] ...]

SEEDS is 5 unless it is given; a model's own number goes before: `cnn-nano=5 cnn=5 cnn-large=3`.

The first table shows the test accuracy after the last epoch; nothing is selected by it. The second compares each ONNX
file with PyTorch and with the float32 file of the same bundle. The bundles stay in artifacts/seeds: those that finished
with the current recipe are reused, interrupted trainings are resumed.
"""

import platform
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from msgspec import UNSET
from tables import markdown

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import ARTIFACTS, RUNNABLE, Format
from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.bundle.records import File, Manifest, Parity, TrainingRecord
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import ModelNotFoundError
from mnist_edge.export.pipeline import export
from mnist_edge.runtime.machine import processor_name
from mnist_edge.training import checkpoint
from mnist_edge.training.recipes import RECIPES, with_drawings
from mnist_edge.training.train import begin, finish, resume

SEEDS = Path(ARTIFACTS, "seeds")
USUAL = 5
"""Seeds of each architecture."""

Facts = tuple[TrainingRecord, Manifest]
"""A bundle's training record and manifest."""

Runs = dict[Architecture, list[Facts]]


def recipe_on(architecture: Architecture, data: Dataset) -> Recipe:
    """What `train` takes by default."""
    return with_drawings(RECIPES[architecture], data)


def is_made(folder: Path, recipe: Recipe) -> bool:
    if (folder / layout.CHECKPOINT).exists() or not (folder / layout.TRAINING).exists():
        return False
    training = reading.read_training(folder)
    return isinstance(training, TrainingRecord) and training.finished and training.recipe == recipe


def made(folder: Path, architecture: Architecture, seed: int, data: Dataset, recipe: Recipe) -> Facts:
    """Train and export a model, unless the folder holds it already."""
    if not is_made(folder, recipe):
        paused = checkpoint.load_paused(folder) if (folder / layout.CHECKPOINT).exists() else None
        if paused is not None and paused.recipe == recipe:
            run = resume(data, paused, folder)
        else:
            run = begin(data, architecture, recipe, folder, seed=seed, overwrite=True)
        with run as training:
            finish(training, data, folder)
    manifest = reading.read_manifest(folder) if (folder / layout.MANIFEST).exists() else export(folder, data)
    print(f"{folder}: {100 * manifest.pytorch.accuracy:.2f} %", file=sys.stderr, flush=True)
    record = reading.read_training(folder)
    assert isinstance(record, TrainingRecord)
    return record, manifest


def kept(data: Dataset, needed: Iterable[str]) -> Runs:
    """The bundles of an earlier run that finished with the current recipe.

    Raises:
        ModelNotFoundError: if there are none of an architecture in `needed`. Others may be missing.
    """
    found = {architecture: kept_of(architecture, recipe_on(architecture, data)) for architecture in Architecture}
    missing = [name for name in needed if not found[Architecture(name)]]
    if missing:
        raise ModelNotFoundError(
            f"{SEEDS}: holds no {' and no '.join(missing)} of the current recipe: "
            f"run  python scripts/measure_models.py {USUAL} {' '.join(missing)}"
        )
    return {architecture: facts for architecture, facts in found.items() if facts}


def kept_of(architecture: Architecture, recipe: Recipe) -> list[Facts]:
    found: list[Facts] = []
    for folder in sorted(SEEDS.glob(f"{architecture}-*")):
        if folder.name.removeprefix(f"{architecture}-").isdigit() and is_made(folder, recipe):
            record = reading.read_training(folder)
            assert isinstance(record, TrainingRecord)
            found.append((record, reading.read_manifest(folder)))
    return found


def mean_and_spread(percents: list[float]) -> str:
    spread = f" ± {statistics.stdev(percents):.3f}" if len(percents) > 1 else ""
    return f"{statistics.mean(percents):.3f}{spread}"


def accuracy_row(architecture: Architecture, runs: list[Facts]) -> list[str]:
    accuracies = [100 * manifest.pytorch.accuracy for _, manifest in runs]
    training, manifest = runs[0]
    size = manifest.files[Format.INT8_STATIC.file_name].bytes
    quickest = min(epoch.seconds for training, _ in runs for epoch in training.epochs)
    threads = {training.machine.threads for training, _ in runs}
    return [
        f"`{architecture}`",
        f"{training.parameters:,}",
        f"{size / 1000:.1f} KB",
        f"{len(runs)}",
        f"{mean_and_spread(accuracies)} %",
        f"{min(accuracies):.2f}…{max(accuracies):.2f}",
        f"{quickest:.1f} s ({'/'.join(map(str, sorted(threads)))})",
        f"{training.recipe.epochs}",
    ]


def parity_of(file: File) -> Parity:
    assert file.parity is not UNSET
    return file.parity


def file_row(architecture: Architecture, runs: list[Facts], form: Format) -> list[str]:
    name, exact = form.file_name, Format.ONNX.file_name
    manifests = [manifest for _, manifest in runs]
    files = [manifest.files for manifest in manifests]
    measured = [manifest.measured for manifest in manifests]
    drops = [100 * (parity_of(each[exact]).accuracy - parity_of(each[name]).accuracy) for each in files]
    return [
        f"`{architecture}`: `{name}`",
        f"{statistics.median(each[name].bytes / each[exact].bytes for each in files):.2f}",
        f"{statistics.mean(drops):.3f}",
        f"{100 * min(parity_of(each[name]).agreement for each in files):.2f} %",
        f"{max(each[name].batch_dependence for each in measured):.1g}",
        f"{statistics.median(each[name].microseconds for each in measured):.0f} µs",
        f"{statistics.median(each[name].microseconds / each[exact].microseconds for each in measured):.2f}",
        f"{sum(getattr(each.recommended, 'file', None) == name for each in manifests)} of {len(runs)}",
    ]


def accuracy_table(runs: Runs) -> list[str]:
    """Size, test accuracy and training time of each architecture, in Markdown."""
    return markdown(
        ["model", "parameters", "int8-static", "n", "test accuracy", "range", "quickest epoch (threads)", "epochs"],
        [accuracy_row(architecture, facts) for architecture, facts in runs.items()],
    )


def file_table(runs: Runs) -> list[str]:
    """Each ONNX file compared with the float32 file of its bundle, in Markdown."""
    return markdown(
        ["file", "size", "accuracy drop", "least agreement", "batch Δ", "one image", "against float32", "recommended"],
        [file_row(each, facts, form) for each, facts in runs.items() for form in Format if form in RUNNABLE],
    )


def versions(runs: Runs) -> str:
    """What trained the models, as in "mnist-edge 0.1.0, torch 2.14.1+cu130"."""
    trained = [record.versions for facts in runs.values() for record, _ in facts]
    told = {name: sorted({each[name] for each in trained if name in each}) for name in ("mnist-edge", "torch")}
    return ", ".join(f"{name} {' and '.join(numbers)}" for name, numbers in told.items())


def asked(arguments: list[str]) -> dict[Architecture, int]:
    """The number of seeds of each architecture that a command line asks for."""
    usual, names = USUAL, arguments
    if arguments and arguments[0].isdigit():
        usual, names = int(arguments[0]), arguments[1:]
    parts = [name.partition("=") for name in names or Architecture]
    return {Architecture(name): int(seeds or usual) for name, _, seeds in parts}


def main(wanted: dict[Architecture, int]) -> None:
    data = datasets.load(datasets.DEFAULT)
    runs = {
        each: [made(SEEDS / f"{each}-{seed}", each, seed, data, recipe_on(each, data)) for seed in range(seeds)]
        for each, seeds in wanted.items()
    }
    print(
        f"{processor_name()}, {platform.python_implementation()} {platform.python_version()}, torch {torch.__version__}"
    )
    print("\n".join(["", *accuracy_table(runs), "", *file_table(runs)]))


if __name__ == "__main__":
    main(asked(sys.argv[1:]))
