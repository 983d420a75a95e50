"""Open an ONNX file in a measuring process, as a program does that uses mnist-edge."""

from pathlib import Path

from mnist_edge.runtime.bench.child import Opened
from mnist_edge.runtime.classifier import Classifier


def opened(model: str, form: str) -> Opened:
    """Open the file of that format of a bundle, or an ``.onnx`` file. Raises ModelError."""
    classifier = Classifier(Path(model), format=form)  # a bare string could be the name of a pretrained model
    return Opened(classifier.logits, preprocess=classifier.preprocess)
