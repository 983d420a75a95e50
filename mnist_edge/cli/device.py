"""The commands of a device: `predict`, `read`, `info`, `selftest`, `doctor`. They need neither torch nor a network."""

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from mnist_edge.cli import FAILED, Failed, complain, exit_code, gravest
from mnist_edge.cli.answers import Answer, printer
from mnist_edge.cli.display import (
    counting,
    json_line,
    leaving_when_pipe_closes,
    note_if_model_shadowed,
    one_line,
    print_findings,
    print_json,
    print_recommendation,
    print_table,
)
from mnist_edge.cli.options import DEFAULT_BUNDLE, Form, Json
from mnist_edge.contract import Framing
from mnist_edge.errors import DataError, ExecutionError, InputError, MnistEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnist_edge.cli.album import Album
    from mnist_edge.cli.inputs import Item, Picture, Stack, Unusable
    from mnist_edge.runtime.answers import Prediction
    from mnist_edge.runtime.classifier import Classifier

Model = Annotated[
    str | None,
    typer.Option(help="A bundle, an .onnx file or the name of a pretrained model.  [default: the pretrained cnn]"),
]
MinProbability = Annotated[float, typer.Option(min=0, max=1, help="Answer none where no class is as probable.")]
MaxNovelty = Annotated[
    float, typer.Option(min=0, max=1, help="Answer none where a picture looks less like the training images.")
]

