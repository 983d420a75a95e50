"""Export a trained model, and prove that every exported file answers as the model does.

Apart from the command line, only this package imports both `training` and `runtime`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_edge.export.importing import export_module, import_weights

__all__ = ["export_module", "import_weights"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported when needed, because torch is slow to load
        from mnist_edge.export import importing

        return getattr(importing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
