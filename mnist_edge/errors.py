"""Every error that mnist-edge raises on purpose.

MnistEdgeError
├── UsageError (ValueError)                 an argument has no meaning: unknown name, impossible number
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
├── BusyError (BlockingIOError)             somebody else is writing the bundle
├── ExecutionError (RuntimeError)           an answer could not be computed on this machine
├── ParityError (ArithmeticError)           an exported file does not answer as the PyTorch model does
└── TrainingError (ArithmeticError)         the training diverged

A message is one line: what is wrong with which value, and what to do about it.
"""


class MnistEdgeError(Exception):
    """Base of every error that mnist-edge raises on purpose."""


class UsageError(MnistEdgeError, ValueError):
    """An argument has no meaning: an unknown name or an impossible number."""


class MissingExtraError(MnistEdgeError, ImportError):
    """A package that belongs to an optional extra is not installed."""


class DataError(MnistEdgeError):
    """A data set cannot be used."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A data set, or a part of it, is not where it was looked for."""


class DataFormatError(DataError, ValueError):
    """A data set is malformed, or is not the one that was asked for."""


class InputError(MnistEdgeError):
    """An image given for prediction cannot be used."""


class ImageNotFoundError(InputError, FileNotFoundError):
    """There is no image at that path."""


class ImageFormatError(InputError, ValueError):
    """An image cannot be decoded, or an array has a shape or values that are not pixels."""


class ImageTypeError(InputError, TypeError):
    """An array or object has a type that does not hold pixels."""


class ModelError(MnistEdgeError):
    """A model file or a bundle cannot be trusted or used."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """A model, or a file of its bundle, is missing."""


class ModelFormatError(ModelError, ValueError):
    """A file is not a model of ours, or does not keep its own contract."""


class AlteredModelError(ModelError, ValueError):
    """A file is not the one that was trained or exported: its digest differs."""


class ExecutionError(MnistEdgeError, RuntimeError):
    """An answer could not be computed on this machine: too little memory, or onnxruntime failed."""


class BusyError(MnistEdgeError, BlockingIOError):
    """Somebody else is writing the bundle."""


class ParityError(MnistEdgeError, ArithmeticError):
    """An exported file does not answer as the PyTorch model does."""


class TrainingError(MnistEdgeError, ArithmeticError):
    """The training diverged."""
