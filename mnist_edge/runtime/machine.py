"""What this machine is: its processor's name and features."""

import platform
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")


def processor_name() -> str:
    """What this machine's processor calls itself."""
    return (cpuinfo() or {}).get("model name") or platform.processor() or platform.machine() or "unknown"


def cpuinfo() -> dict[str, str] | None:
    """Linux's description of the last processor; None on other systems."""
    try:
        text = _CPUINFO.read_text(errors="replace")
    except OSError:
        return None
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def processor_flags() -> set[str]:
    """The features of this machine's processor, as Linux spells them; none on other systems."""
    fields = cpuinfo() or {}
    return set((fields.get("flags") or fields.get("Features") or "").split())
