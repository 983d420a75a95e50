"""`export` completes a bundle and `verify` proves it again; both fail closed."""

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.errors import AlteredModelError, DataFormatError, MnistEdgeError, ModelFormatError, ParityError
from mnist_edge.export import calibration, examples, metadata, parity, recommendation
from mnist_edge.export.calibration import Calibrated
from mnist_edge.export.examples import Examples
from mnist_edge.export.parity import Parity, Reference, Run, Tolerance
from mnist_edge.runtime import selftest
from mnist_edge.runtime.golden import Golden
from mnist_edge.runtime.model import Model
from mnist_edge.runtime.model import load as load_onnx
from mnist_edge.training import checkpoint
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.datasets import Dataset, Split


class FormatModule(Protocol):
    """What the module of a format provides."""

    TOLERANCE: Tolerance

    def convert(self, trained: Trained, examples: Examples) -> bytes:
        """The file's content."""

    def variants(self, data: bytes, name: str) -> Mapping[str, Run]:
        """The ways in which the file is run and compared, first the one in which its users run it."""

    def check_weights(self, data: bytes, name: str, trained: Trained) -> None:
        """Raise ParityError where the file's weights are not the trained ones."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    format: Format
    bytes: int
    parity: Parity | None
    """None where the comparison did not come to an end."""

    calibrated: Calibrated | None
    """None where no images were kept from the training, or the comparison failed."""

    error: MnistEdgeError | None
    """None where the file passed."""


Report = Callable[[Outcome], None]


def format_module(form: Format) -> FormatModule:
    """The module of this package that bears the format's name."""
    return cast("FormatModule", importlib.import_module(f"{__package__}.{form.name.lower()}"))


def export(
    folder: Path, data: Dataset, formats: Sequence[Format] = tuple(Format), report: Report = lambda outcome: None
) -> dict[str, Any]:
    """Convert a bundle's model, prove every file, and only then put the files and the manifest in place.

    Each candidate is written beside its name, read back and compared; all get their names, together with the manifest,
    when all have passed. After a failure the folder holds what it held before.

    Args:
        folder: a bundle that `train` made.
        data: the data it was trained on.
        formats: which files to make; those of earlier exports of the same weights stay.
        report: called for every file that was compared.

    Returns:
        The manifest.

    Raises:
        ModelError: the bundle's first half is missing, damaged or altered, or changed meanwhile.
        DataFormatError: `data` is not what the model was trained on.
        ModelFormatError: onnxruntime or TorchScript cannot load a file, or its metadata are not the training's.
        ParityError: a file missed its tolerance; or several failed, in whatever way.
    """
    first_half = _first_half(folder)
    trained = checkpoint.load(folder)
    _require_same_data(trained, data)
    against = _Against(trained, data)
    outcomes: list[Outcome] = []
    entries: dict[str, Any] = {}
    contents: dict[Format, bytes] = {}
    with bundle.Staging(folder) as staging:
        for form in formats:
            name = str(folder / form.file_name)
            candidate = staging.add(form.file_name, _convert(form, name, against))
            contents[form] = content = candidate.read_bytes()
            outcome = _prove(form, content, name, against)
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
            raise failures[0] if len(failures) == 1 else ParityError("; ".join(map(str, failures)))
        if _first_half(folder) != first_half:
            raise AlteredModelError(
                f"{folder}: its model changed during the export: wait for the training and export again"
            )
        for form, (entry, content) in _kept(folder, trained, formats).items():
            entries[form.file_name], contents[form] = entry, content
        manifest = {
            "version": bundle.MANIFEST_VERSION,
            "contract": trained.contract.as_dict(),
            "provenance": metadata.provenance(trained),
            "pytorch": {"accuracy": against.reference.accuracy},
            "files": first_half | {form.file_name: entries[form.file_name] for form in Format if form in contents},
        } | _recommendation(contents, entries, data)
        staging.add(bundle.MANIFEST, bundle.as_json(manifest))
        staging.commit()
    return manifest


