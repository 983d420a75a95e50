"""What this process may really use: processors by its affinity mask, and what its cgroups grant it, of memory too.

onnxruntime counts the host's cores, so a container that may use one core gets a pool for all of them. The kernel grants
processor time by quota: so many microseconds a period, to a group and all groups within it. Version 2 of the interface
(cgroups(7), Documentation/admin-guide/cgroup-v2.rst) keeps both numbers in ``cpu.max``, version 1
(scheduler/sched-bwc.rst) in ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; a machine may have both, each with its own
groups. Memory is bounded in the same way, by ``memory.max`` or ``memory.limit_in_bytes``. What cannot be read or
understood counts as no limit: a pool of a wrong size is slow, never wrong.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

PROCESS: Final = Path("/proc/self")
"""Where the kernel says which groups this process is in, and where their folders are mounted."""

_ENDLESS: Final = 2**60
"""Version 1 writes no limit as about 2**63, rounded to its pages."""


@dataclass(frozen=True)
class _Mount:
    """A place where a cgroup hierarchy, or a part of it, can be seen."""

    root: PurePosixPath
    """The group that `point` shows: not always the outermost, as in a container."""

    point: Path


def usable_cpus() -> int:
    """Processors that this process can keep busy, at least 1: by affinity, and by quota rounded down.

    Down, because a quota of 1.5 would not slow the second of two threads: the kernel stops both, once they have used up
    what is granted in a period (100 ms as a rule), until the next one begins, and every so many answers come late.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def cpu_quota() -> float | None:
    """Processors' worth of time that this process is granted, such as 1.5; None where nothing limits it.

    A group's quota binds all groups within it, so the smallest on the way from this process's group outwards counts.
    """
    quotas = [_quota_v2(folder) for folder in _folders("cgroup2", "")]
    quotas += [_quota_v1(folder) for folder in _folders("cgroup", "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit() -> int | None:
    """Bytes of memory that this process's cgroups grant it, the smallest as for `cpu_quota`; None without a limit."""
    files = [folder / "memory.max" for folder in _folders("cgroup2", "")]
    files += [folder / "memory.limit_in_bytes" for folder in _folders("cgroup", "memory")]
    limits = [_bytes(_words(file)) for file in files]
    return min((limit for limit in limits if limit is not None and limit < _ENDLESS), default=None)


def _folders(kind: str, controller: str) -> Iterator[Path]:
    """The group of this process in a hierarchy and those around it, as far as they can be seen, innermost first."""
    group, mounts = _own_group(controller), _mounts(kind, controller)
    if group is None or not mounts:
        return
    for mount in mounts:
        if group.is_relative_to(mount.root) and ".." not in group.parts:
            inner = group.relative_to(mount.root)
            yield from (mount.point / level for level in (inner, *inner.parents))
            return
    # Named from outside a container, or moved after the mount: then what is mounted is the nearest that can be seen.
    yield mounts[0].point


def _own_group(controller: str) -> PurePosixPath | None:
    """From lines as ``4:cpu,cpuacct:/a/b``; version 2 is the line without a controller, ``0::/a/b``."""
    for line in _lines(PROCESS / "cgroup"):
        match line.split(":", 2):
            case [_, controllers, path] if controller in controllers.split(","):
                return PurePosixPath(path)
    return None


def _mounts(kind: str, controller: str) -> list[_Mount]:
    """From lines as ``31 23 0:28 ROOT POINT rw shared:9 - cgroup cgroup rw,cpu,cpuacct``, see proc_pid_mountinfo(5)."""
    found = []
    for line in _lines(PROCESS / "mountinfo"):
        where, _, what = line.partition(" - ")
        match where.split(" "), what.split(" "):
            case [_, _, _, root, point, *_], [found_kind, _, options] if found_kind == kind:
                if not controller or controller in options.split(","):
                    found.append(_Mount(PurePosixPath(_unescaped(root)), Path(_unescaped(point))))
    return found


def _unescaped(field: str) -> str:
    r"""The kernel writes blanks and backslashes in paths as ``\040`` and ``\134``."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)


def _quota_v2(folder: Path) -> float | None:
    return _ratio(_words(folder / "cpu.max"))  # "150000 100000", or "max 100000"


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))  # -1 is no limit


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
