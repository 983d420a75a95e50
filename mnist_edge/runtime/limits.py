"""The CPUs and the memory that this process can really use, by its affinity mask and the limits of its cgroups.

`os.cpu_count` and onnxruntime count the host's cores, so a container limited to one core would get a thread pool for
all of them. The kernel limits CPU time by a quota of microseconds per period, which a group shares with all groups
nested in it. cgroup v2 (cgroups(7), Documentation/admin-guide/cgroup-v2.rst) keeps both numbers in ``cpu.max``, v1
(scheduler/sched-bwc.rst) in ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; a machine can have both versions, each with
its own groups. Memory is limited in the same way, by ``memory.max`` or ``memory.limit_in_bytes``. Anything that cannot
be read or parsed counts as no limit: a thread pool of the wrong size is slow, never wrong.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

PROCESS: Final = Path("/proc/self")
"""Where the kernel lists the cgroups of this process and their mount points."""

_ENDLESS: Final = 2**60
"""cgroup v1 writes "no limit" as about 2**63, rounded to a whole page."""


@dataclass(frozen=True)
class _Mount:
    """A mount of a cgroup hierarchy, or of part of one."""

    root: PurePosixPath
    """The group that is mounted at `point`; not always the root group, for example in a container."""

    point: Path


def usable_cpus() -> int:
    """How many CPUs this process can keep busy, at least 1: its affinity or, if smaller, its quota rounded down.

    Rounded down, because a quota of 1.5 does not merely slow the second of two threads. Once the two have used up the
    quota of a period (usually 100 ms), the kernel stops both until the next one, and some answers come late.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def cpu_quota() -> float | None:
    """The CPU time granted to this process, in CPUs, such as 1.5; None without a limit.

    A group's quota also limits all groups nested in it, so the smallest quota from this process's group up to the root
    applies.
    """
    quotas = [_quota_v2(folder) for folder in _folders("cgroup2", "")]
    quotas += [_quota_v1(folder) for folder in _folders("cgroup", "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit() -> int | None:
    """The smallest memory limit of this process's cgroups, in bytes; None without a limit."""
    files = [folder / "memory.max" for folder in _folders("cgroup2", "")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders("cgroup", "memory")]
    limits = [_bytes(_words(file)) for file in files]
    return min((limit for limit in limits if limit is not None and limit < _ENDLESS), default=None)


def _folders(kind: str, controller: str) -> Iterator[Path]:
    """The group of this process in a hierarchy and its visible ancestors, innermost first."""
    group, mounts = _own_group(controller), _mounts(kind, controller)
    if group is None or not mounts:
        return
    for mount in mounts:
        if group.is_relative_to(mount.root) and ".." not in group.parts:
            inner = group.relative_to(mount.root)
            yield from (mount.point / level for level in (inner, *inner.parents))
            return
    # Named from outside a container, or moved after the mount: the mounted group is the nearest visible one.
    yield mounts[0].point


def _own_group(controller: str) -> PurePosixPath | None:
    """Parse lines like ``4:cpu,cpuacct:/a/b``; cgroup v2 is the line without a controller, ``0::/a/b``."""
    for line in _lines(PROCESS / "cgroup"):
        match line.split(":", 2):
            case [_, controllers, path] if controller in controllers.split(","):
                return PurePosixPath(path)
    return None


def _mounts(kind: str, controller: str) -> list[_Mount]:
    """Parse lines like ``31 23 0:28 ROOT POINT rw shared:9 - cgroup cgroup rw,cpu,cpuacct``; proc_pid_mountinfo(5)."""
    found = []
    for line in _lines(PROCESS / "mountinfo"):
        where, _, what = line.partition(" - ")
        match where.split(" "), what.split(" "):
            case [_, _, _, root, point, *_], [found_kind, _, options] if found_kind == kind:
                if not controller or controller in options.split(","):
                    found.append(_Mount(PurePosixPath(_unescaped(root)), Path(_unescaped(point))))
    return found


def _unescaped(field: str) -> str:
    r"""Undo the kernel's octal escapes in paths: ``\040`` for a space, ``\134`` for a backslash."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)


def _quota_v2(folder: Path) -> float | None:
    return _ratio(_words(folder / "cpu.max"))  # "150000 100000", or "max 100000"


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))  # -1 means no limit


def _ratio(words: list[str]) -> float | None:
    try:
        quota, period = map(int, words)
        return quota / period if quota > 0 and period > 0 else None
    except (ValueError, OverflowError):
        return None


def _bytes(words: list[str]) -> int | None:
    try:
        (number,) = map(int, words)
    except ValueError:  # "max"
        return None
    return number


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except (OSError, ValueError):
        return []
