"""`export` completes a bundle and `verify` proves it again; both fail closed."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import UNSET, structs
from torch import nn

from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.decoding import encode_indented
from mnist_edge.bundle.layout import BY_DEFAULT, RUNNABLE, Format
from mnist_edge.bundle.records import File, Latency, Manifest, Parity, PyTorch
from mnist_edge.bundle.source import Source
from mnist_edge.bundle.writing import Staging, writing
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.errors import (
    AlteredModelError,
    DataFormatError,
    MnistEdgeError,
    ModelError,
    ModelFormatError,
    UnsupportedFormatError,
)
from mnist_edge.export import calibration, metadata, parity, recommendation
from mnist_edge.export.formats import EXPORTERS
from mnist_edge.export.parity import Tolerance
from mnist_edge.export.proof import Outcome, ParityContext, Progress, prove, require_same_origin
from mnist_edge.export.threads import sharing_work
from mnist_edge.training import checkpoint
from mnist_edge.training.checkpoint import Trained

MOVED: Final = 0.002
"""How far another processor, or a graphics card, may move a model's accuracy, as a share."""

Report = Callable[[Outcome], None]


def export(
    folder: Path,
    data: Dataset,
    formats: Sequence[Format] | None = None,
    report: Report = lambda outcome: None,
    progress: Progress = lambda step: None,
    threads: int | None = None,
    model: nn.Module | Source | None = None,
    c_prefix: str = "",
) -> Manifest:
    """Convert a bundle's model, prove every file, and only then put the files and the manifest in place.

    Each file is written under a temporary name, read back and compared. Once all have passed, they and the manifest are
    renamed into place. After a failure the folder is as it was before.

    Args:
        folder: a bundle that `train` made.
        data: the data it was trained on.
        formats: which files to make, and those that they are made from; files that earlier exports made from the same
            weights are kept, except one made from a file that is now another. None for all of `BY_DEFAULT` that can be
            made: the others are left out.
        report: called with the outcome of every file, passed, failed or left out.
        progress: called at the start and end of every step.
        threads: how many threads share the work; None for ``MNIST_EDGE_THREADS`` if set, else one per CPU.
        model: a user's own module, or where its class is now; None to look where it was.
        c_prefix: what the names in ``model.h`` begin with; empty for the architecture's name.

    Returns:
        The manifest.

    Raises:
        UsageError: the prefix is no name.
        BusyError: another training or export is writing the bundle.
        ModelError: the bundle's first half is missing, damaged or altered, or changed during the export.
        DataFormatError: `data` is not what the model was trained on.
        ModelFormatError: onnxruntime or TorchScript cannot load a file, or its metadata do not match the training.
        UnsupportedFormatError: a format that was named cannot be made, or none can.
        ParityError: a file is out of tolerance. If several files fail, one error reports them all; it is a ModelError
            if any of theirs is.
    """
    with writing(folder), sharing_work(threads):
        return _export(folder, data, formats, report, progress, model, c_prefix)


def _export(
    folder: Path,
    data: Dataset,
    named: Sequence[Format] | None,
    report: Report,
    progress: Progress,
    model: nn.Module | Source | None,
    c_prefix: str,
) -> Manifest:
    layout.require_c_prefix(c_prefix)
    first_half = _first_half(folder)
    trained = checkpoint.load(folder, model)
    _require_same_data(trained, data)
    earlier = _earlier(folder, trained)
    chosen = {*(BY_DEFAULT if named is None else named)}
    wanted = [form for form in Format if form in chosen | {each.origin for each in chosen} - earlier.keys()]
    context = ParityContext(trained, data, progress, c_prefix)
    context.known |= {form: content for form, (_, content) in earlier.items() if form not in wanted}
    _require_still_the_same(folder, trained, context)
    files: dict[Format, File] = {}
    contents: dict[Format, bytes] = {}
    failures: list[MnistEdgeError] = []
    left_out: list[MnistEdgeError] = []
    with Staging(folder) as staging:
        for form in wanted:
            try:
                with context.step(form.file_name, "conversion"):
                    made = EXPORTERS[form].convert(context.examples_for(form))
                contents[form] = staging.add(form.file_name, made).read_bytes()
                outcome = prove(form, contents[form], str(folder / form.file_name), context)
            except MnistEdgeError as error:
                skipped = named is None and isinstance(error, UnsupportedFormatError)
                outcome = Outcome(form, bytes=0, parity=None, calibration=None, error=error, left_out=skipped)
            report(outcome)
            if outcome.error is not None:
                (left_out if outcome.left_out else failures).append(outcome.error)
            elif outcome.parity is not None:
                files[form] = structs.replace(
                    _file(contents[form]), format=form, parity=outcome.parity, calibration=outcome.calibration
                )
        if failures or not files:
            raise _combined(failures or left_out)
        if _first_half(folder) != first_half:
            raise AlteredModelError(
                f"{folder}: its model changed during the export: wait for the training to finish and export again"
            )
        for form, (file, content) in earlier.items():
            origin = form.origin
            is_as_its_origin = origin is None or (origin in earlier and contents.get(origin) == earlier[origin][1])
            if form not in wanted and is_as_its_origin:
                files[form], contents[form] = file, content
        manifest = Manifest(
            contract=trained.contract,
            provenance=metadata.provenance(trained),
            pytorch=PyTorch(context.reference.accuracy),
            files=first_half | {form.file_name: files[form] for form in Format if form in files},
        )
        with context.step(layout.MANIFEST, "latencies"):
            manifest = _with_recommendation(manifest, contents, data)
        staging.add(layout.MANIFEST, encode_indented(manifest))
        # Files that the manifest does not list, left by a killed export for example, would fail the next verification.
        unlisted = [name for name in layout.EXPORTED if name not in manifest.files]
        staging.commit(records=(layout.MANIFEST,), remove=unlisted)
    return manifest


