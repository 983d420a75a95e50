"""Hypothesis strategies that draw any record of a bundle, made from the records' own types."""

from collections.abc import Callable
from typing import Any, Final, get_type_hints

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import UNSET, Struct, inspect, structs

from mnist_edge.bundle.layout import EXPORTED, Format
from mnist_edge.bundle.records import File, Manifest, Provenance
from mnist_edge.bundle.source import Source
from mnist_edge.contract import Calibration

LARGEST = 2**63 - 1
"""JSON readers agree on integers up to this one."""

LABELS = st.lists(
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5), min_size=2, max_size=12, unique=True
)


DIGESTS = tuple(letter * 64 for letter in "0af")
"""Only digests have a least length."""


def records(kind: type[Struct]) -> SearchStrategy[Any]:
    """Any record of that type."""
    return _OWN[kind]() if kind in _OWN else _by_fields(kind)


def _by_fields(kind: type[Struct], **given: SearchStrategy[Any]) -> SearchStrategy[Any]:
    fields: dict[str, SearchStrategy[Any]] = {}
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]  # a StructType
        name = next(each.name for each in structs.fields(kind) if each.encode_name == field.encode_name)
        if name == "labels":
            given = {"labels": LABELS.map(tuple), **given}
        drawn = given[name] if name in given else _values(field.type)
        if name not in given and not field.required and field.default is UNSET:
            drawn = st.just(UNSET) | drawn
        fields[name] = drawn
    return st.builds(kind, **fields)


def _values(kind: inspect.Type) -> SearchStrategy[Any]:
    return _BY_TYPE[type(kind)](kind)


def _listed(kind: Any) -> SearchStrategy[list[Any]]:
    return st.lists(_values(kind.item_type), min_size=kind.min_length or 0, max_size=3)


def _floats(kind: Any) -> SearchStrategy[float]:
    return st.floats(
        kind.ge if kind.gt is None else kind.gt,
        kind.le if kind.lt is None else kind.lt,
        exclude_min=kind.gt is not None,
        exclude_max=kind.lt is not None,
        allow_nan=False,
        allow_infinity=False,
    )


_BY_TYPE: Final[dict[type[inspect.Type], Callable[[Any], SearchStrategy[Any]]]] = {
    inspect.StructType: lambda kind: records(kind.cls),
    inspect.UnionType: lambda kind: st.one_of(*(_values(each) for each in kind.types if type(each) in _BY_TYPE)),
    inspect.NoneType: lambda kind: st.none(),
    inspect.BoolType: lambda kind: st.booleans(),
    inspect.IntType: lambda kind: st.integers(-LARGEST if kind.ge is None else kind.ge, kind.le or LARGEST),
    inspect.FloatType: _floats,
    inspect.StrType: lambda kind: st.sampled_from(DIGESTS) if kind.min_length else st.text(max_size=8),
    inspect.EnumType: lambda kind: st.sampled_from([*kind.cls]),
    inspect.DictType: lambda kind: st.dictionaries(st.text(max_size=5), _values(kind.value_type), max_size=3),
    inspect.ListType: _listed,
    inspect.VarTupleType: lambda kind: _listed(kind).map(tuple),
}
"""What may be unset is left to the caller."""


@st.composite
def _calibrations(draw: st.DrawFn) -> Calibration:
    images = draw(st.integers(1, 10_000))
    scores = sorted(draw(st.lists(st.floats(0, images / (images + 1)), min_size=1, max_size=12)))
    energy = st.floats(-1e39, 1e39)
    energies = sorted(draw(st.lists(energy, min_size=len(scores), max_size=len(scores))))
    return Calibration(draw(st.floats(1e-12, 1e12)), tuple(scores), tuple(energies), images)


@st.composite
def _provenances(draw: st.DrawFn) -> Provenance:
    made: Provenance = draw(_by_fields(Provenance, recipe=st.just(UNSET), epochs=st.just(UNSET), seed=st.just(UNSET)))
    if draw(st.booleans()):
        return made
    recipe = draw(records(get_type_hints(Provenance)["recipe"].__args__[0]))
    return structs.replace(made, recipe=recipe, epochs=draw(st.integers(0, 1000)), seed=draw(st.integers(0, LARGEST)))


def _files(name: str) -> SearchStrategy[File]:
    if name not in EXPORTED:
        return _by_fields(File)
    parts = {part: _values(_type_of(File, part)) for part in ("format", "parity", "calibration")}
    return _by_fields(File, **parts)


def _type_of(kind: type[Struct], name: str) -> inspect.Type:
    return next(field.type for field in inspect.type_info(kind).fields if field.name == name)  # type: ignore[attr-defined]


@st.composite
def _manifests(draw: st.DrawFn) -> Manifest:
    names = draw(st.lists(st.sampled_from(["model.pth", "training.json", *EXPORTED]), unique=True, max_size=3))
    files = {name: draw(_files(name)) for name in names}
    made = _by_fields(Manifest, files=st.just(files), recommended=st.just(UNSET), measured=st.just({}))
    manifest: Manifest = draw(made)
    if Format.ONNX.file_name in names and draw(st.booleans()):
        recommended = {"file": Format.ONNX.file_name, "not": {Format.INT8_STATIC.file_name: "slower"}}
        hint = get_type_hints(Manifest)["recommended"].__args__[0]
        return structs.replace(manifest, recommended=msgspec.convert(recommended, hint))
    return manifest


_PLACES = st.sampled_from(["", "/home/me/net.py:Net", "nets.small:LeNet5"])

_OWN = {
    Source: lambda: _by_fields(Source, place=_PLACES),
    Calibration: _calibrations,
    Provenance: _provenances,
    Manifest: _manifests,
}
