"""Weights trained elsewhere: find them in a file, and fit them to an architecture, without trusting them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from msgspec import Struct
from torch import Tensor, nn

from mnist_edge.bundle.checksum import sha256
from mnist_edge.errors import ModelFormatError
from mnist_edge.training import weight_files

KEYS: Final = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "module",
    "model_state",
    "params",
    "ema",
    "ema_state_dict",
    "model_ema",
)
"""Under which keys checkpoints hold a state_dict. Of several that fit, the first is taken; other keys come after."""

MOST_PREFIXES: Final = 4
"""How many prefixes are removed, such as ``module.`` of DataParallel and ``_orig_mod.`` of torch.compile."""

_DEPTH: Final = 2
"""A state_dict may be at this many keys' distance, as in ``{"model": {"state_dict": …}}``."""

_COUNTER: Final = "num_batches_tracked"
"""Batch norm's counter, which files of torch 0.4 lack. It does not count in evaluation mode."""

_AVERAGED: Final = "n_averaged"
"""What torch.optim.swa_utils.AveragedModel adds to the weights."""

_FLOATS: Final = {torch.float32, torch.float16, torch.bfloat16, torch.float64}


class Weights(Struct, frozen=True):
    """Weights that fit an architecture, and what was done to fit them."""

    state_dict: dict[str, Tensor]
    """With the names, order, shapes, dtypes and strides of the architecture, on its device, sharing no memory."""

    sha256: str
    """Of the file, in hex."""

    key: str
    """Where the file holds them, such as ``model.state_dict``; empty if the file is the state_dict itself."""

    prefix: str
    """What was removed from the beginning of every name."""

    dtypes: tuple[str, ...]
    """From which dtypes tensors were converted."""

    @property
    def changes(self) -> list[str]:
        """What was done, for people: ``found under 'model'``, ``prefix 'module.' removed``, ``converted from …``."""
        found = [f"found under {self.key!r:.80}"] * bool(self.key)
        removed = [f"prefix {self.prefix!r} removed"] * bool(self.prefix)
        return found + removed + [f"converted from {dtype}" for dtype in self.dtypes]


class _Reading(NamedTuple):
    """One way to read a file: the dictionary under `key`, without `prefix` in its names."""

    key: str
    prefix: str
    entries: dict[str, Any]


def read_weights(path: Path, expected: Mapping[str, Tensor], architecture: str) -> Weights:
    """Read a state_dict that fits an architecture, without running what the file holds.

    The state_dict may be inside a checkpoint (`KEYS`), its names may share prefixes, and its tensors may be float16,
    bfloat16 or float64. Nothing of a tensor is touched before its name, layout, device, dtype and shape are right.

    Args:
        path: a file of torch.save or safetensors.
        expected: the state_dict of a fresh model, on the CPU.
        architecture: its name, for error messages.

    Raises:
        ModelNotFoundError: there is no such file, or it is no regular file.
        ModelFormatError: it is something else than weights, damaged or hostile, the weights do not fit, or one of them
            is not finite.
        MissingExtraError: it is in safetensors' form, and that package is not installed.
    """
    content, loaded = weight_files.read(path)
    readings = list(_readings(loaded, expected))
    chosen = next((reading for reading in readings if not _differences(reading.entries, expected)), None)
    if chosen is None:
        raise ModelFormatError(f"{path}: {_nothing_fits(loaded, readings, expected, architecture)}")
    try:
        own = {name: _own(name, chosen.entries.get(name, wanted), wanted) for name, wanted in expected.items()}
    except ValueError as error:
        raise ModelFormatError(f"{path}: {error}: give weights of a sound training") from error
    pairs = [(chosen.entries[name].dtype, wanted.dtype) for name, wanted in expected.items() if name in chosen.entries]
    dtypes = sorted({str(given).removeprefix("torch.") for given, wanted in pairs if given != wanted})
    return Weights(own, sha256(content), chosen.key, chosen.prefix, tuple(dtypes))


