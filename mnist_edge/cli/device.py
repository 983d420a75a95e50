"""The commands for a device: `predict`, `read`, `info`, `selftest`, `doctor`. They need neither torch nor a network."""

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, TypedDict, cast

import typer

from mnist_edge.bundle.decoding import plain
from mnist_edge.cli import completion
from mnist_edge.cli.answers import STDIN, Answer, printer
from mnist_edge.cli.display import (
    as_argument,
    detail_model,
    json_line,
    note_if_model_shadowed,
    one_line,
    print_findings,
    print_json,
)
from mnist_edge.cli.failures import FAILED, Failed, complain, exit_code, gravest, if_interrupted
from mnist_edge.cli.options import Form, Json, Untrusted
from mnist_edge.cli.output import counted, say, suggest, warn
from mnist_edge.cli.progress import counting
from mnist_edge.errors import DataError, ExecutionError, InputError, MnistEdgeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnist_edge.cli.inputs import Item, Picture, Stack, Unusable
    from mnist_edge.cli.preview import Preview
    from mnist_edge.images import Page
    from mnist_edge.runtime.classifier import Classifier
    from mnist_edge.runtime.prediction import Prediction

Model = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.models,
        help="A bundle, an .onnx file or the name of a pretrained model.  [default: the pretrained cnn]",
    ),
]
Sample = Annotated[
    bool, typer.Option("--sample", help="Use the pictures that come with mnist-edge, instead of IMAGES.")
]
MinProbability = Annotated[float, typer.Option(min=0, max=1, help="Abstain if no class is at least this probable.")]
MaxOod = Annotated[
    float,
    typer.Option("--max-ood", min=0, max=1, help="Abstain if the out-of-distribution score is higher than this."),
]
MaxNovelty = Annotated[float | None, typer.Option("--max-novelty", min=0, max=1, hidden=True)]


ANSWERS_HOLD: Final = "the answers printed so far hold"


class Limits(TypedDict):
    """The limits beyond which the model abstains."""

    min_probability: float
    max_ood: float


def predict(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Image files, folders (searched recursively), quoted glob patterns (** matches any number of "
            "folders), IDX or .npy files of 28×28 images, .csv files of 784 pixels a row (header and label column "
            "optional), or - to read one image from stdin.",
        ),
    ] = None,
    sample: Sample = False,
    model: Model = None,
    form: Form = None,
    untrusted: Untrusted = False,
    min_probability: MinProbability = 0.0,
    max_ood: MaxOod = 1.0,
    max_novelty: MaxNovelty = None,
    single: Annotated[bool, typer.Option("--single", help="Abstain if the image shows several digits.")] = False,
    show: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save each image, as the model sees it, as a PNG file in DIR.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Classify images.

    Prints a label and its probability for each image; the label is none where the model abstains. An image that cannot
    be read is reported and does not stop the others.
    """
    if json and csv:
        raise UsageError("--json and --csv exclude each other: give one of them")
    with if_interrupted(lambda: ANSWERS_HOLD):
        from mnist_edge.cli import inputs
        from mnist_edge.cli.preview import Preview
        from mnist_edge.runtime.classifier import CHUNK

        names = inputs.named(images, inputs.SAMPLE_DIGITS, sample=sample)
        classifier, limits = _opened(model, form, untrusted=untrusted), _limits(min_probability, max_ood, max_novelty)
        write = printer(classifier.file, as_json=json, as_csv=csv)
        preview = Preview(show) if show else None
        runs = _answers(classifier, inputs.expand(names), preview, limits, single=single)
        worst = 0
        with counting(lambda: sum(item.count for item in inputs.expand(names, tell=len))) as advance:
            for run in runs:
                while answers := list(itertools.islice(run, CHUNK)):
                    write(answers)
                    sys.stdout.flush()
                    worst = max(worst, _complain_of_errors(answers))
                    _note_several_digits(answers)
                    advance(len(answers))
        if sample and not json and not csv:
            suggest("read", "--sample", *_model_options(model and as_argument(model), form, untrusted=untrusted))
    raise typer.Exit(worst)


def _model_options(model: str | Path | None, form: str | None, *, untrusted: bool) -> list[str | Path]:
    named = [*(("--model", model) if model else ()), *(("--format", form) if form else ())]
    return [*named, *(("--untrusted",) if untrusted else ())]


def _opened(model: str | None, form: str | None, *, untrusted: bool) -> "Classifier":
    from mnist_edge.runtime.classifier import Classifier

    if model is not None:
        note_if_model_shadowed(model)
    classifier = Classifier(model, format=form, untrusted=untrusted)
    detail_model(model, form, classifier.file)
    return classifier


def _limits(min_probability: float, max_ood: float, max_novelty: float | None) -> Limits:
    return Limits(min_probability=min_probability, max_ood=max_ood if max_novelty is None else max_novelty)


def _answers(
    classifier: "Classifier",
    items: "Iterator[Item]",
    preview: "Preview | None",
    limits: Limits,
    *,
    single: bool,
) -> "Iterator[Iterator[Answer]]":
    """Yield one iterator of answers per run of inputs of the same kind; exhaust each before taking the next."""
    from mnist_edge.cli.inputs import Picture, Stack

    # Consecutive pictures form one stream, which is classified in batches.
    for kind, run in itertools.groupby(items, key=type):
        if kind is Picture:
            named, pictures = itertools.tee(cast("Iterator[Picture]", run))
            found = _of_pictures(classifier, pictures, preview, limits, single=single)
            yield zip((picture.name for picture in named), found, strict=True)
        elif kind is Stack:
            for stack in run:
                yield _of_stack(classifier, cast("Stack", stack), preview, limits)
        else:
            yield ((item.name, cast("Unusable", item).error) for item in run)


def _of_pictures(
    classifier: "Classifier", pictures: "Iterator[Picture]", preview: "Preview | None", limits: Limits, *, single: bool
) -> "Iterator[Prediction | InputError | ExecutionError]":
    current = ""

    def sources() -> "Iterator[str | BinaryIO | Page]":
        nonlocal current
        for picture in pictures:
            current = picture.name
            yield picture.source

    show = (lambda image: preview.add(current, image)) if preview else None
    return classifier.predict_each(sources(), **limits, single=single, on_input=show)


def _of_stack(
    classifier: "Classifier", stack: "Stack", preview: "Preview | None", limits: Limits
) -> "Iterator[Answer]":
    from mnist_edge.cli.inputs import explained

    number = 0
    numbers = itertools.count()
    show = (lambda image: preview.add(f"{stack.name}[{next(numbers)}]", image)) if preview else None
    images = itertools.chain.from_iterable(stack.read())
    try:
        for answer in classifier.predict_each(images, preprocess=False, on_input=show, **limits):
            yield f"{stack.name}[{number}]", answer
            number += 1
    except (MnistEdgeError, OSError) as error:
        yield f"{stack.name}[{number}]", explained(stack.name, error)


def _complain_of_errors(answers: list[Answer]) -> int:
    errors = [(name, answer) for name, answer in answers if isinstance(answer, MnistEdgeError)]
    for name, error in errors:
        complain(_naming(name, error), error)
    return gravest(error for _, error in errors)


def _naming(name: str, error: MnistEdgeError) -> str:
    """An error's text, with the name of the input that it came from."""
    text = str(error)
    file = name.partition("[")[0]  # without the number of a page or an image
    return text if name == STDIN or file in text else f"{one_line(name)}: {text}"


