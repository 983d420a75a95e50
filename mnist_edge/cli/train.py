"""The command `train`.

Heavy modules are imported inside the functions, so that ``--help`` is quick.
"""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec import structs

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.places import require_folder
from mnist_edge.bundle.recipe import Architecture, OptimizerName, Recipe, Schedule
from mnist_edge.bundle.writing import require_free
from mnist_edge.cli import completion, folders
from mnist_edge.cli.data import check_data, load_data, load_recorded
from mnist_edge.cli.display import in_brief, print_json
from mnist_edge.cli.failures import NOTHING_CHANGED, if_interrupted
from mnist_edge.cli.models import ChosenModel, chosen_model
from mnist_edge.cli.options import OWN_MODEL, Input, Json, ModelArguments
from mnist_edge.cli.output import command, counted, detail, note, say, suggest, warn
from mnist_edge.cli.progress import TrainingProgress, tensorboard
from mnist_edge.cli.pytorch import foreign_prints_on_stderr, load_pytorch
from mnist_edge.contract import Preprocessing
from mnist_edge.errors import UsageError
from mnist_edge.extras import require
from mnist_edge.names import choose, is_unicode
from mnist_edge.training.checks import check_folder
from mnist_edge.training.memory import keep_freed
from mnist_edge.training.recipes import DEFAULT_LR, FAST, ON_MNIST, OWN, RECIPES, check_recipe, suited, with_drawings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnist_edge.bundle.records import Epoch
    from mnist_edge.data.datasets import Dataset
    from mnist_edge.training.loop import Training


def _described(model: Architecture) -> str:
    recipe = RECIPES[model]
    epochs = counted(recipe.epochs, "epoch")
    return f"  {model:10}  {model.layers}; {epochs}, {recipe.optimizer}, lr {recipe.lr:g}"


ARCHITECTURES: Final = "\n".join(["\b\nArchitectures and their recipes:", *map(_described, Architecture)])

_RECORDS: Final = (layout.CHECKPOINT, layout.TRAINING)