def fitted(loaded: object, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state_dict of our own, which must be just those of the architecture.

    Args:
        loaded: what a file holds, by `weight_files.read`.
        expected: the state_dict of a fresh model.

    Returns:
        As `Weights.state_dict`.

    Raises:
        ValueError: it does not fit, or a weight is not finite.
    """
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise ValueError("not a state_dict of tensors")  # of an untrusted file, not of an argument
    entries = _plain(loaded)
    wrong = _differences(entries, expected) or next(
        (
            f"{name} is {entries[name].dtype} instead of {wanted.dtype}"
            for name, wanted in expected.items()
            if name in entries and entries[name].dtype != wanted.dtype
        ),
        "",
    )
    if wrong:
        raise ValueError(wrong)
    return {name: _own(name, entries.get(name, wanted), wanted) for name, wanted in expected.items()}


def own_tensor(value: object, wanted: Tensor, name: str) -> Tensor:
    """A copy of a loaded tensor that looks as `wanted`. Raises ValueError if it does not, or is not finite."""
    return fitted({name: value}, {name: wanted})[name]


def _plain(found: dict[Any, Any]) -> dict[Any, Any]:
    """A copy without the attributes with which a hostile file can hide a dictionary's methods."""
    return {name: dict.__getitem__(found, name) for name in found}


def _nothing_fits(loaded: object, readings: list[_Reading], expected: Mapping[str, Tensor], architecture: str) -> str:
    if isinstance(loaded, dict) and "param_groups" in loaded:
        return f"the state of an optimizer, not of a model: {weight_files.SAVE}"
    if not readings:
        return f"holds an object of type {_type(loaded)}, no dictionary of tensors: {weight_files.SAVE}"
    closest = max(readings, key=lambda reading: len(reading.entries.keys() & expected.keys()))
    return f"does not fit {architecture}: {_differences(closest.entries, expected)}"


def _readings(loaded: object, expected: Mapping[str, Tensor]) -> Iterator[_Reading]:
    for key, found in _dictionaries(loaded, seen=set()):
        entries = {name: value for name, value in found.items() if name != _AVERAGED or name in expected}
        yield _Reading(key, "", entries)
        removed = ""
        for _ in range(MOST_PREFIXES):
            prefixes = {"".join(name.partition(".")[:2]) for name in entries}
            if len(prefixes) != 1 or not all("." in name for name in entries):
                break
            (prefix,) = prefixes
            removed += prefix
            entries = {name.removeprefix(prefix): value for name, value in entries.items()}
            yield _Reading(key, removed, entries)


def _dictionaries(
    loaded: object, seen: set[int], key: str = "", depth: int = _DEPTH
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dictionary of named tensors, with the keys that lead to it, in the order of `KEYS`.

    None is entered twice: a hostile file could hold one large dictionary under a hundred thousand keys.
    """
    if not isinstance(loaded, dict) or id(loaded) in seen or not all(isinstance(name, str) for name in loaded):
        return
    seen.add(id(loaded))
    loaded = _plain(loaded)
    if any(isinstance(value, Tensor) for value in loaded.values()):
        yield key, loaded
    if depth:
        for name in sorted(loaded, key=lambda name: KEYS.index(name) if name in KEYS else len(KEYS)):
            yield from _dictionaries(loaded[name], seen, f"{key}.{name}".lstrip("."), depth - 1)


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == _COUNTER


def _differences(entries: Mapping[str, Any], expected: Mapping[str, Tensor]) -> str:
    """What is wrong with a state_dict, and what to do; empty if nothing is."""
    missing = [name for name in expected if name not in entries and not _is_counter(name)]
    unexpected = [name for name in entries if name not in expected]
    odd = {name: oddity for name, value in entries.items() if (oddity := _oddity(value, expected.get(name)))}
    alike = [name for name in expected if name in entries and name not in odd]
    wrong = {
        name: f"is {_short(str(list(entries[name].shape)))}, not {list(expected[name].shape)}"
        for name in alike
        if entries[name].shape != expected[name].shape
    }
    if not missing and not unexpected and not wrong and not odd:
        return ""
    parts = [
        _listed(map(_short, missing), "missing "),
        _listed(map(_short, unexpected), "unexpected "),
        _listed(f"{_short(name)} {what}" for name, what in (odd | wrong).items()),
    ]
    sound = {name: entries[name] for name in unexpected if name not in odd}
    renamed = _renamed(missing, sound, expected)
    pairs = _listed(f"{_short(old)} for {_short(new)}" for old, new in renamed.items())
    if odd and not missing and not wrong:
        advice = 'save dense float tensors alone:  torch.save(model.cpu().float().state_dict(), "weights.pth")'
    elif not missing and not unexpected:
        advice = "another size of the architecture: give the --model, --model-args or --labels that it was trained with"
    elif len(renamed) == len(missing) == len([name for name in unexpected if not _is_counter(name)]) and not wrong:
        advice = (
            f"the shapes are the same, only names differ ({pairs}): rename them, or give your class as FILE.py:CLASS"
        )
    elif renamed:
        advice = (
            f"some may have other names ({pairs}), but not all: give the class that it was trained with, FILE.py:CLASS"
        )
    else:
        advice = "another architecture: give the class that it was trained with, as  --model FILE.py:CLASS"
    return f"{'; '.join(filter(None, parts))}: {advice}"


def _renamed(missing: Iterable[str], sound: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Names that are probably others' new names, by shape, last part and order: what is given, and what is missing."""
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name, tensor in reversed(list(sound.items())):
        alike[*tensor.shape, name.rpartition(".")[2]].append(name)
    waiting = ((name, alike[*expected[name].shape, name.rpartition(".")[2]]) for name in missing)
    return {names.pop(): name for name, names in waiting if names}


def _oddity(value: object, wanted: Tensor | None) -> str | None:
    """Why a value is no dense tensor of a dtype that can be converted; touches none of its numbers.

    It calls no methods, because a hostile file can give a tensor attributes that hide them.
    """
    if type(value) not in (Tensor, nn.Parameter):
        return f"is of type {_type(value)}, not a tensor"
    assert isinstance(value, Tensor)
    questions = {
        "nested": value.is_nested,
        "quantized": value.is_quantized,
        "sparse": value.layout != torch.strided,
        "conjugated": torch.is_conj(value),
        "negated": torch.is_neg(value),
    }
    for kind, applies in questions.items():
        if applies:
            return f"is a {kind} tensor"
    if value.device.type != "cpu":
        return f"has no values (device {value.device.type!r})"
    if wanted is not None and value.dtype != wanted.dtype and not {value.dtype, wanted.dtype} <= _FLOATS:
        return f"is {value.dtype}, not {wanted.dtype}"
    return None


def _own(name: str, tensor: Tensor, wanted: Tensor) -> Tensor:
    own = torch.empty_like(wanted, requires_grad=False)
    with torch.no_grad():
        own.copy_(tensor)
    if not (own.isfinite() | (own == wanted)).all():  # a mask may hold -inf, as in a fresh model
        raise ValueError(f"{_short(name)} holds NaN or infinite weights")
    return own


def _type(value: object) -> str:
    return f"{type(value).__name__:.40}"


def _short(name: str) -> str:
    shown = name if name.isprintable() else repr(name)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"


def _listed(names: Iterable[str], before: str = "") -> str:
    """The first three names, and how many more there are; empty if there are none."""
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"{before}{', '.join(listed[:3])}{more}" if listed else ""
