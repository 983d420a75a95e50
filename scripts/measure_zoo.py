"""Import and export networks as tutorials write them (tests/zoo.py), and print a table of every format.

    python scripts/measure_zoo.py [NETWORK …]

Each network is trained by tests/train_zoo.py on MNIST, its weights are saved, imported without a word about their
preprocessing, exported in all formats and compared with PyTorch on the whole test set. Weights and bundles stay in
artifacts/zoo, and weights that are there are not trained again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from mnist_edge.bundle.layout import ARTIFACTS, BY_DEFAULT
from mnist_edge.bundle.source import InputForm
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import MnistEdgeError
from mnist_edge.export import importing, pipeline
from mnist_edge.export.proof import Outcome
from mnist_edge.training import sources
from tests import train_zoo, zoo
from tests.zoo import Entry

FOLDER = Path(ARTIFACTS, "zoo")


def weights_of(entry: Entry, data: Dataset) -> Path:
    path = FOLDER / f"{entry.name}.pth"
    if not path.exists():
        print(f"training {entry.name}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train_zoo.train(entry, data.train.images, data.train.labels).state_dict(), path)
    return path


def measured(entry: Entry, data: Dataset) -> tuple[float, str, list[Outcome]]:
    """PyTorch's accuracy, the preprocessing that was found, and how each format fared."""
    folder = FOLDER / entry.name
    source = sources.find(f"{Path(zoo.__file__)}:{entry.name}", {}, InputForm(entry.input))
    found = importing.import_weights(weights_of(entry, data), source, folder, data=data, overwrite=True)
    outcomes: list[Outcome] = []
    try:
        pipeline.export(folder, data, report=outcomes.append)
    except MnistEdgeError as error:
        print(f"{entry.name}: {error}", file=sys.stderr)
    return found.record.test.accuracy, str(found.chosen.preparation), outcomes


def cell(outcome: Outcome) -> str:
    if outcome.parity is None:
        return f"left out: {outcome.error}" if outcome.left_out else f"failed: {outcome.error}"
    parity = outcome.parity
    figures = f"{parity.max_abs_diff:.1e}, {parity.flips}, {100 * parity.accuracy:.2f} %, {outcome.bytes / 1000:.0f} KB"
    return f"{figures} (failed)" if outcome.error else figures


def main(names: list[str]) -> None:
    data = datasets.load(datasets.DEFAULT)
    print("Each cell: largest |Δlogit|, flips, accuracy, size.\n")
    print(f"| network | found | PyTorch | {' | '.join(BY_DEFAULT)} |")
    print(f"|---|---|--:|{'---|' * len(BY_DEFAULT)}")
    for entry in zoo.ZOO:
        if not names or entry.name in names:
            accuracy, preparation, outcomes = measured(entry, data)
            cells = " | ".join(cell(outcome) for outcome in outcomes)
            right = "" if preparation == entry.normalization else " (wrong)"
            print(f"| `{entry.name}` | {preparation}{right} | {100 * accuracy:.2f} % | {cells} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
