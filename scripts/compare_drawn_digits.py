"""Compare trainings of `cnn-nano` without drawn digits, with half of the recipe's share, and with all of it.

    python scripts/compare_drawn_digits.py [SEEDS]

SEEDS is 3 unless it is given. The trainings differ in nothing else. The share was chosen before, by other forms and
held-out images (docs/experiments.md); this only reports. Accuracies in percent: of MNIST's test images, of
the judged forms of digits (`tests.handwriting`) framed and as pictures, and of the groups of corruptions. The bundles
stay in artifacts, those with the whole share where measure_models.py leaves its own.
"""

import sys
from pathlib import Path

from measure_corruptions import groups, means, measured
from measure_handwriting import measured as forms
from measure_handwriting import summary
from measure_models import SEEDS, made, mean_and_spread, recipe_on
from msgspec import structs
from tables import markdown

from mnist_edge import Classifier
from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.data import datasets

MODEL = Architecture.CNN_NANO


def main(seeds: int) -> None:
    data = datasets.load(datasets.DEFAULT)
    whole = recipe_on(MODEL, data)
    places = {"none": Path(ARTIFACTS, "seeds-drawn-none"), "half": Path(ARTIFACTS, "seeds-drawn-half"), "all": SEEDS}
    columns: dict[str, dict[str, list[float]]] = {}
    for (words, place), part in zip(places.items(), (0, 0.5, 1), strict=True):
        recipe = structs.replace(whole, drawn_digits=part * whole.drawn_digits)
        folders = [place / f"{MODEL}-{seed}" for seed in range(seeds)]
        for seed, folder in enumerate(folders):
            made(folder, MODEL, seed, data, recipe)
        models = [Classifier(folder) for folder in folders]
        corrupted = measured(models, data.test)
        judged = summary(forms(models))
        of_groups = [row for group in groups() for row in means(corrupted, group).items()]
        columns[f"{words} ({recipe.drawn_digits:g})"] = {
            "MNIST": corrupted["clean"],
            "judged forms, framed": [one.framed for one in judged],
            "judged forms, pictures": [one.pictures for one in judged],
        } | dict(of_groups)
    rows = [
        [name, *(mean_and_spread(column[name]) for column in columns.values())] for name in next(iter(columns.values()))
    ]
    print("\n".join(markdown([f"`{MODEL}`, {seeds} seeds", *columns], rows)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
