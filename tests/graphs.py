"""Trace each network once a process: torch.onnx.export takes seconds, and the same network gives the same graph."""

import copy
from collections.abc import Callable
from typing import Any

KNOWN: dict[Any, Any] = {}


def remembered(export: Callable[..., Any]) -> Callable[..., Any]:
    """`mnist_edge.export.onnx_graph._exported`, made once for each network with its weights, attributes and code."""

    def exported(module: Any, *, optimize: bool = True) -> Any:
        weights = tuple((name, tensor.numpy().tobytes()) for name, tensor in module.state_dict().items())
        key = (optimize, tuple(map(_description, module.modules())), weights)
        if key not in KNOWN:
            KNOWN[key] = export(module, optimize=optimize)
        return copy.deepcopy(KNOWN[key])

    return exported


def _description(module: Any) -> tuple[Any, ...]:
    """What distinguishes a layer besides its weights. If it differs without need, the network is only traced again."""
    attributes = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    code = type(module).forward.__code__
    return repr(module), repr(attributes), code.co_code, code.co_names, repr(code.co_consts)
