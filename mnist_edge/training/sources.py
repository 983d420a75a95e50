"""A user's own architecture: find the class, build the network, and notice when its file has changed.

This runs the user's code, by way of `mnist_edge.training.user_code`: an exception becomes one line that names where in
the user's file it was raised.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from mnist_edge.bundle import reading
from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.source import Argument, InputForm, Source, is_file, split_place
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError, UsageError
from mnist_edge.names import did_you_mean
from mnist_edge.training.user_code import described, running

CLASSES: Final = ("classes", "num_classes", "n_classes", "nclasses", "n_class")
"""Names of a parameter that takes the number of labels."""

_GUARD: Final = 'mend it; what trains or loads data belongs under  if __name__ == "__main__":'


def find(place: str, arguments: Mapping[str, Argument], form: InputForm = InputForm.IMAGE) -> Source:
    """Find the file of a user's class and digest it. Runs no code, except a module's parent packages.

    Args:
        place: ``FILE.py:CLASS`` or ``package.module:CLASS``; modules are also looked for in the current folder.
        arguments: keyword arguments of the class.
        form: the shape in which the network takes its images.

    Raises:
        UsageError: `place` is neither.
        ModelNotFoundError: there is no such file or module.
        ModelFormatError: a parent package fails on import.
    """
    where, name = split_place(place)
    if is_file(where):
        path = Path(where).expanduser().absolute()
        place = f"{path}:{name}"
    else:
        path = _module_file(where)
    return Source(place, dict(arguments), sha256(_content(path)), form)


def build(source: Source, classes: int) -> nn.Module:
    """Build a user's network: float32, with freshly drawn weights, in training mode, on the CPU.

    The weights depend on torch's seed as the caller set it: what the file draws or seeds on import does not count.

    Args:
        source: the class, and its arguments.
        classes: the number of labels. It is passed on if the class has a parameter named as in `CLASSES` that the
            arguments leave out.

    Raises:
        AlteredModelError: the file has changed since `find`.
        ModelNotFoundError: there is no such file or module any more.
        UsageError: it holds no such class, or the class does not take these arguments.
        ModelFormatError: its code fails, or what it builds is not a network with weights.
    """
    if not source.place:
        raise UsageError("the model was made from a module in memory: name its class with  --model FILE.py:CLASS")
    path, content = _verified(source)
    where, name = split_place(source.place)
    folder = path.parent if is_file(where) else Path.cwd()
    with _running(path, _GUARD), _on_path(folder), torch.random.fork_rng(devices=[]):
        module = _imported(path, content) if is_file(where) else importlib.import_module(where)
    maker = _maker(module, name, source.place)
    arguments = _arguments(maker, source, classes)
    with _running(path, "mend it, or give other --model-args"), _on_path(folder):
        return _checked(maker(**arguments), source.place)


def _module_file(name: str) -> Path:
    with _running(Path(*name.split(".")), _GUARD), _on_path(Path.cwd()):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # a parent package lacks something else
            spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ModelNotFoundError(
            f"{name}: no such Python module here: run in the folder that holds it, or give its file as  FILE.py:CLASS"
        )
    return Path(spec.origin).absolute()


def _content(path: Path) -> bytes:
    return reading.read_file(path, "name the .py file that defines the network, as  --model FILE.py:CLASS")


def _verified(source: Source) -> tuple[Path, bytes]:
    where, _ = split_place(source.place)
    path = Path(where) if is_file(where) else _module_file(where)
    content = _content(path)
    actual = sha256(content)
    if actual != source.sha256:
        raise AlteredModelError(
            f"{path}: altered since the model was made (SHA-256 {actual[:12]}…, recorded {source.sha256[:12]}…): "
            "restore the file, give its unaltered copy with --model, or train or import again"
        )
    return path, content


def _imported(path: Path, content: bytes) -> ModuleType:
    # Compiled from the content that was verified: a cached .pyc may be older than an edit within the same second. The
    # digest in the name lets a second call find the same classes.
    name = f"_mnist_edge_source_{sha256(str(path).encode() + content)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickle and inspect look there
    try:
        exec(compile(content, path, "exec"), module.__dict__)  # noqa: S102  # that is what the user asked for
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _maker(module: ModuleType, name: str, place: str) -> Callable[..., Any]:
    maker: object = getattr(module, name, None)
    if callable(maker) and not isinstance(maker, nn.Module):
        return maker
    classes = [key for key, value in vars(module).items() if _is_network(value)]
    advice = did_you_mean(
        name, classes, f"it has {', '.join(classes) or 'no nn.Module at all'}: give a class of its own"
    )
    if maker is None:
        raise UsageError(f"{place}: no such class in it: {advice}")
    raise UsageError(f"{place}: {_kind(maker)}, not a class: {advice}")


def _is_network(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and not value.__module__.startswith("torch.")


def _arguments(maker: Callable[..., Any], source: Source, classes: int) -> dict[str, Argument]:
    arguments = dict(source.arguments)
    try:
        signature = inspect.signature(maker)
    except (TypeError, ValueError):  # some classes written in C have none
        return arguments
    if not any(name in arguments for name in CLASSES):
        arguments |= {name: classes for name in CLASSES if name in signature.parameters}
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = " ".join(str(signature).split())
        raise UsageError(f"{source.place}: takes {takes:.200} ({error}): give  --model-args name=value …") from error
    return arguments


def _checked(made: object, place: str) -> nn.Module:
    made = getattr(made, "_orig_mod", made)  # of torch.compile
    if not isinstance(made, nn.Module) or isinstance(made, torch.jit.ScriptModule):
        raise ModelFormatError(f"{place}: makes {_kind(made)}, not an nn.Module: name a class that derives from it")
    weights = [*made.named_parameters(), *made.named_buffers()]
    for name, tensor in weights:
        if is_lazy(tensor):
            raise ModelFormatError(
                f"{place}: {name!r:.80} has no shape yet: write the input's size instead of a lazy layer, such as "
                "nn.Linear(784, …) for nn.LazyLinear(…)"
            )
        if tensor.is_meta:
            raise ModelFormatError(f'{place}: {name!r:.80} has no values: do not build it on the device "meta"')
    if not any(True for _ in made.parameters()):
        raise ModelFormatError(f"{place}: has no parameters, so nothing to train: assign its layers to self")
    return made.cpu().float().train()


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__!s:.80}"


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _running(path: Path, advice: str) -> AbstractContextManager[None]:
    return running(lambda error: f"{_line(error, path)}: {described(error)}: {advice}")


def _line(error: BaseException, path: Path) -> str:
    """The innermost line in the user's folder, as ``net.py, line 3``; the file alone if there is none."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if file.parent == path.parent]
    return f"{own[-1][0]}, line {own[-1][1]}" if own else str(path)
