"""Survey a pickle opcode by opcode, which runs nothing: what it names, calls and holds, before torch reads it.

Every collection, argument and key of the weights that torch.save writes is written once. What a pickle makes once and
then uses again (a memo entry) is how a small file becomes a long computation or gigabytes: 24 nested pairs of the same
tuple take 2²⁴ steps to hash. So nothing that is used again may be in a key or in what a function is called with.
"""

import io
import pickletools
from typing import Any, Final, NamedTuple

import torch

MOST_OPCODES: Final = 500_000
"""In a file's pickles; a state_dict has about 30 a tensor."""

MOST_TUPLES: Final = 20_000
"""In a file's pickles; a state_dict has 6 a tensor. Hashing 100,000 nested ones overflows the stack."""

LONG: Final = 1000
"""Characters of a text that counts as a collection. Names of layers are shorter."""

_FROM_TYPE: Final = "torch._tensor._rebuild_from_type_v2"
"""Calls its first argument, for a tensor that has attributes."""

_TENSORS: Final = frozenset(
    {
        _FROM_TYPE,
        *(
            f"torch._utils._rebuild_{kind}"
            for kind in (
                "tensor",
                "tensor_v2",
                "tensor_v3",
                "parameter",
                "parameter_with_state",
                # Refused later, where the message can name the tensor.
                "sparse_tensor",
                "qtensor",
                "nested_tensor",
                "meta_tensor_no_storage",
            )
        ),
    }
)
"""What makes tensors, which are hashed and copied without their content."""

_CALLED: Final = _TENSORS | {
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "collections.OrderedDict",
    "collections.Counter",  # of MultiStepLR
    "_codecs.encode",  # makes bytes
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "complex")),
}
"""What the pickle of a checkpoint may call. None takes more memory or time than its arguments did."""

_NAMED: Final = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})

_KINDS: Final = (torch.dtype, torch.qscheme, torch.layout)

_CHANGING: Final = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})

# How a value's parts are used. A higher level includes what the lower ones forbid.
_ATOM, _NEW, _HOLDS_TENSOR, _HOLDS_REUSED, _REUSED = range(5)


class Survey(NamedTuple):
    """What a pickle holds."""

    names: list[str]
    """The classes and functions that it calls for, as ``module.name``."""

    texts: set[str]
    """Its strings."""

    protocol: int

    fault: str | None
    """What no pickle of weights does, as the predicate of a sentence."""

    @property
    def foreign(self) -> str | None:
        """The first name that weights do not need."""
        return next((name for name in self.names if not _is_of_weights(name)), None)


def _is_of_weights(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if module in {"torch", "torch.cuda", "torch.storage"} and attribute.endswith("Storage"):
        return True
    return name in _CALLED | _NAMED or (module == "torch" and isinstance(getattr(torch, attribute, None), _KINDS))


class _Value(NamedTuple):
    level: int = _ATOM

    name: str = ""
    """A text, the name of a class or function, or of a tuple that of its first part."""


_MARK: Final = _Value(name="mark")
_TENSOR: Final = _Value(name="a tensor")


def surveyed(content: bytes, pickles: int) -> Survey:
    """Read so many pickles, one after another.

    Raises:
        Exception: they are damaged; `pickletools` does not document how.
    """
    names: list[str] = []
    texts: set[str] = set()
    protocol = number = tuples = 0
    fault = None
    file = io.BytesIO(content)
    for _ in range(pickles):
        stack: list[_Value] = []
        memo: dict[int, _Value] = {}
        for opcode, argument, _position in pickletools.genops(file):
            number += 1
            tuples += opcode.name.startswith("TUPLE")
            if number > MOST_OPCODES or tuples > MOST_TUPLES:
                return Survey(names, texts, protocol, "holds far more objects than weights need")
            if opcode.name == "PROTO":
                protocol = max(protocol, int(str(argument)))
            elif opcode.name.endswith("PUT") or opcode.name == "MEMOIZE":
                memo[len(memo) if argument is None else int(str(argument))] = stack[-1]
            elif opcode.name.endswith("GET"):
                stack.append(_again(memo[int(str(argument))]))
            else:
                taken = _taken(opcode, stack)
                fault = fault or _fault(opcode.name, taken)
                made = _made(opcode.name, argument, taken)
                stack += [made] * len(opcode.stack_after)
                if opcode.name.endswith("GLOBAL"):
                    names.append(made.name)
                elif isinstance(argument, str):
                    texts.add(argument)
    return Survey(names, texts, protocol, fault)


def _taken(opcode: pickletools.OpcodeInfo, stack: list[_Value]) -> list[_Value]:
    """Take from the stack what an opcode takes, without the mark."""
    before = opcode.stack_before
    count = len(before)
    items: list[_Value] = []
    if pickletools.markobject in before:
        count = before.index(pickletools.markobject)
        while (item := stack.pop()) is not _MARK:
            items.append(item)
    return [stack.pop() for _ in range(count)][::-1] + items[::-1]


def _made(opcode: str, argument: Any, taken: list[_Value]) -> _Value:
    """What an opcode puts on the stack."""
    made = _Value()
    if opcode == "MARK":
        made = _MARK
    elif opcode in {"GLOBAL", "STACK_GLOBAL"}:
        made = _Value(name=".".join(each.name for each in taken) or str(argument).replace(" ", "."))
    elif opcode == "DUP":
        made = _again(taken[0])
    elif opcode.startswith("TUPLE"):
        made = _Value(_level(taken), taken[0].name if taken else "")
    elif opcode in _CHANGING:
        made = _Value(max(taken[0].level, _level(taken[1:])), taken[0].name)
    elif opcode.startswith("EMPTY"):
        made = _Value(_NEW)
    elif isinstance(argument, str):
        made = _Value(_NEW if len(argument) > LONG else _ATOM, argument[:LONG])
    elif opcode == "BINPERSID" or (opcode == "REDUCE" and taken[0].name in _TENSORS):
        made = _TENSOR
    elif taken:
        made = _Value(_level(taken))
    return made


def _again(value: _Value) -> _Value:
    return _Value(_REUSED if value.level else _ATOM, value.name)


def _level(parts: list[_Value]) -> int:
    if any(each.level >= _HOLDS_REUSED for each in parts):
        return _HOLDS_REUSED
    return _HOLDS_TENSOR if any(each.level == _HOLDS_TENSOR or each == _TENSOR for each in parts) else _NEW


def _fault(opcode: str, taken: list[_Value]) -> str | None:
    """What is wrong with how an opcode uses what it takes."""
    again = "uses an object again where weights have a new one"
    if opcode in {"REDUCE", "NEWOBJ"}:
        function, arguments = taken
        called, allowed = function.name, _CALLED
        if called == _FROM_TYPE:
            called, allowed = arguments.name, _TENSORS - {_FROM_TYPE}
        if called not in allowed:
            return f"calls {called[:100]!r}, as no weights do"
        if called not in _TENSORS and arguments.level == _HOLDS_TENSOR:  # iterating over it may take gigabytes
            return f"calls {called!r} with a tensor, as no weights do"
        return again if arguments.level >= _HOLDS_REUSED else None
    if opcode in {"SETITEM", "SETITEMS"}:
        return again if any(key.level >= _HOLDS_REUSED for key in taken[1::2]) else None
    return again if opcode == "BUILD" and taken[1].level == _REUSED else None
