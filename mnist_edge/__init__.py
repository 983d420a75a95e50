"""Train small image classifiers, export them, prove that the exports match the PyTorch model, and run them anywhere.

One picture of any size, or a batch in MNIST's form, uint8 [n, 28, 28] with 0 = background and 255 = full ink:

>>> from mnist_edge import Classifier
>>> classifier = Classifier()
>>> classifier.predict("photo.png").label
>>> probabilities = classifier.probabilities(classifier.logits(images))
>>> [classifier.labels[best] for best in probabilities.argmax(axis=1)]
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_edge.errors import MnistEdgeError
    from mnist_edge.runtime.classifier import Classifier
    from mnist_edge.runtime.prediction import Prediction, Reading

    __version__: str

__all__ = ["Classifier", "MnistEdgeError", "Prediction", "Reading", "__version__"]

_HOMES = {
    "Classifier": "mnist_edge.runtime.classifier",
    "MnistEdgeError": "mnist_edge.errors",
    "Prediction": "mnist_edge.runtime.prediction",
    "Reading": "mnist_edge.runtime.prediction",
}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): importing the package imports neither onnxruntime nor numpy.
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("mnist-edge")
        except PackageNotFoundError:  # copied into an application without its metadata
            return "unknown"
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