def verify(
    folder: Path,
    data: Dataset,
    report: Report = lambda outcome: None,
    progress: Progress = lambda step: None,
    threads: int | None = None,
    model: nn.Module | Source | None = None,
) -> list[Outcome]:
    """Prove a complete bundle again: digests, contract, weights, golden vectors and parity on the whole test set.

    Args:
        folder: a bundle that `export` completed.
        data: the data it was trained on.
        report: called with the outcome of every file.
        progress: called at the start and end of every step.
        threads: how many threads share the work; None for ``MNIST_EDGE_THREADS`` if set, else one per CPU.
        model: a user's own module, or where its class is now; None to look where it was.

    Returns:
        One outcome per exported file. If a file fails, its outcome holds the error and the others are still checked.

    Raises:
        ModelError: the manifest or the first half of the bundle is missing, damaged or altered.
        DataFormatError: `data` is not what the model was trained on.
    """
    with sharing_work(threads):
        return _verify(folder, data, report, progress, model)


def _verify(
    folder: Path, data: Dataset, report: Report, progress: Progress, model: nn.Module | Source | None
) -> list[Outcome]:
    manifest = reading.read_manifest(folder)
    reading.require_first_half(folder, manifest)
    for name in (layout.WEIGHTS, layout.TRAINING):
        reading.read_verified(folder, name, manifest)
    trained = checkpoint.load(folder, model)
    if manifest.contract != trained.contract:
        raise ModelFormatError(
            f"{folder / layout.MANIFEST}: its labels or normalisation are not those of the training: "
            f"{reading.reexport(folder)}"
        )
    require_same_origin(manifest.provenance, trained, str(folder / layout.MANIFEST))
    if not manifest.exported:
        raise ModelFormatError(f"{folder / layout.MANIFEST}: lists no exported file: {reading.reexport(folder)}")
    _require_same_data(trained, data)
    context = ParityContext(trained, data, progress)
    _require_recorded(
        f"{folder / layout.MANIFEST}: PyTorch's",
        {"accuracy": manifest.pytorch.accuracy},
        {"accuracy": context.reference.accuracy},
        {"accuracy": _leeway(parity.FLOAT32, data.test)},
    )
    outcomes = []
    for form in Format:
        if form.file_name in manifest.files or (folder / form.file_name).exists():
            outcomes.append(_prove_again(form, folder, manifest, context))
            report(outcomes[-1])
    return outcomes


def _prove_again(form: Format, folder: Path, manifest: Manifest, context: ParityContext) -> Outcome:
    path, name = folder / form.file_name, f"{folder / layout.MANIFEST}: {form.file_name}"
    try:
        file = manifest.files.get(form.file_name)
        if file is None:
            raise ModelFormatError(f"{path}: not listed in the manifest: export it again, or delete it")
        outcome = prove(form, reading.read_verified(folder, form.file_name, manifest), str(path), context)
        if outcome.error is None and outcome.parity is not None:
            assert file.parity is not UNSET
            assert file.calibration is not UNSET
            recorded = structs.asdict(file.parity) | {"bytes": file.bytes}
            found = structs.asdict(outcome.parity) | {"bytes": outcome.bytes}
            _require_recorded(f"{name}'s", recorded, found, _allowed(form, outcome.parity, context.test))
            calibration.check_recorded(file.calibration, outcome.calibration, name)
    except MnistEdgeError as error:
        return Outcome(form, bytes=0, parity=None, calibration=None, error=error)
    return outcome


