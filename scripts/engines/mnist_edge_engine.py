"""mnist-edge as it comes: `Classifier.logits`."""

from protocol import Run, serve


def load(model: str, threads: int, _: str) -> Run:
    from mnist_edge import Classifier

    return Classifier(model, threads=threads).logits


serve(load, "mnist-edge")