def _note_several_digits(answers: list[Answer]) -> None:
    for name, answer in answers:
        if not isinstance(answer, MnistEdgeError) and (answer.digits or 0) > 1:
            seen = f"shows {answer.digits} digits, only one of them was classified"
            warn(f"{one_line(name)}: {seen}: use  mnist-edge read")


def read(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Image files, folders, quoted glob patterns, or - to read one image from stdin.",
        ),
    ] = None,
    sample: Sample = False,
    model: Model = None,
    form: Form = None,
    untrusted: Untrusted = False,
    min_probability: MinProbability = 0.0,
    max_ood: MaxOod = 1.0,
    max_novelty: MaxNovelty = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image.")] = False,
) -> None:
    """Read lines of digits in images.

    For images of a meter, a form field or a number on paper. A digit is printed as ? where the model abstains.
    """
    with if_interrupted(lambda: ANSWERS_HOLD):
        from mnist_edge.cli import inputs

        names = inputs.named(images, inputs.SAMPLE_LINES, sample=sample)
        classifier, limits = _opened(model, form, untrusted=untrusted), _limits(min_probability, max_ood, max_novelty)
        worst = 0
        for item in inputs.expand(names):
            try:
                reading = classifier.read(inputs.single(item), **limits)
            except (InputError, DataError, ExecutionError) as error:
                complain(_naming(item.name, error), error)
                worst = max(worst, exit_code(error))
                facts: dict[str, object] = {"error": str(error)}
                lines = []
            else:
                digits = [digit.to_dict() for digit in reading.digits]
                facts = {"text": reading.text, "digits": digits, "file": classifier.file}
                lines = reading.text.split("\n")
            if json:
                sys.stdout.write(json_line({"image": item.name, **facts}))
            else:
                for line in lines:
                    say(f"{one_line(item.name)}\t{line}")
        if sample and not json:
            suggest("help", "predict")
    raise typer.Exit(worst)


def selftest(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            autocompletion=completion.models,
            help="An .onnx file, a bundle or the name of a pretrained model.",
        ),
    ],
    form: Form = None,
    untrusted: Untrusted = False,
    json: Json = False,
) -> None:
    """Check a model on this machine.

    Works offline and needs no PyTorch. Checks the file's checksum, runs the golden vectors stored in it through this
    machine's onnxruntime and compares the logits with those of PyTorch.
    """
    from mnist_edge.runtime import selftest as check
    from mnist_edge.runtime.model import open_model

    note_if_model_shadowed(target)
    model = open_model(target, format=form, untrusted=untrusted)
    detail_model(target, form, Path(model.name).name)
    result = check.run(model)
    if json:
        print_json({"file": model.name, **plain(result)})
    else:
        say(
            f"{model.name}: ok, {counted(result.vectors, 'golden vector')} answered as PyTorch does "
            f"(max |Δlogit| {result.max_abs_diff:.1e}, allowed {result.tolerance:.1e})"
        )
        suggest("predict", "--sample", *_model_options(as_argument(target), form, untrusted=untrusted))


def doctor(json: Json = False) -> None:
    """Diagnose the installation.

    Reports package versions, processor features, thread and memory limits, onnxruntime, models and data sets, and says
    how to fix each problem.
    """
    from mnist_edge.cli.doctor import State, examine

    findings = list(examine())
    broken = [f"{finding.name}: {finding.value}" for finding in findings if finding.state is State.BROKEN]
    facts = {"healthy": not broken, "findings": plain(findings)}
    if not json:
        print_findings(findings)
    elif not broken:
        print_json(facts)
    if broken:
        raise Failed("; ".join(broken), FAILED, facts)
    if not json:
        suggest("predict", "--sample")
