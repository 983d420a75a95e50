"""OpenCV's module `dnn`. Its new engine takes bytes; the classic one computes int8 with other answers."""

from typing import Any

from protocol import Pixels, Run, serve


def load(model: str, threads: int, _: str) -> Run:
    import cv2

    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromONNX(model, cv2.dnn.ENGINE_NEW)

    def run(images: Pixels) -> Any:
        network.setInput(images)
        return network.forward()

    return run


serve(load, "opencv-python-headless")
