"""Export a trained model, and prove that every exported file answers as the model does.

Apart from the command line, only this package imports both `training` and `runtime`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_edge.export.importing import import_weights
    from mnist_edge.export.in_memory import export_module

__all__ = ["export_module", "import_weights"]


def __getattr__(name: str) -> Any:
    # Lazy, because torch is slow to load.
    if name == "export_module":
        from mnist_edge.export.in_memory import export_module

        return export_module
    if name == "import_weights":
        from mnist_edge.export.importing import import_weights

        return import_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
