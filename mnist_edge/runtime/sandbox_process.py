"""The process that runs an untrusted model for `mnist_edge.runtime.sandbox`: it gives up its rights, then serves.

Both directions use one socket, the process's stdin. All numbers are little-endian.

1. The parent sends a `GREETING`.
2. The process confines itself and answers `READY`. So far it has seen nothing of the model.
3. The parent sends the model. The process loads it and answers `LOADED`.
4. The parent sends a `REQUEST` and its images, as often as it likes. The process answers `LOGITS`.

An answer is a `HEADER`, a tag and two numbers. After `LOGITS` they are rows and columns, and float32 values follow;
after `FAILED` the first is the length of the message that follows. Nothing comes after a failure.
"""

import math
import os
import struct
import time
from contextlib import suppress
from typing import Final

HEADER: Final = struct.Struct("<4sII")
GREETING: Final = struct.Struct("<QIBQ")
"""Bytes of memory that the model may use, seconds of processor time per request, whether to optimize, the model's size.
"""

REQUEST: Final = struct.Struct("<I")
"""The number of images that follow."""

READY: Final = b"redy"
LOADED: Final = b"load"
LOGITS: Final = b"<f4 "
FAILED: Final = b"fail"

MOST_WORDS: Final = 500
"""The longest message of a failure, in bytes."""

_SOCKET: Final = 0

# <linux/prctl.h>, and the system calls of <linux/landlock.h>, whose numbers are the same on all processors but Alpha.
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1


def main() -> None:
    """Serve the parent until it closes the socket, then end the process at once."""
    import numpy as np

    from mnist_edge.contract import HEIGHT, INPUT_NAME, OUTPUT_NAME, PIXELS, WIDTH
    from mnist_edge.runtime.session import Session

    requests = os.fdopen(_SOCKET, "rb", closefd=False)
    try:
        memory, seconds, optimize, size = GREETING.unpack(requests.read(GREETING.size))
        confine(memory)
        _answer(READY)
        model = requests.read(size)
        _allow(seconds)
        session = Session(model, optimize=bool(optimize))
        _answer(LOADED)
        while request := requests.read(REQUEST.size):
            (rows,) = REQUEST.unpack(request)
            pixels = np.frombuffer(requests.read(rows * PIXELS), np.uint8)
            _allow(seconds)
            (logits,) = session.run([OUTPUT_NAME], {INPUT_NAME: pixels.reshape(rows, 1, HEIGHT, WIDTH)})
            if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or logits.ndim != 2:
                raise TypeError("its logits are not a float32 array [N, classes]")  # noqa: TRY301  # all end alike
            _answer(LOGITS, len(logits), logits.shape[1], logits.astype("<f4", copy=False).tobytes())
    except Exception as error:  # noqa: BLE001  # the parent tells the user
        words = (f"{error}" or type(error).__name__).encode(errors="replace")[:MOST_WORDS]
        with suppress(OSError):  # the parent has gone
            _answer(FAILED, len(words), 0, words)
    os._exit(0)


def _answer(tag: bytes, rows: int = 0, columns: int = 0, content: bytes = b"") -> None:
    with os.fdopen(_SOCKET, "wb", closefd=False) as answers:
        answers.write(HEADER.pack(tag, rows, columns) + content)


def confine(memory: int) -> None:
    """Give up, for good, what running a graph does not need, as far as this system can enforce it.

    Afterwards the process can open no file, socket or pipe, write no file and no core dump, and map only so much more
    memory. Unless it is root's, whose processes are not counted, it can start no process or thread.

    Only Landlock, in Linux 5.13 and later where it is enabled, forbids what needs no descriptor: renaming, deleting and
    making files, and tracing other processes; since Linux 6.2 truncating files by path; since 6.12 signalling other
    processes. On older kernels the process can do so with the user's rights.

    Args:
        memory: bytes of address space beyond what the process has now.

    Raises:
        OSError: the system refuses one of the limits.
    """
    import resource  # the parent imports this module for the protocol, also where there is no such module

    mapped = _mapped()
    _confine_by_kernel()
    _limit(resource.RLIMIT_AS, mapped + memory)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    # Open descriptors stay usable below the limit, but no number is left for another.
    _limit(resource.RLIMIT_NOFILE, 0)


def _mapped() -> int:
    """Bytes of address space in use."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  # the process starts faster without pathlib
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _limit(kind: int, value: int) -> None:
    import resource

    _, most = resource.getrlimit(kind)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (value, value))


def _allow(seconds: int) -> None:
    """Let the kernel end the process (SIGXCPU) after so much more processor time, even if the parent is gone."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _confine_by_kernel() -> None:
    """No new privileges, no core dump to a program, and Landlock as far as this kernel knows it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    zero, one = ctypes.c_ulong(0), ctypes.c_ulong(1)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, one), (_PR_SET_DUMPABLE, zero)):
        _checked(libc.prctl(option, value, zero, zero, zero))
    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, zero, _LANDLOCK_CREATE_RULESET_VERSION)
    if abi < 1:
        return
    # A ruleset without rules denies all that it names: file access, TCP since version 4, signals since version 6.
    files = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    rights = struct.pack("=QQQ", (1 << files) - 1, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0)
    ruleset = _checked(libc.syscall(_LANDLOCK_CREATE_RULESET, rights, ctypes.c_ulong(len(rights)), 0))
    _checked(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _checked(result: int) -> int:
    import ctypes

    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
