"""The processor's name and feature flags."""

import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")


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