def train(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.py:CLASS",
            autocompletion=completion.architectures,
            help=f"Architecture, which also selects the recipe: {', '.join(Architecture)}, or {OWN_MODEL}  "
            "[default: cnn]",
        ),
    ] = None,
    model_args: ModelArguments = None,
    input: Input = None,  # noqa: A002  # the option's name
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.data,
            help="Data set: a name such as mnist, a folder of IDX files or images, or a CSV file.  "
            "[default: $MNIST_EDGE_DATA or mnist]",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the bundle.  [default: artifacts/<model>]")] = None,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Use the short recipe, of two epochs: slightly less accurate."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted training in the bundle, with its recipe.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing bundle once the first epoch is finished."),
    ] = False,
    log_dir: Annotated[Path | None, typer.Option(help="Folder for a TensorBoard log of every epoch.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Seed for initial weights, image order and augmentation.  [default: 0]"
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="PyTorch device: cpu, cuda or mps.  [default: cpu; with --resume, the original one]"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Threads to compute on.  [default: $MNIST_EDGE_THREADS, or else 1 for simple-nn and sigmoid-nn and "
            "one per core for the others; with --resume, the original number]",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; with one-cycle, its peak.")] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(OptimizerName)}>", autocompletion=completion.optimizers, help="PyTorch optimizer."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(Schedule)}>", autocompletion=completion.schedules, help="Learning rate schedule."
        ),
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="Nesterov momentum, for SGD only.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Share of each target spread over all classes.")] = None,
    augment: Annotated[bool | None, typer.Option(help="Distort some training images at random.")] = None,
    drawn_digits: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of each batch, below 1, to replace with drawn digits in forms from outside the United "
            f"States.  [default: {ON_MNIST['drawn_digits']:g} on MNIST with --augment, else 0]",
        ),
    ] = None,
    outliers: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Random strokes to add to each batch, as a share of it, 0 to 1. The model learns to be unsure of "
            f"them.  [default: {ON_MNIST['outliers']:g} on MNIST with --augment, else 0]",
        ),
    ] = None,
    ema_decay: Annotated[
        float | None, typer.Option(help="Decay of the weights' exponential moving average (EMA); 0 for none.")
    ] = None,
    calibration_split: Annotated[
        int | None,
        typer.Option(help="Hold out one in this many training images for calibration; 0 for none."),
    ] = None,
    autocast: Annotated[bool | None, typer.Option(help="Compute in bfloat16 if the processor supports it.")] = None,
    json: Json = False,
) -> None:
    """Train a model.

    Writes the weights and the training record to the bundle after every epoch; export completes the bundle. Recipe
    options that are not given keep the values of the architecture's recipe.
    """
    chosen = None if model is None and resume else chosen_model(model or Architecture.CNN, model_args, input)
    given = {
        name: value
        for name, value in {
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "optimizer": None if optimizer is None else choose(optimizer, tuple(OptimizerName), "optimizer"),
            "schedule": None if schedule is None else choose(schedule, tuple(Schedule), "schedule"),
            "momentum": momentum,
            "weight_decay": weight_decay,
            "label_smoothing": label_smoothing,
            "augment": augment,
            "drawn_digits": drawn_digits,
            "outliers": outliers,
            "ema_decay": ema_decay,
            "calibration_split": calibration_split,
            "autocast": autocast,
        }.items()
        if value is not None
    }
    folder = Path(ARTIFACTS, chosen.folder_name if chosen else Architecture.CNN) if out is None else out
    require_folder(folder, "--out")
    require_free(folder)
    if resume:
        beside = {"seed": seed is not None, "fast": fast, "overwrite": overwrite}
        _refuse_beside_resume([*given, *(name for name, is_given in beside.items() if is_given)])
        if _is_finished(folder):
            note(f"{folder}: its training is finished, there is nothing to resume")
            _report(folder, json)
            return
    from mnist_edge.runtime.threads import asked_threads

    # A resumed training heeds only the option: its weights shall be those of an uninterrupted one.
    threads = asked_threads(threads) if threads is not None or not resume else None
    if log_dir is not None:
        require("tensorboard", extra="tensorboard")
        if not is_unicode(str(log_dir)):  # which TensorBoard cannot write
            raise UsageError(f"{log_dir}: is not UTF-8: choose another --log-dir")
        require_folder(log_dir, "--log-dir")
    keep_freed()
    if resume:
        run = _resumed(folder, chosen, data, device, threads)
    else:
        assert chosen is not None
        run = _begun(
            folder,
            chosen,
            given,
            data,
            fast=fast,
            seed=seed or 0,
            device=device or "cpu",
            threads=threads,
            overwrite=overwrite,
        )
    before = folders.stamps(folder, _RECORDS)
    with if_interrupted(lambda: _what_holds(folder, before)):
        with foreign_prints_on_stderr(), run as (training, dataset):
            _announce(training, dataset)
            _finish(training, dataset, folder, log_dir)
        _report(folder, json)


def _what_holds(folder: Path, before: folders.Stamps) -> str:
    """What holds after an interruption, as the bundle itself tells."""
    if folders.stamps(folder, _RECORDS) == before:
        return NOTHING_CHANGED
    if not (folder / layout.CHECKPOINT).exists():
        return f"{folder} holds the finished model"
    from mnist_edge.training.checkpoint import load_paused

    done = load_paused(folder).finished_epochs
    holds = f"{folder} holds the model of epoch {done}" if done else "no epoch was finished"
    return f"{holds}; resume with  {command('train', '--resume', '--out', folder)}"


def _refuse_beside_resume(names: list[str]) -> None:
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise UsageError(f"--resume continues the training with its original settings: leave out {options}")


def _is_finished(folder: Path) -> bool:
    if (folder / layout.CHECKPOINT).exists() or not (folder / layout.TRAINING).exists():
        return False
    return reading.read_training(folder).finished  # a diverged training is not finished, and cannot be resumed


@contextlib.contextmanager
def _resumed(
    folder: Path, model: ChosenModel | None, data: str | None, device: str | None, threads: int | None
) -> "Iterator[tuple[Training, Dataset]]":
    reading.require_paused(folder)
    if data:
        check_data(data)
    note(f"resuming the training in {folder}")
    load_pytorch()
    from mnist_edge.training import checkpoint
    from mnist_edge.training.train import resume

    paused = checkpoint.load_paused(folder)
    if model is not None and model.located() != paused.architecture:
        raise UsageError(f"{folder}: holds an interrupted training of {paused.name}: leave out --model")
    dataset = load_data(data) if data else load_recorded(paused.source)
    with resume(dataset, paused, folder, device=device, threads=threads) as training:
        yield training, dataset


