"""The checks of `mnist-edge doctor`: what is installed, what the machine offers, which models and data are found.

A probe that fails becomes a finding; `examine` itself never raises.
"""

import contextlib
import functools
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Final

from mnist_edge import __version__, extras
from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.cli.output import counted
from mnist_edge.errors import MnistEdgeError
from mnist_edge.extras import PACKAGE

_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


class State(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    REMARK = "remark"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    name: str
    value: str
    state: State = State.OK
    remedy: str | None = None
    """What to do about it."""


Findings = Iterator[Finding]


def examine(folder: str = ARTIFACTS) -> Findings:
    """Yield all findings, topic by topic; bundles are looked for in `folder`."""
    telemetry = os.environ.get(_TELEMETRY)  # read before `mnist_edge.runtime.session` sets it
    for topic, probe in (
        ("versions", _versions),
        ("processor", _processor),
        ("threads", _threads),
        ("memory", _memory),
        ("onnxruntime", functools.partial(_onnxruntime, telemetry)),
        ("models", functools.partial(_models, Path(folder))),
        ("data", _data),
    ):
        try:
            yield from probe()
        except Exception as error:  # noqa: BLE001  # any failure is a finding
            yield _broken(topic, "probe", error)


def _broken(topic: str, name: str, error: Exception, remedy: str | None = None) -> Finding:
    # Our own messages already say what to do.
    text = " ".join(str(error).split()) if isinstance(error, MnistEdgeError) else f"failed ({error!r})"
    return Finding(topic, name, text, State.BROKEN, remedy)


def _versions() -> Findings:
    yield Finding("versions", PACKAGE, __version__)
    yield Finding("versions", "Python", f"{platform.python_version()} on {platform.platform()}")
    missing: dict[str, list[str]] = {}
    for package, minimum, extra in _requirements():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            if extra is None:
                yield Finding("versions", package, "not installed", State.BROKEN, _pip(f"{package}>={minimum}"))
            else:
                missing.setdefault(extra, []).append(package)
            continue
        if _numbers(installed) < _numbers(minimum):
            value, remedy = f"{installed}, older than {minimum}", _pip(f"{package}>={minimum}")
            yield Finding("versions", package, value, State.BROKEN if extra is None else State.REMARK, remedy)
        else:
            yield Finding("versions", package, installed)
    for extra, packages in missing.items():
        remedy = f"{extras.to_install(extra)}  to train and export models; not needed on a device"
        yield Finding("versions", ", ".join(packages), "not installed", State.REMARK, remedy)


def _requirements() -> Iterator[tuple[str, str, str | None]]:
    # Parses entries such as "torch>=2.9; extra == 'train'". Users do not need the developers' tools (extra "dev").
    pattern = re.compile(r"([\w.-]+)>=([\d.]+)(?:.*extra == ['\"](\w+)['\"])?")
    try:
        texts = metadata.requires(PACKAGE) or ()
    except metadata.PackageNotFoundError:  # copied into an application without its metadata
        texts = ()
    found = [match.groups() for text in texts if (match := pattern.match(text))]
    return ((package, minimum, extra) for package, minimum, extra in found if extra != "dev")


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _pip(requirement: str) -> str:
    return f"pip install '{requirement}'"


def _processor() -> Findings:
    from mnist_edge.runtime import machine

    yield Finding("processor", "model", machine.processor_name())
    fields = machine.cpuinfo()
    if fields is None:
        yield Finding("processor", "features", "unknown on this system")
        return
    flags = machine.processor_flags()
    known = ", ".join(machine.features())
    if "flags" in fields and "avx2" not in flags:
        remedy = "int8 models are slow on this processor: measure before you choose one"
        yield Finding("processor", "features", f"{known or 'none'}: no AVX2", State.REMARK, remedy)
    else:
        yield Finding("processor", "features", known or "none that onnxruntime uses")


def _threads() -> Findings:
    from mnist_edge.runtime.limits import cpu_quota
    from mnist_edge.runtime.threads import THREADS_VARIABLE, default_threads

    yield Finding("threads", "host cores", str(os.cpu_count() or "unknown"))
    if hasattr(os, "sched_getaffinity"):
        yield Finding("threads", "affinity", counted(len(os.sched_getaffinity(0)), "core"))
    quota = cpu_quota()
    yield Finding("threads", "cgroup quota", "none found" if quota is None else f"{quota:.2f} cores")
    yield Finding("threads", THREADS_VARIABLE, os.environ.get(THREADS_VARIABLE) or "not set")
    try:
        yield Finding("threads", "used", str(default_threads()))
    except MnistEdgeError as error:
        yield _broken("threads", "used", error, f"unset {THREADS_VARIABLE}, or set it to a number within this range")


def _memory() -> Findings:
    from mnist_edge.runtime.limits import memory_limit

    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no os.sysconf
        yield Finding("memory", "of the host", _gigabytes(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    limits = {"cgroup": memory_limit()}
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits["ulimit -v"] = None if soft == resource.RLIM_INFINITY else soft
    found = [f"{_gigabytes(limit)} ({kind})" for kind, limit in limits.items() if limit is not None]
    yield Finding("memory", "limit", ", ".join(found) or "none found")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _onnxruntime(telemetry: str | None) -> Findings:
    try:
        from mnist_edge.runtime.session import providers
    except Exception as error:  # noqa: BLE001  # a broken installation fails in many ways
        yield _broken("onnxruntime", "import", error, _pip("onnxruntime") + " --force-reinstall")
        return
    yield Finding("onnxruntime", "providers", f"{', '.join(providers())}; CPUExecutionProvider is used")
    seen = os.environ.get(_TELEMETRY)
    if seen == "1":
        by = "by mnist-edge, before onnxruntime is imported" if telemetry is None else "in the environment"
        yield Finding("onnxruntime", "telemetry", f"off ({_TELEMETRY}=1, set {by})")
    else:
        remedy = f"unset {_TELEMETRY}, or set it to 1"
        value = f"not switched off: {_TELEMETRY}={seen} in the environment"
        yield Finding("onnxruntime", "telemetry", value, State.REMARK, remedy)


def _models(folder: Path) -> Findings:
    from mnist_edge.runtime.model import PRETRAINED

    pretrained, own = _bundles(Path(PRETRAINED)), _bundles(folder)
    for path in pretrained:
        yield _model(path, "pretrained", extras.to_install(options="--force-reinstall --no-deps"))
    for path in own:
        yield _model(path, "bundle", reading.reexport(path))
    ready = [path for path in pretrained + own if (path / layout.MANIFEST).is_file()]
    if not ready:
        remedy = "copy an exported bundle there, or make one with  mnist-edge train  and  mnist-edge export"
        yield Finding("models", "exported", f"none in the package or in {folder}", State.REMARK, remedy)
    else:
        yield _self_test(ready[0])


def _bundles(folder: Path) -> list[Path]:
    parts = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in parts if any((path / name).is_file() for name in (layout.MANIFEST, layout.TRAINING)))


def _model(path: Path, kind: str, remedy: str) -> Finding:
    from mnist_edge.runtime.describe import describe

    name = f"{kind} {path.name}"
    if not (path / layout.MANIFEST).is_file():
        return Finding("models", name, f"{path}: trained, not exported", State.REMARK, f"mnist-edge export {path}")
    try:
        facts = describe(path)
    except MnistEdgeError as error:
        return _broken("models", name, error, remedy)
    states: dict[str, list[str]] = {}
    for file, entry in facts.files.items():
        states.setdefault(entry.state, []).append(file)
    value = f"{path}: " + "; ".join(f"{', '.join(files)} {state}" for state, files in states.items())
    if "altered" in states:
        return Finding("models", name, value, State.BROKEN, remedy)
    if "missing" in states:  # may be deliberate: a device needs only one of the files
        return Finding("models", name, value, State.REMARK, f"if the missing files are needed, {remedy}")
    return Finding("models", name, f"{path}: {counted(len(facts.files), 'file')} intact")


def _self_test(path: Path) -> Finding:
    from mnist_edge.runtime import selftest
    from mnist_edge.runtime.model import open_model

    try:
        result = selftest.run(open_model(path))
    except MnistEdgeError as error:
        return _broken("models", "self-test", error)
    vectors, difference = counted(result.vectors, "golden vector"), f"max |Δlogit| {result.max_abs_diff:.1e}"
    value = f"{path}: {vectors} answered as PyTorch does ({difference})"
    return Finding("models", "self-test", value)


def _data() -> Findings:
    from mnist_edge.data import datasets, download

    variable = datasets.ENVIRONMENT_VARIABLE
    if wanted := os.environ.get(variable):
        if wanted in download.NAMES or Path(wanted).expanduser().exists():
            yield Finding("data", variable, wanted)
        else:
            remedy = f"unset {variable}, or set it to a data set's path or to one of {', '.join(download.NAMES)}"
            yield Finding("data", variable, f"{wanted}: no such file or folder", State.BROKEN, remedy)
    found = {name: path for name in download.NAMES if (path := datasets.folder_of(name)) is not None}
    for name, path in found.items():
        yield Finding("data", name, str(path))
    if not found:
        yield Finding("data", "data sets", "none found; only train, export, verify and evaluate need them")