def _allowed(form: Format, measured: Parity, test: Split) -> dict[str, float]:
    """How far the figures in a manifest may differ from those measured again."""
    share = _leeway(EXPORTERS[form].TOLERANCE, test)
    return {
        "bytes": 0.0,
        "accuracy": share,
        "agreement": share,
        "flips": share * len(test),
        "max_abs_diff": parity.FLOAT32.max_abs_diff + measured.max_abs_diff / 2,
    }


def _leeway(tolerance: Tolerance, test: Split) -> float:
    """Share of test images whose answer may differ: another processor's rounding can flip a close decision."""
    return max(tolerance.max_accuracy_drop, 1.5 / len(test))


def _require_still_the_same(folder: Path, trained: Trained, context: ParityContext) -> None:
    """Raise AlteredModelError if a user's module no longer answers as it did when it was trained or imported.

    Its own file is checked by digest, but not what that file imports.
    """
    recorded, measured = trained.training.test.accuracy, context.reference.accuracy
    if trained.training.source is not UNSET and not abs(recorded - measured) <= max(MOVED, 1.5 / len(context.test)):
        raise AlteredModelError(
            f"{folder}: its accuracy was {100 * recorded:.2f} %, and is {100 * measured:.2f} % now: what its class "
            "imports has changed: restore it, or train or import again"
        )


def _combined(errors: Sequence[MnistEdgeError]) -> MnistEdgeError:
    """One error for all: a ModelError if any of them is, since a bad model is worse than a figure out of tolerance."""
    if len(errors) == 1:
        return errors[0]
    gravest = next((error for error in errors if isinstance(error, ModelError)), errors[0])
    # All ONNX formats have the same reason if their graph cannot be made.
    return type(gravest)("; ".join(dict.fromkeys(map(str, errors))))


def _with_recommendation(manifest: Manifest, contents: Mapping[Format, bytes], data: Dataset) -> Manifest:
    """The manifest with latencies and a recommendation, if there is a float32 ONNX file to compare with."""
    if Format.ONNX not in contents:
        return manifest
    files = {form: content for form, content in contents.items() if form in RUNNABLE}
    found = {form: manifest.files[form.file_name].parity for form in files}
    parities = {form: each for form, each in found.items() if each is not UNSET}
    measured = recommendation.measure(files, parities, data.test.images[:, None])
    return structs.replace(
        manifest,
        recommended=recommendation.recommend(measured),
        measured={form.file_name: Latency(each.microseconds, each.batch_dependence) for form, each in measured.items()},
    )


def _require_recorded(
    whose: str, recorded: Mapping[str, float], measured: Mapping[str, float], allowed: Mapping[str, float]
) -> None:
    for figure, difference in allowed.items():
        if not abs(recorded[figure] - measured[figure]) <= difference:
            raise ModelFormatError(
                f"{whose} {figure} is recorded as {recorded[figure]:.6g}, measured {measured[figure]:.6g}: export again"
            )


def _require_same_data(trained: Trained, data: Dataset) -> None:
    recorded = trained.training.data.sha256
    if data.labels != trained.contract.labels:
        raise DataFormatError(
            f"{data.name}: its labels {_brief(data.labels)} are not the model's {_brief(trained.contract.labels)}: "
            "give the model's own data with --data"
        )
    if recorded != data.digests:
        differing = ", ".join(part for part, digest in data.digests.items() if recorded.get(part) != digest)
        raise DataFormatError(
            f"{data.name}: its {differing} differ from those the model was trained on: give the same data with --data"
        )


def _brief(labels: tuple[str, ...]) -> str:
    return ",".join(labels[:10]) + ("…" if len(labels) > 10 else "")


def _first_half(folder: Path) -> dict[str, File]:
    remedy = reading.retrain(folder)
    return {name: _file(reading.read_file(folder / name, remedy)) for name in (layout.WEIGHTS, layout.TRAINING)}


def _file(content: bytes) -> File:
    return File(sha256=sha256(content), bytes=len(content))


def _earlier(folder: Path, trained: Trained) -> dict[Format, tuple[File, bytes]]:
    """The files of an earlier export that are intact and made from the same weights."""
    try:
        manifest = reading.read_manifest(folder)
    except MnistEdgeError:
        return {}
    if manifest.provenance.model_sha256 != trained.training.model_sha256:
        return {}
    earlier = {}
    for form in Format:
        with contextlib.suppress(MnistEdgeError):
            content = reading.read_verified(folder, form.file_name, manifest)
            earlier[form] = manifest.files[form.file_name], content
    return earlier
