"""Write docs/api.md, the reference of the public Python API, from the docstrings.

python scripts/write_api.py
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import mnist_edge
from mnist_edge import contract, errors, export
from mnist_edge.runtime import prediction

PAGE = Path(__file__).parents[1] / "docs" / "api.md"

INTRODUCTION = """# API reference

Made from the docstrings by `python scripts/write_api.py`; do not edit it.

`from mnist_edge import Classifier, MnistEdgeError, Prediction, Reading` and `from mnist_edge.export import
export_module, import_weights`: other names, and modules that are not shown here, may change. Importing either package
imports neither torch nor onnxruntime.
"""

CLASSES = (
    mnist_edge.Classifier,
    prediction.Prediction,
    prediction.Digit,
    prediction.Reading,
    contract.Contract,
    contract.Calibration,
    contract.Preprocessing,
)

FUNCTIONS = (export.export_module, export.import_weights)

LINE = 100
"""The longest signature that stays on one line."""

SECTIONS = ("Args", "Returns", "Raises")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def page() -> str:
    """The whole page."""
    classes = (part for kind in CLASSES for part in _class(kind))
    functions = (part for function in FUNCTIONS for part in _function(function))
    parts = [INTRODUCTION, *classes, *functions, *_errors()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _class(kind: type) -> Iterator[str]:
    yield f"## {kind.__name__}"
    if "__init__" in vars(kind):
        yield _signature(kind.__name__, vars(kind)["__init__"])
    yield _markdown(_docstring(kind))
    fields = "\n".join(f"- `{name}`: {text}" for name, text in _fields(kind).items())
    if fields:
        yield "Fields:"
        yield _wrapped(fields)
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"### {kind.__name__}.{name}"
            yield _markdown(_docstring(member))
        elif inspect.isfunction(member):
            yield f"### {kind.__name__}.{name}"
            yield _signature(name, member)
            yield _markdown(_docstring(member))


def _function(function: Callable[..., object]) -> Iterator[str]:
    yield f"## {function.__name__}"
    yield _signature(function.__name__, function)
    yield _markdown(_docstring(function))


def _docstring(what: object) -> str:
    text = inspect.getdoc(what)
    assert text is not None, what
    return text


def _signature(name: str, function: Callable[..., object]) -> str:
    """A signature as its source has it, which is the same under every version of Python and numpy."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    defaults = [*[None] * (len(arguments.args) - len(arguments.defaults)), *arguments.defaults]
    parts = [_parameter(*each) for each in zip(arguments.args, defaults, strict=True) if each[0].arg != "self"]
    if arguments.kwonlyargs:
        parts += ["*", *map(_parameter, arguments.kwonlyargs, arguments.kw_defaults)]
    returned = "None" if definition.returns is None else ast.unparse(definition.returns)
    arrow = "" if returned == "None" else f" -> {returned}"
    text = f"{name}({', '.join(parts)}){arrow}"
    if len(text) > LINE:
        text = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){arrow}"
    return f"```text\n{text}\n```"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    assert argument.annotation is not None
    written = f"{argument.arg}: {ast.unparse(argument.annotation)}"
    return written if default is None else f"{written} = {ast.unparse(default)}"


def _fields(kind: type) -> dict[str, str]:
    """Names and docstrings of the documented attributes, inherited ones first."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        if not base.__module__.startswith("mnist_edge"):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, following in zip(definition.body, definition.body[1:], strict=False):
            match statement, following:
                case (
                    (ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)])),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(_inline(text).split())
    return found


def _markdown(docstring: str) -> str:
    """A docstring in Google's style as Markdown: sections as lists, examples as blocks."""
    out: list[str] = []
    for paragraph in docstring.split("\n\n"):
        lines = paragraph.splitlines()
        if lines[0].startswith(">>>"):
            out.append(f"```pycon\n{paragraph}\n```")
        elif lines[0].removesuffix(":") in SECTIONS:
            body = textwrap.dedent("\n".join(lines[1:]))
            entries = re.split(r"\n(?! )", body)
            if lines[0] == "Returns:":
                out.append(_wrapped(f"Returns: {_inline(' '.join(body.split()))}"))
            else:
                joined = (re.sub(r"^(\w+): ", r"`\1`: ", " ".join(entry.split())) for entry in entries)
                out.append(_wrapped(lines[0]) + "\n\n" + _wrapped("\n".join(f"- {_inline(entry)}" for entry in joined)))
        else:
            out.append(_wrapped(_inline(" ".join(paragraph.split()))))
    return "\n\n".join(out)


def _inline(text: str) -> str:
    return text.replace("``", "`")


def _wrapped(text: str) -> str:
    return "\n".join(
        textwrap.fill(
            line,
            width=120,
            subsequent_indent="  " if line.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.splitlines()
    )


def _errors() -> Iterator[str]:
    _, _, rest = _docstring(errors).partition("\n\n")
    tree, _, note = rest.rpartition("\n\n")
    yield "## Errors"
    yield f"```text\n{tree}\n```"
    yield _wrapped(" ".join(note.split()))


if __name__ == "__main__":
    main()
