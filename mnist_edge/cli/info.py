"""The command `info`."""

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET

from mnist_edge.bundle.decoding import plain
from mnist_edge.cli import completion
from mnist_edge.cli.display import (
    as_argument,
    detail_model,
    in_brief,
    note_if_model_shadowed,
    print_json,
    print_recommendation,
    print_table,
)
from mnist_edge.cli.options import DEFAULT_BUNDLE, Json
from mnist_edge.cli.output import counted, say, say_wrapped, suggest
from mnist_edge.contract import Contract
from mnist_edge.report import words

if TYPE_CHECKING:
    from mnist_edge.bundle.records import Provenance
    from mnist_edge.runtime.describe import DescribedFile


def info(
    target: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models, help="A bundle, an .onnx file or the name of a pretrained model."
        ),
    ] = DEFAULT_BUNDLE,
    json: Json = False,
) -> None:
    """Show what a model holds.

    Prints the contract, the provenance, the digest, state and measured parity of each file, and which file answers.
    """
    from mnist_edge.runtime.describe import describe

    note_if_model_shadowed(target)
    facts = describe(target)
    if facts.answers:
        detail_model(target, None, facts.answers)
    if json:
        print_json(plain(facts))
        return
    contract, provenance = facts.contract, facts.provenance
    for name, value in (
        ("input", words.INPUT),
        ("output", words.output(contract)),
        ("labels", ", ".join(contract.labels)),
        ("normalization", f"{words.normalization(contract)}, inside the graph"),
        ("preprocessing", words.PREPROCESSING[contract.preprocessing]),
        ("architecture", f"{provenance.architecture}, {provenance.parameters:,} parameters"),
        _origin(provenance),
        *([] if provenance.recipe is UNSET else [("recipe", in_brief(provenance.recipe))]),
        ("model SHA-256", provenance.model_sha256),
        ("imported by" if provenance.recipe is UNSET else "trained by", words.versions(provenance.trained_by)),
        ("answers", facts.answers or "no file by default"),
        ("exported by", words.versions(provenance.exported_by)),
    ):
        say_wrapped(f"{name:14} ", value)
    say()
    print_table(
        ("file", "size", "state", "SHA-256"),
        [(name, words.size(file.bytes), file.state, f"{file.sha256[:16]}…") for name, file in facts.files.items()],
    )
    if measured := [row for name, file in facts.files.items() if (row := _measured(name, file, contract))]:
        say()
        print_table(("file", "max |Δlogit|", "flips", "accuracy", "temperature", "ECE"), measured)
    print_recommendation(facts)
    suggest("selftest", as_argument(target))


def _origin(provenance: "Provenance") -> tuple[str, str]:
    """The row about the training or the import."""
    if provenance.weights is not UNSET:
        return "imported from", f"{provenance.weights.name}, SHA-256 {provenance.weights.sha256}"
    recipe = provenance.recipe
    if recipe is UNSET:
        return "imported from", words.IN_MEMORY
    epochs = f"{provenance.epochs} of {counted(recipe.epochs, 'epoch')}"
    return "trained on", f"{provenance.data.name}, seed {provenance.seed}, {epochs}"


def _measured(name: str, file: "DescribedFile", contract: Contract) -> tuple[str, ...] | None:
    parity, calibrated = file.parity, file.calibration or contract.calibration
    if not parity and not calibrated:
        return None
    error = getattr(calibrated, "error", None)
    return (
        name,
        f"{parity.max_abs_diff:.1e}" if parity else "-",
        str(parity.flips) if parity else "-",
        f"{100 * parity.accuracy:.2f} %" if parity else "-",
        f"{calibrated.temperature:.3f}" if calibrated else "-",
        "-" if error is None else f"{100 * error:.2f} %",
    )
