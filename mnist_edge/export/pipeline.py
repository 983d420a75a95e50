"""`export` completes a bundle and `verify` proves it again; both fail closed."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.errors import (
    AlteredModelError,
    DataFormatError,
    MnistEdgeError,
    ModelError,
    ModelFormatError,
)
from mnist_edge.export import calibration, metadata, parity, recommendation
from mnist_edge.export.parity import Parity, Tolerance
from mnist_edge.export.proof import Against, Outcome, Progress, format_module, prove, require_same_origin
from mnist_edge.export.threads import torch_alone
from mnist_edge.staging import Staging, writing
from mnist_edge.training import checkpoint
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.datasets import Dataset, Split

Report = Callable[[Outcome], None]


@torch_alone()
def export(
    folder: Path,
    data: Dataset,
    formats: Sequence[Format] = tuple(Format),
    report: Report = lambda outcome: None,
    progress: Progress = lambda step: None,
) -> dict[str, Any]:
    """Convert a bundle's model, prove every file, and only then put the files and the manifest in place.

    Each candidate is written beside its name, read back and compared; all get their names, together with the manifest,
    when all have passed. After a failure the folder holds what it held before.

    Args:
        folder: a bundle that `train` made.
        data: the data it was trained on.
        formats: which files to make; those of earlier exports of the same weights stay.
        report: called for every file that was made and compared, or failed to be.
        progress: called as the work goes on.

    Returns:
        The manifest.

    Raises:
        BusyError: somebody else is writing the bundle.
        ModelError: the bundle's first half is missing, damaged or altered, or changed meanwhile.
        DataFormatError: `data` is not what the model was trained on.
        ModelFormatError: onnxruntime or TorchScript cannot load a file, or its metadata are not the training's.
        ParityError: a file missed its tolerance. Where several files failed, the error tells all of it, and is a
            ModelError if one of theirs is.
    """
    with writing(folder):
        return _export(folder, data, formats, report, progress)


def _export(
    folder: Path, data: Dataset, formats: Sequence[Format], report: Report, progress: Progress
) -> dict[str, Any]:
    first_half = _first_half(folder)
    trained = checkpoint.load(folder)
    _require_same_data(trained, data)
    against = Against(trained, data, progress)
    outcomes: list[Outcome] = []
    entries: dict[str, Any] = {}
    contents: dict[Format, bytes] = {}
    with Staging(folder) as staging:
        for form in formats:
            name = str(folder / form.file_name)
            try:
                with against.step(form.file_name, "conversion"):
                    made = format_module(form).convert(against.examples)
                contents[form] = content = staging.add(form.file_name, made).read_bytes()
                outcome = prove(form, content, name, against)
            except MnistEdgeError as error:
                outcome = Outcome(form, bytes=0, parity=None, calibrated=None, error=error)
            outcomes.append(outcome)
            report(outcome)
            if outcome.parity is not None:
                entries[form.file_name] = _entry(content) | {
                    "format": form.value,
                    "parity": outcome.parity.as_dict(),
                    "calibration": outcome.calibrated.as_dict() if outcome.calibrated else None,
                }
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        if failures:
            raise _combined(failures)
        if _first_half(folder) != first_half:
            raise AlteredModelError(
                f"{folder}: its model changed during the export: wait for the training and export again"
            )
        for form, (entry, content) in _kept(folder, trained, formats).items():
            entries[form.file_name], contents[form] = entry, content
        manifest: dict[str, Any] = {
            "version": bundle.MANIFEST_VERSION,
            "contract": trained.contract.as_dict(),
            "provenance": metadata.provenance(trained),
            "pytorch": {"accuracy": against.reference.accuracy},
            "files": first_half | {form.file_name: entries[form.file_name] for form in Format if form in contents},
        }
        with against.step(bundle.MANIFEST, "latencies"):
            manifest |= _recommendation(contents, entries, data)
        staging.add(bundle.MANIFEST, bundle.as_json(manifest))
        # What no manifest vouches for, as after an export that was killed, would fail the next verification.
        unlisted = [name for name in bundle.EXPORTED if name not in manifest["files"]]
        staging.commit(records=(bundle.MANIFEST,), remove=unlisted)
    return manifest


@torch_alone()
def verify(
    folder: Path,
    data: Dataset,
    report: Report = lambda outcome: None,
    progress: Progress = lambda step: None,
) -> list[Outcome]:
    """Prove a complete bundle again: digests, contract, weights, golden vectors and parity on the whole test set.

    Args:
        folder: a bundle that `export` completed.
        data: the data it was trained on.
        report: called for every file that was judged.
        progress: called as the work goes on.

    Returns:
        An outcome for every exported file; a file that failed has its error there, and the others are still judged.

    Raises:
        ModelError: the manifest or the first half of the bundle is missing, damaged or altered.
        DataFormatError: `data` is not what the model was trained on.
    """
    manifest = bundle.read_manifest(folder)
    bundle.require_first_half(folder, manifest)
    for name in (bundle.WEIGHTS, bundle.TRAINING):
        bundle.read_verified(folder, name, manifest)
    trained = checkpoint.load(folder)
    if manifest["contract"] != trained.contract.as_dict():
        raise ModelFormatError(
            f"{folder / bundle.MANIFEST}: its labels or normalisation are not those of the training: "
            f"{bundle.reexport(folder)}"
        )
    require_same_origin(manifest["provenance"], trained, str(folder / bundle.MANIFEST))
    forms = [form for form in Format if form.file_name in manifest["files"]]
    if not forms:
        raise ModelFormatError(f"{folder / bundle.MANIFEST}: lists no exported file: {bundle.reexport(folder)}")
    _require_same_data(trained, data)
    against = Against(trained, data, progress)
    _require_recorded(
        f"{folder / bundle.MANIFEST}: PyTorch's",
        {"accuracy": manifest["pytorch"]["accuracy"]},
        {"accuracy": against.reference.accuracy},
        {"accuracy": _leeway(parity.FLOAT32, data.test)},
    )
    outcomes = []
    for form in Format:
        if form in forms or (folder / form.file_name).exists():
            outcomes.append(_prove_again(form, folder, manifest, against))
            report(outcomes[-1])
    return outcomes


def _prove_again(form: Format, folder: Path, manifest: dict[str, Any], against: Against) -> Outcome:
    file, name = folder / form.file_name, f"{folder / bundle.MANIFEST}: {form.file_name}"
    entry = manifest["files"].get(form.file_name)
    if entry is None:
        error = ModelFormatError(f"{file}: no export vouches for it: export it again, or delete it")
        return Outcome(form, bytes=0, parity=None, calibrated=None, error=error)
    try:
        outcome = prove(form, bundle.read_verified(folder, form.file_name, manifest), str(file), against)
        if outcome.error is None and outcome.parity is not None:
            recorded, found = (
                entry["parity"] | {"bytes": entry["bytes"]},
                outcome.parity.as_dict() | {"bytes": outcome.bytes},
            )
            _require_recorded(f"{name}'s", recorded, found, _allowed(form, outcome.parity, against.test))
            calibration.check_recorded(entry["calibration"], outcome.calibrated, name)
    except MnistEdgeError as error:
        return Outcome(form, bytes=0, parity=None, calibrated=None, error=error)
    return outcome


def _allowed(form: Format, measured: Parity, test: Split) -> dict[str, float]:
    """By how much the figures of a manifest may differ from those that are measured again."""
    share = _leeway(format_module(form).TOLERANCE, test)
    return {
        "bytes": 0.0,
        "accuracy": share,
        "agreement": share,
        "flips": share * len(test),
        "max_abs_diff": parity.FLOAT32.max_abs_diff + measured.max_abs_diff / 2,
    }


def _leeway(tolerance: Tolerance, test: Split) -> float:
    """Share of the test images: another processor rounds otherwise, which may turn a close answer."""
    return max(tolerance.max_accuracy_drop, 1.5 / len(test))


def _combined(errors: Sequence[MnistEdgeError]) -> MnistEdgeError:
    """One error for all, of the gravest kind among them: a bad model is more than a figure out of tolerance."""
    if len(errors) == 1:
        return errors[0]
    gravest = next((error for error in errors if isinstance(error, ModelError)), errors[0])
    return type(gravest)("; ".join(map(str, errors)))


def _recommendation(
    contents: Mapping[Format, bytes], entries: Mapping[str, dict[str, Any]], data: Dataset
) -> dict[str, Any]:
    """What a manifest says of the ONNX files side by side; nothing where there is no float32 file to compare with."""
    if Format.ONNX not in contents:
        return {}
    files = {form: content for form, content in contents.items() if form.is_onnx}
    measured = recommendation.measure(
        files, {form: entries[form.file_name] for form in files}, data.test.images[:, None]
    )
    return {
        "recommended": recommendation.recommend(measured),
        "measured": {form.file_name: found.as_dict() for form, found in measured.items()},
    }


def _require_recorded(
    whose: str, recorded: Mapping[str, float], measured: Mapping[str, float], allowed: Mapping[str, float]
) -> None:
    for figure, difference in allowed.items():
        if not abs(recorded[figure] - measured[figure]) <= difference:
            raise ModelFormatError(
                f"{whose} {figure} is recorded as {recorded[figure]:.6g}, measured {measured[figure]:.6g}: export again"
            )


def _require_same_data(trained: Trained, data: Dataset) -> None:
    recorded = trained.training["data"]["sha256"]
    if data.labels != trained.contract.labels:
        raise DataFormatError(
            f"{data.name}: its labels {_brief(data.labels)} are not the model's {_brief(trained.contract.labels)}: "
            "give the data that the model was trained on with --data"
        )
    if recorded != data.digests:
        differing = ", ".join(part for part, digest in data.digests.items() if recorded.get(part) != digest)
        raise DataFormatError(
            f"{data.name}: its {differing} differ from those the model was trained on: give the same data with --data"
        )


def _brief(labels: tuple[str, ...]) -> str:
    return ",".join(labels[:10]) + ("…" if len(labels) > 10 else "")


def _first_half(folder: Path) -> dict[str, dict[str, Any]]:
    remedy = bundle.retrain(folder)
    return {name: _entry(bundle.read_file(folder / name, remedy)) for name in (bundle.WEIGHTS, bundle.TRAINING)}


def _entry(content: bytes) -> dict[str, Any]:
    return {"sha256": bundle.sha256(content), "bytes": len(content)}


def _kept(folder: Path, trained: Trained, renewed: Sequence[Format]) -> dict[Format, tuple[dict[str, Any], bytes]]:
    # Other files of an earlier export stay listed while they are intact and of the same weights.
    try:
        manifest = bundle.read_manifest(folder)
    except MnistEdgeError:
        return {}
    if manifest["provenance"]["model_sha256"] != trained.training["model_sha256"]:
        return {}
    kept = {}
    for form in Format:
        if form not in renewed:
            with contextlib.suppress(MnistEdgeError):
                content = bundle.read_verified(folder, form.file_name, manifest)
                kept[form] = manifest["files"][form.file_name], content
    return kept
