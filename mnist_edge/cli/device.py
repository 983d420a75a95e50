"""The commands of a device: `predict`, `read`, `info`, `selftest`, `doctor`. They need neither torch nor a network."""

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from mnist_edge.cli import FAILED, complain, exit_code
from mnist_edge.cli.answers import Answer, printer
from mnist_edge.cli.display import (
    counting,
    json_line,
    leaving_when_pipe_closes,
    one_line,
    print_findings,
    print_json,
    print_recommendation,
    print_table,
)
from mnist_edge.cli.options import DEFAULT_BUNDLE, Json
from mnist_edge.contract import Framing
from mnist_edge.errors import DataError, InputError, MnistEdgeError, UsageError

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
        raise UsageError("--json and --csv exclude each other: give one of them")
    with leaving_when_pipe_closes():
        from mnist_edge.cli import inputs
        from mnist_edge.cli.album import Album
        from mnist_edge.runtime.classifier import CHUNK, Classifier

        classifier = Classifier(model)
        write = printer(as_json=json, as_csv=csv)
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
) -> "Iterator[Prediction | InputError]":
    for picture in pictures:
        try:
            image = classifier.see(picture.source)
        except InputError as error:
            yield error
        else:
            album.add(picture.name, image)
            yield from classifier.answers(image[None], **limits)


def _of_stack(
    classifier: "Classifier", stack: "Stack", album: "Album | None", limits: dict[str, float]
) -> "Iterator[Answer]":
    from mnist_edge.cli.inputs import explained

    number = 0
    try:
        for images in stack.read():
            for image, answer in zip(images, classifier.answers(images, **limits), strict=True):
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
    return max(map(exit_code, errors), default=0)


def read(
    images: Annotated[
        list[str], typer.Argument(help="Pictures of lines of digits, or folders of them; - for one on stdin.")
    ],
    model: Model = None,
    min_probability: MinProbability = 0.0,
    max_novelty: MaxNovelty = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON a picture.")] = False,
) -> None:
    """Read the digits of pictures: a meter, a form field, a number on paper. A digit that is not named is a ?."""
    with leaving_when_pipe_closes():
        from mnist_edge.cli import inputs
        from mnist_edge.runtime.classifier import Classifier

        classifier = Classifier(model)
        worst = 0
        for item in inputs.expand(images):
            try:
                reading = classifier.read(inputs.single(item), min_probability=min_probability, max_novelty=max_novelty)
            except (InputError, DataError) as error:
                complain(error)
                worst = max(worst, exit_code(error))
                facts: dict[str, object] = {"error": str(error)}
                lines = []
            else:
                facts = {"text": reading.text, "digits": [dataclasses.asdict(digit) for digit in reading.digits]}
                lines = reading.text.split("\n")
            if json:
                sys.stdout.write(json_line({"image": item.name, **facts}))
            else:
                for line in lines:
                    print(f"{one_line(item.name)}\t{line}")
    raise typer.Exit(worst)


def info(
    target: Annotated[
        Path, typer.Argument(help="A bundle, an .onnx file or the name of a pretrained model.")
    ] = DEFAULT_BUNDLE,
    json: Json = False,
) -> None:
    """Tell what a bundle or a single file holds: contract, provenance, digests, measured parity."""
    from mnist_edge.runtime.describe import describe

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
    file: Annotated[Path, typer.Argument(help="An .onnx file, a bundle or the name of a pretrained model.")],
    json: Json = False,
) -> None:
    """Answer a file's golden vectors with this machine's onnxruntime, offline, and compare with PyTorch's answers."""
    from mnist_edge.runtime import selftest as check
    from mnist_edge.runtime.model import open_model

    result = check.run(open_model(file))
    if json:
        print_json({"file": str(file), **dataclasses.asdict(result)})
    else:
        print(
            f"{file}: ok, {result.vectors} golden vectors answered as PyTorch does "
            f"(max |Δlogit| {result.max_abs_diff:.1e}, allowed {result.tolerance:.1e})"
        )


def doctor(json: Json = False) -> None:
    """Tell what is installed, what the machine offers, which models and data are found, and what to do about it."""
    from mnist_edge.cli.doctor import State, examine

    findings = list(examine())
    broken = any(finding.state is State.BROKEN for finding in findings)
    if json:
        print_json({"healthy": not broken, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        print_findings(findings)
    if broken:
        raise typer.Exit(FAILED)
