"""The processor's name and features, and how busy it is."""

import os
import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")

_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

CPU_FEATURES: Final = {
    "avx2": "avx2",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx_int8",
    "asimd": "asimd",
    "asimddp": "asimddp (dot product)",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}
"""Processor features that onnxruntime's kernels use: Linux's name for each, and how it is shown."""


def processor_name() -> str:
    """The processor's model name, as far as the system tells it."""
    return (cpuinfo() or {}).get("model name") or platform.processor() or platform.machine() or "unknown"


def cpuinfo() -> dict[str, str] | None:
    """The last processor's fields in ``/proc/cpuinfo``; None on systems without it."""
    try:
        text = _CPUINFO.read_text(errors="replace")
    except OSError:
        return None
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def processor_flags() -> set[str]:
    """The processor's feature flags, as Linux spells them; empty on other systems."""
    fields = cpuinfo() or {}
    return set((fields.get("flags") or fields.get("Features") or "").split())


def features() -> list[str]:
    """Those of `CPU_FEATURES` that the processor has, as they are shown; empty on systems other than Linux."""
    flags = processor_flags()
    return [shown for flag, shown in CPU_FEATURES.items() if flag in flags]


def load_average() -> float | None:
    """How many processes ran or waited for a processor, averaged over the last minute; None where it is not told."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return None


def governor() -> str | None:
    """How Linux chooses the clock rate of the first processor, such as ``powersave``; None where it does not tell."""
    try:
        return _GOVERNOR.read_text(encoding="utf-8").strip()
    except OSError:
        return None
