"""Every error that mnist-edge raises on purpose.

MnistEdgeError
├── UsageError (ValueError)                 an argument is invalid: unknown name, impossible value
├── MissingExtraError (ImportError)         a package of an optional extra is not installed
├── DataError                               a data set cannot be used
│   ├── DataNotFoundError (FileNotFoundError)
│   └── DataFormatError (ValueError)
├── InputError                              an image given for prediction cannot be used
│   ├── ImageNotFoundError (FileNotFoundError)
│   ├── ImageFormatError (ValueError)
│   └── ImageTypeError (TypeError)
├── ModelError                              a model file or bundle cannot be trusted or used
│   ├── ModelNotFoundError (FileNotFoundError)
│   ├── ModelFormatError (ValueError)
│   └── AlteredModelError (ValueError)
├── BusyError (BlockingIOError)             another process or thread is writing the bundle
├── ExecutionError (RuntimeError)           a prediction could not be computed on this machine
├── ParityError (ArithmeticError)           an exported file does not match the PyTorch model
├── UnsupportedFormatError (NotImplementedError)  a format cannot be made from a model
├── TrainingError (ArithmeticError)         training diverged
└── UndecidedError (ValueError)             the preprocessing that imported weights expect cannot be told

A message is one line: what is wrong with which value, and what to do about it.
"""


class MnistEdgeError(Exception):
    """Base of every error that mnist-edge raises on purpose."""


class UsageError(MnistEdgeError, ValueError):
    """An argument is invalid: an unknown name or an impossible value."""


class MissingExtraError(MnistEdgeError, ImportError):
    """A package that belongs to an optional extra is not installed."""


class DataError(MnistEdgeError):
    """A data set cannot be used."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A data set, or part of it, is missing."""


class DataFormatError(DataError, ValueError):
    """A data set is malformed, or is not the expected one."""


class InputError(MnistEdgeError):
    """An image given for prediction cannot be used."""


class ImageNotFoundError(InputError, FileNotFoundError):
    """There is no image at the given path."""


class ImageFormatError(InputError, ValueError):
    """An image cannot be decoded, or the shape or values of an array are not those of images."""


class ImageTypeError(InputError, TypeError):
    """An object is not an image, or an array has a dtype that cannot hold pixels."""


class ModelError(MnistEdgeError):
    """A model file or a bundle cannot be trusted or used."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """A model, or a file of its bundle, is missing."""


class ModelFormatError(ModelError, ValueError):
    """A file is not an mnist-edge model, or violates its own contract."""


class AlteredModelError(ModelError, ValueError):
    """A file has changed since it was trained or exported: its digest differs."""


class ExecutionError(MnistEdgeError, RuntimeError):
    """A prediction could not be computed on this machine: too little memory, or onnxruntime failed."""


class BusyError(MnistEdgeError, BlockingIOError):
    """Another process or thread is writing the bundle."""


class ParityError(MnistEdgeError, ArithmeticError):
    """An exported file does not match the PyTorch model."""


class UnsupportedFormatError(MnistEdgeError, NotImplementedError):
    """A format cannot be made from a model: an exporter or a quantizer does not take one of its operators."""


class TrainingError(MnistEdgeError, ArithmeticError):
    """Training diverged."""


class UndecidedError(MnistEdgeError, ValueError):
    """The preprocessing that imported weights expect cannot be told.

    Args:
        message: what is wrong.
        trials: a row for each preprocessing that was tried (`mnist_edge.export.preprocessing.HEADER`).
    """

    def __init__(self, message: str, trials: tuple[tuple[str, ...], ...] = ()) -> None:
        super().__init__(message)
        self.trials = trials