FRAMINGS: Final = {
    Framing.MNIST: "pictures are cropped to their ink, fitted into 20×20 and centred by their mass",
    Framing.WHOLE: "pictures are scaled as a whole",
}


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Picture files, folders of them, quoted patterns (** for all folders below), IDX or .npy files of "
            "28×28 images, or - for one picture on stdin."
        ),
    ],
    model: Model = None,
    form: Form = None,
    min_probability: MinProbability = 0.0,
    max_novelty: MaxNovelty = 1.0,
    show: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what the model saw of each picture as a PNG file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON an image.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Name the class of images. An image that cannot be read is reported and does not stop the others."""
    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other: give one of them")
    with leaving_when_pipe_closes():
        from mnist_edge.cli import inputs
        from mnist_edge.cli.album import Album
        from mnist_edge.runtime.classifier import CHUNK

        classifier = _opened(model, form)
        write = printer(classifier.file, as_json=json, as_csv=csv)
        album = Album(show) if show else None
        runs = _answers(classifier, inputs.expand(images), album, min_probability, max_novelty)
        worst = 0
        with counting(lambda: sum(item.count for item in inputs.expand(images))) as advance:
            for run in runs:
                while answers := list(itertools.islice(run, CHUNK)):
                    write(answers)
                    sys.stdout.flush()
                    worst = max(worst, _complain_of_errors(answers))
                    advance(len(answers))
    raise typer.Exit(worst)


def _opened(model: str | None, form: str | None) -> "Classifier":
    from mnist_edge.runtime.classifier import Classifier

    if model is not None:
        note_if_model_shadowed(model)
    return Classifier(model, format=form)


def _answers(
    classifier: "Classifier",
    items: "Iterator[Item]",
    album: "Album | None",
    min_probability: float,
    max_novelty: float,
) -> "Iterator[Iterator[Answer]]":
    """A run of answers for every run of inputs of one kind, each to be used up before the next."""
    from mnist_edge.cli.inputs import Picture, Stack

    limits = {"min_probability": min_probability, "max_novelty": max_novelty}
    # Pictures that follow one another are answered as one stream.
    for kind, run in itertools.groupby(items, key=type):
        if kind is Picture:
            named, pictures = itertools.tee(cast("Iterator[Picture]", run))
            if album:
                found = _of_shown(classifier, pictures, album, limits)
            else:
                found = classifier.predict_each((picture.source for picture in pictures), **limits)
            yield zip((picture.name for picture in named), found, strict=True)
        elif kind is Stack:
            for stack in run:
                yield _of_stack(classifier, cast("Stack", stack), album, limits)
        else:
            yield ((item.name, cast("Unusable", item).error) for item in run)


def _of_shown(
    classifier: "Classifier", pictures: "Iterator[Picture]", album: "Album", limits: dict[str, float]
) -> "Iterator[Prediction | InputError | ExecutionError]":
    for picture in pictures:
        try:
            image = classifier.see(picture.source)
        except (InputError, ExecutionError) as error:
            yield error
        else:
            album.add(picture.name, image)
            yield from classifier.answers_or_errors(image[None], **limits)


def _of_stack(
    classifier: "Classifier", stack: "Stack", album: "Album | None", limits: dict[str, float]
) -> "Iterator[Answer]":
    from mnist_edge.cli.inputs import explained

    number = 0
    try:
        for images in stack.read():
            for image, answer in zip(images, classifier.answers_or_errors(images, **limits), strict=True):
                name = f"{stack.name}[{number}]"
                if album:
                    album.add(name, image)
                yield name, answer
                number += 1
    except (MnistEdgeError, OSError) as error:
        yield f"{stack.name}[{number}]", explained(stack.name, error)


def _complain_of_errors(answers: list[Answer]) -> int:
    errors = [answer for _, answer in answers if isinstance(answer, MnistEdgeError)]
    for error in errors:
        complain(error)
    return gravest(errors)


def read(
    images: Annotated[
        list[str], typer.Argument(help="Pictures of lines of digits, or folders of them; - for one on stdin.")
    ],
    model: Model = None,
    form: Form = None,
    min_probability: MinProbability = 0.0,
    max_novelty: MaxNovelty = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON a picture.")] = False,
) -> None:
    """Read the digits of pictures: a meter, a form field, a number on paper. A digit that is not named is a ?."""
    with leaving_when_pipe_closes():
        from mnist_edge.cli import inputs

        classifier = _opened(model, form)
        worst = 0
        for item in inputs.expand(images):
            try:
                reading = classifier.read(inputs.single(item), min_probability=min_probability, max_novelty=max_novelty)
            except (InputError, DataError, ExecutionError) as error:
                complain(error)
                worst = max(worst, exit_code(error))
                facts: dict[str, object] = {"error": str(error)}
                lines = []
            else:
                digits = [dataclasses.asdict(digit) for digit in reading.digits]
                facts = {"text": reading.text, "digits": digits, "file": classifier.file}
                lines = reading.text.split("\n")
            if json:
                sys.stdout.write(json_line({"image": item.name, **facts}))
            else:
                for line in lines:
                    print(f"{one_line(item.name)}\t{line}")
    raise typer.Exit(worst)


def info(
    target: Annotated[
        str, typer.Argument(help="A bundle, an .onnx file or the name of a pretrained model.")
    ] = DEFAULT_BUNDLE,
    json: Json = False,
) -> None:
    """Show what a bundle or a single file holds: contract, provenance, digests, parity, and which file answers."""
    from mnist_edge.runtime.describe import describe

    note_if_model_shadowed(target)
    facts = describe(target)
    if json:
        print_json(facts)
        return
    contract, provenance = facts["contract"], facts["provenance"]
    for name, value in (
        ("input", "{name}: {dtype} {shape}".format(**contract["input"])),
        ("output", "{name}: {dtype} {shape}".format(**contract["output"])),
        ("labels", ", ".join(contract["labels"])),
        ("normalization", "(pixel / 255 - {mean}) / {std}, inside the graph".format(**contract["normalization"])),
        ("framing", FRAMINGS[Framing(contract["framing"])]),
        ("architecture", f"{provenance['architecture']}, {provenance['parameters']:,} parameters"),
        ("trained on", "{data[name]}, seed {seed}, {epochs} of {recipe[epochs]} epochs".format(**provenance)),
        ("model", f"SHA-256 {provenance['model_sha256']}"),
        ("trained by", ", ".join(f"{package} {version}" for package, version in provenance["trained_by"].items())),
        ("answers", facts["answers"] or "no file that onnxruntime runs"),
        ("exported by", ", ".join(f"{package} {version}" for package, version in provenance["exported_by"].items())),
    ):
        print(f"{name:14} {value}")
    print()
    print_table(
        ("file", "size", "max |Δlogit|", "flips", "accuracy", "temperature", "ECE", "state", "SHA-256"),
        [
            (
                name,
                f"{entry['bytes'] / 1000:,.1f} KB",
                f"{entry['parity']['max_abs_diff']:.1e}" if "parity" in entry else "-",
                str(entry["parity"]["flips"]) if "parity" in entry else "-",
                f"{100 * entry['parity']['accuracy']:.2f} %" if "parity" in entry else "-",
                f"{entry['calibration']['temperature']:.3f}" if entry.get("calibration") else "-",
                f"{100 * entry['calibration']['error']:.2f} %" if "error" in (entry.get("calibration") or {}) else "-",
                entry["state"],
                f"{entry['sha256'][:16]}…",
            )
            for name, entry in facts["files"].items()
        ],
    )
    if "recommended" in facts:
        print_recommendation(facts)


def selftest(
    target: Annotated[
        str, typer.Argument(metavar="FILE", help="An .onnx file, a bundle or the name of a pretrained model.")
    ],
    form: Form = None,
    json: Json = False,
) -> None:
    """Answer a file's golden vectors with this machine's onnxruntime, offline, and compare with PyTorch's answers."""
    from mnist_edge.runtime import selftest as check
    from mnist_edge.runtime.model import open_model

    note_if_model_shadowed(target)
    model = open_model(target, format=form)
    result = check.run(model)
    if json:
        print_json({"file": model.name, **dataclasses.asdict(result)})
    else:
        print(
            f"{model.name}: ok, {result.vectors} golden vectors answered as PyTorch does "
            f"(max |Δlogit| {result.max_abs_diff:.1e}, allowed {result.tolerance:.1e})"
        )


def doctor(json: Json = False) -> None:
    """Tell what is installed, what the machine offers, which models and data are found, and what to do about it."""
    from mnist_edge.cli.doctor import State, examine

    findings = list(examine())
    broken = [f"{finding.name}: {finding.value}" for finding in findings if finding.state is State.BROKEN]
    facts = {"healthy": not broken, "findings": [dataclasses.asdict(finding) for finding in findings]}
    if not json:
        print_findings(findings)
    elif not broken:
        print_json(facts)
    if broken:
        raise Failed("; ".join(broken), FAILED, facts)