@contextlib.contextmanager
def _begun(
    folder: Path,
    model: ChosenModel,
    given: dict[str, Any],
    data: str | None,
    *,
    fast: bool,
    seed: int,
    device: str,
    threads: int | None,
    overwrite: bool,
) -> "Iterator[tuple[Training, Dataset]]":
    recipe = _recipe(model.architecture, given, fast=fast)
    check_recipe(recipe)
    check_folder(folder, overwrite=overwrite)
    check_data(data)
    note(f"training {model.text} in {folder}")
    load_pytorch()
    from mnist_edge.runtime.limits import usable_cpus
    from mnist_edge.training.threads import suited_threads
    from mnist_edge.training.train import begin

    architecture = model.located()
    threads = threads or suited_threads(architecture, usable_cpus())
    dataset = load_data(data)
    recipe = with_drawings(recipe, dataset, but=given)
    if given.keys().isdisjoint({"epochs", "batch_size", "lr"}):
        recipe = suited(recipe, len(dataset.train))
    with begin(
        dataset, architecture, recipe, folder, seed=seed, device=device, threads=threads, overwrite=overwrite
    ) as training:
        yield training, dataset


def _recipe(model: Architecture | None, given: dict[str, Any], *, fast: bool) -> Recipe:
    if fast and model not in FAST:
        whose = model or "a class of your own"
        raise UsageError(f"{whose} has no short recipe, only {', '.join(FAST)} have one: leave out --fast")
    recipe = OWN if model is None else FAST[model] if fast else RECIPES[model]
    changes = dict(given)
    if changes.get("momentum") and changes.get("optimizer", recipe.optimizer) is not OptimizerName.SGD:
        raise UsageError("--momentum works only with SGD: leave it out, or add  --optimizer sgd")
    if changes.get("optimizer", recipe.optimizer) is not recipe.optimizer and "lr" not in changes:
        # The recipe's rate was chosen for the recipe's optimizer.
        changes["lr"] = DEFAULT_LR[changes["optimizer"]]
    return structs.replace(recipe, **changes)


def _announce(training: "Training", data: "Dataset") -> None:
    recipe = training.recipe
    fitted, split = data.train.hold_out(recipe.calibration_split)
    set_aside = f", {len(split):,} calibration" if len(split) else ""
    if recipe.calibration_split and not len(split):
        warn(
            f"too few images to hold out one in {recipe.calibration_split} for calibration: the probabilities will not "
            "be calibrated and there will be no out-of-distribution score"
        )
    note(
        f"{data.name}: {len(fitted):,} training{set_aside} and {counted(len(data.test), 'test image')}, "
        f"{counted(len(data.labels), 'class')}"
    )
    note(f"{training.name}: {in_brief(recipe)}")
    if recipe.drawn_digits or recipe.outliers:
        note(f"drawn images: {100 * recipe.drawn_digits:g} % digits, {100 * recipe.outliers:g} % random strokes")
        if data.preprocessing is not Preprocessing.MNIST:
            warn("drawn images are centred and sized as MNIST's digits are, and the images of these data are not")
    import torch

    dtype = "bfloat16" if training.in_bfloat16 else "float32"
    threads = counted(torch.get_num_threads(), "thread")
    detail(f"computing on {training.device}, {threads}, in {dtype}, seed {training.seed}")
    if training.epochs:
        note(f"resuming after epoch {len(training.epochs)}")


def _finish(training: "Training", data: "Dataset", folder: Path, log_dir: Path | None) -> None:
    from mnist_edge.evaluation.chance import is_near_chance
    from mnist_edge.training.train import finish

    with (
        TrainingProgress(training.recipe.epochs) as progress,
        tensorboard(log_dir, len(training.epochs)) as log,
    ):

        def on_epoch(epoch: "Epoch") -> None:
            progress.epoch(epoch)
            log(epoch)

        finish(training, data, folder, on_batch=progress.batch, on_epoch=on_epoch)
    if is_near_chance(training.epochs[-1].test, data.test.labels):
        warn("the model is hardly better than guessing: train for more epochs, lower --lr, or check the labels")


def _report(folder: Path, json: bool) -> None:
    record = reading.read_training(folder)
    if json:
        print_json({"bundle": str(folder), **plain(record)})
        return
    test = record.test
    say(f"{folder}: {100 * test.accuracy:.2f} % of {counted(test.total, 'test image')} correct")
    suggest("export", folder)
