"""The command `import`.

Heavy modules are imported inside the functions, so that ``--help`` is quick.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import ValidationError, convert

from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.cli import completion
from mnist_edge.cli.data import check_data, load_data
from mnist_edge.cli.display import print_json, print_table
from mnist_edge.cli.failures import FAILED, Failed, complain
from mnist_edge.cli.models import chosen_model
from mnist_edge.cli.options import OWN_MODEL, Input, Json, ModelArguments
from mnist_edge.cli.output import counted, note, say, suggest, warn
from mnist_edge.cli.progress import StepProgress
from mnist_edge.cli.pytorch import foreign_prints_on_stderr, load_pytorch
from mnist_edge.contract import NORMALIZATIONS, Normalization
from mnist_edge.errors import UndecidedError, UsageError
from mnist_edge.names import choose
from mnist_edge.training.checks import check_folder, check_name

if TYPE_CHECKING:
    from mnist_edge.export.importing import Import


def import_weights(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="A state_dict that torch.save wrote, alone or in a checkpoint.")
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.py:CLASS",
            autocompletion=completion.architectures,
            help=f"What the weights belong to: {', '.join(Architecture)}, or {OWN_MODEL}",
        ),
    ],
    model_args: ModelArguments = None,
    input: Input = None,  # noqa: A002  # the option's name
    normalization: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(NORMALIZATIONS)}>",
            autocompletion=completion.normalizations,
            help="Normalization that the weights were trained with: 0…1, mean 0.1307 and std 0.3081, -1…1, or 0…255.  "
            "[default: found on training images]",
        ),
    ] = None,
    mean: Annotated[float | None, typer.Option(help="Mean of another normalization, of pixels in 0…1.")] = None,
    std: Annotated[float | None, typer.Option(help="Standard deviation of another normalization.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Class names, separated by commas.  [default: those of the data]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.data,
            help="Data that the model was trained for.  [default: $MNIST_EDGE_DATA or mnist]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle.  [default: artifacts/ and the model's name]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    json: Json = False,
) -> None:
    """Import weights trained elsewhere.

    Writes the first half of a bundle, as train does; export completes it. The normalization that the weights need is
    found on training images unless given: the wrong one would cost accuracy without a word.
    """
    given = _normalization(normalization, mean, std)
    chosen = chosen_model(model, model_args, input)
    folder = Path(ARTIFACTS, chosen.folder_name) if out is None else out
    check_folder(folder, overwrite=overwrite)
    check_name(weights)
    check_data(data)
    note(f"importing {weights}")
    load_pytorch()
    from mnist_edge.export import importing, preprocessing

    architecture = chosen.located()
    dataset = load_data(data)
    try:
        with foreign_prints_on_stderr(), StepProgress() as progress, progress.doing("comparing preprocessings"):
            found = importing.import_weights(
                weights,
                architecture,
                folder,
                data=dataset,
                given=given,
                labels=None if labels is None else [label.strip() for label in labels.split(",")],
                overwrite=overwrite,
            )
    except UndecidedError as error:
        if not json:
            print_table(preprocessing.HEADER, error.trials)
        complain(error)
        raise Failed(str(error), FAILED, {"preprocessings": error.trials}) from error
    _report(found, folder, json=json)


def _normalization(name: str | None, mean: float | None, std: float | None) -> Normalization | None:
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std belong together: give both")
    if name is not None:
        if mean is not None:
            raise UsageError("--normalization and --mean exclude each other: give one of them")
        return NORMALIZATIONS[choose(name, tuple(NORMALIZATIONS), "normalization")]
    if mean is None or std is None:
        return None
    try:
        return convert({"mean": mean, "std": std}, Normalization)
    except ValidationError as error:
        raise UsageError(f"mean {mean:g} and std {std:g}: give finite numbers, and a std above 0 ({error})") from error


def _report(found: "Import", folder: Path, *, json: bool) -> None:
    record = found.record
    if json:
        print_json({"bundle": str(folder), **plain(record)})
        return
    for line in found.weights.changes:
        note(line)
    others = [trial for trial in found.trials if trial is not found.chosen]
    note(
        f"preprocessing: {found.chosen.preparation} (cross-entropy {found.chosen.losses.mean():.4f} on training "
        f"images; next best {others[0].losses.mean():.4f}, {others[0].preparation})"
    )
    if found.better is not None:
        warn(
            f"{found.better.preparation} fits far better (cross-entropy {found.better.losses.mean():.4f}, accuracy "
            f"{100 * (1 - found.better.errors.mean()):.2f} %): leave out --normalization, --mean and --std to take it"
        )
    say(f"{folder}: {100 * record.test.accuracy:.2f} % of {counted(record.test.total, 'test image')} correct")
    suggest("export", folder)