def verify(folder: Path, data: Dataset, report: Report = lambda outcome: None) -> list[Outcome]:
    """Prove a complete bundle again: digests, contract, weights, golden vectors and parity on the whole test set.

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
    _require_same_origin(manifest["provenance"], trained, str(folder / bundle.MANIFEST))
    forms = [form for form in Format if form.file_name in manifest["files"]]
    if not forms:
        raise ModelFormatError(f"{folder / bundle.MANIFEST}: lists no exported file: {bundle.reexport(folder)}")
    _require_same_data(trained, data)
    against = _Against(trained, data)
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


def _prove_again(form: Format, folder: Path, manifest: dict[str, Any], against: "_Against") -> Outcome:
    file, name = folder / form.file_name, f"{folder / bundle.MANIFEST}: {form.file_name}"
    entry = manifest["files"].get(form.file_name)
    if entry is None:
        error = ModelFormatError(f"{file}: no export vouches for it: export it again, or delete it")
        return Outcome(form, bytes=0, parity=None, calibrated=None, error=error)
    try:
        outcome = _prove(form, bundle.read_verified(folder, form.file_name, manifest), str(file), against)
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


class _Against:
    """What every file of a bundle is held against."""

    def __init__(self, trained: Trained, data: Dataset) -> None:
        self.trained = trained
        self.test = data.test
        self.reference = Reference(trained, data.test)
        self.examples = examples.choose(trained, data)
        _, self.kept = data.train.hold_out(trained.training["recipe"]["held_out"])


def _convert(form: Format, name: str, against: _Against) -> bytes:
    module = format_module(form)
    content = module.convert(against.trained, against.examples)
    if not form.is_onnx:
        return content
    return metadata.calibrate(content, calibration.fit(_as_used(module.variants(content, name)), against.kept))


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


def _as_used(variants: Mapping[str, Run]) -> Run:
    return next(iter(variants.values()))


def _prove(form: Format, content: bytes, name: str, against: _Against) -> Outcome:
    module = format_module(form)
    found: Parity | None = None
    calibrated: Calibrated | None = None
    error: MnistEdgeError | None = None
    try:
        variants = module.variants(content, name)
        found = parity.compare(against.reference, variants, name)
        parity.judge(found, module.TOLERANCE, name)
        module.check_weights(content, name, against.trained)
        # What was stored is found again, by the very file.
        fitted = calibration.fit(_as_used(variants), against.kept)
        if form.is_onnx:
            model = load_onnx(content, name)
            _check_metadata(model, against.trained, against.examples.golden)
            calibration.check(model.contract.calibration, fitted, name)
        if fitted is not None:
            calibrated = calibration.judge(_as_used(variants), fitted, against.test)
    except MnistEdgeError as problem:
        error = problem
    return Outcome(form, len(content), found, calibrated, error)


def _check_metadata(model: Model, trained: Trained, golden: Golden) -> None:
    if replace(model.contract, calibration=None) != trained.contract:
        raise ModelFormatError(f"{model.name}: its contract is not the one of the training: export it again")
    _require_same_origin(model.provenance, trained, model.name)
    stored = model.golden
    same_images = np.array_equal(stored.images, golden.images)
    if not same_images or not np.abs(stored.logits - golden.logits).max() <= parity.FLOAT32.max_abs_diff:
        raise ModelFormatError(f"{model.name}: its golden vectors are not PyTorch's answers: export it again")
    limit = parity.FLOAT32.max_abs_diff + parity.GOLDEN_SLACK * float(np.abs(golden.logits).max())
    if not stored.tolerance <= limit:
        raise ParityError(
            f"{model.name}: its golden vectors allow {stored.tolerance:.2g}, the most is {limit:.2g}: export it again"
        )
    selftest.run(model)


def _require_same_origin(provenance: dict[str, Any], trained: Trained, name: str) -> None:
    # Who exported may differ: a bundle is verified with newer versions than it was made with.
    expected = metadata.provenance(trained)
    differing = [key for key, value in expected.items() if key != "exported_by" and provenance.get(key) != value]
    if differing:
        raise ModelFormatError(f"{name}: its provenance ({', '.join(differing)}) is not the training's: export again")


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
