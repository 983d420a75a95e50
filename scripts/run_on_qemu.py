"""Build a model's C file for devices and run it on emulated ones: compare every logit with onnxruntime's, and measure.

Needs the compiler and the emulator of each target; on Debian all are in

    gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm    (m0, m3, m4, m7, m55: boards without a system)
    qemu-user gcc-arm-linux-gnueabihf gcc-aarch64-linux-gnu gcc-riscv64-linux-gnu    (Linux programs)

Instructions are those that the emulator counts. Flash is code and constants that `prefix_logits` needs.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.data import datasets
from mnist_edge.export.c import source
from mnist_edge.runtime.model import locate
from mnist_edge.runtime.session import Session

HERE: Final = Path(__file__).parent
EXAMPLES: Final = HERE.parent / "docs" / "examples" / "c"

FLAGS: Final = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections")


@dataclass(frozen=True)
class Target:
    """A device, or a system whose programs an emulator runs."""

    compiler: str
    emulator: tuple[str, ...]
    flags: tuple[str, ...] = ()
    hertz: int = 0
    """Of a board's timer; 0 for programs under Linux."""

    flash: int = 0
    ram: int = 0
    """A board's, in KiB."""

    @property
    def is_here(self) -> bool:
        """Whether its compiler and its emulator are installed."""
        return all(map(shutil.which, (self.compiler, self.emulator[0])))


def board(machine: str, flags: str, megahertz: int, flash: int, ram: int) -> Target:
    emulator = ("qemu-system-arm", "-nographic", "-icount", "shift=0", "-M", machine)
    semihosting = ("-semihosting-config", "enable=on,target=native", "-kernel")
    return Target("arm-none-eabi-gcc", (*emulator, *semihosting), tuple(flags.split()), megahertz * 10**6, flash, ram)


BOARDS: Final = {
    "m0": board("microbit", "-mcpu=cortex-m0", 16, 256, 16),
    "m3": board("mps2-an385", "-mcpu=cortex-m3", 25, 4096, 64),
    "m4": board("mps2-an386", "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16", 25, 4096, 64),
    "m7": board("mps2-an500", "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-sp-d16", 25, 4096, 64),
    "m55": board("mps3-an547", "-mcpu=cortex-m55 -mfloat-abi=hard", 32, 512, 64),
}
TARGETS: Final = BOARDS | {
    "armv7": Target("arm-linux-gnueabihf-gcc", ("qemu-arm",), ("-march=armv7-a+fp", "-static")),
    "aarch64": Target("aarch64-linux-gnu-gcc", ("qemu-aarch64",), ("-static",)),
    "riscv64": Target("riscv64-linux-gnu-gcc", ("qemu-riscv64",), ("-static",)),
}


def run(content: bytes, target: Target, images: NDArray[np.uint8]) -> dict[str, int]:
    """Run an int8-static file's C code on images, uint8 [n, 1, 28, 28].

    Returns:
        ``images``; ``differing``, how many of them have other logits than onnxruntime gives; on a board also
        ``instructions`` an image and ``stack``, in bytes.
    """
    (logits,) = Session(content).run([OUTPUT_NAME], {INPUT_NAME: images})
    flags = [*target.flags, *FLAGS, f"-DCOUNT={len(images)}"]
    sources = [HERE / "run_on_qemu.c"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model.h").write_text(source.generate(content, "prefix"), encoding="ascii")
        (place / "images.bin").write_bytes(images.tobytes())
        (place / "expected.bin").write_bytes(logits.astype("<f4").tobytes())
        if target.hertz:
            script = (EXAMPLES / "cortex_m.ld").read_text(encoding="ascii")
            script = script.replace("256K", f"{target.flash}K").replace("16K", f"{target.ram}K")
            (place / "board.ld").write_text(script, encoding="ascii")
            flags += ["-DBARE_METAL", "-nostartfiles", "-T", "board.ld"]
            sources.append(EXAMPLES / "startup.c")
        subprocess.run([target.compiler, *flags, "-I.", *sources, "-o", "program"], cwd=place, check=True)
        result = subprocess.run(
            [*target.emulator, place / "program"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
    found = {name: int(value) for name, value in map(str.split, result.stdout.splitlines())}
    if target.hertz:
        # The emulator executes one instruction in each nanosecond of its own time.
        found["instructions"] = found.pop("ticks") * 10**9 // target.hertz
    return found


def flash_of(content: bytes, target: Target, *flags: str) -> int:
    """Bytes of code and constants that `prefix_logits` needs."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "model.h").write_text(source.generate(content, "prefix"), encoding="ascii")
        (place / "main.c").write_text('#define MNIST_EDGE_IMPLEMENTATION\n#include "model.h"\n', encoding="ascii")
        link = ["-nostartfiles", "-Wl,--gc-sections,-e,prefix_logits", "main.c", "-o", "program"]
        subprocess.run([target.compiler, *target.flags, *FLAGS, *flags, *link], cwd=place, check=True)
        size = f"{target.compiler.removesuffix('gcc')}size"
        sizes = subprocess.run([size, "-A", "program"], cwd=place, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in sizes.splitlines())
    return sum(int(row[1]) for row in rows if row and row[0] in (".text", ".rodata"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="cnn-nano", help="a bundle or a pretrained model")
    parser.add_argument("targets", nargs="*", default=[*TARGETS], help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--images", type=int, default=100, help="how many test images")
    chosen = parser.parse_args()
    content = Path(locate(chosen.model), Format.INT8_STATIC.file_name).read_bytes()
    images = datasets.load(os.environ.get("MNIST_EDGE_DATA")).test.images[: chosen.images, None]
    for name in chosen.targets:
        target = TARGETS[name]
        if not target.is_here:
            print(f"{name}: skipped, {target.compiler} or {target.emulator[0]} is not installed")
            continue
        facts = run(content, target, images)
        if target.hertz:
            facts |= {"flash": flash_of(content, target), "flash with -Os": flash_of(content, target, "-Os")}
        print(f"{name}: {', '.join(f'{key} {value:,}' for key, value in facts.items())}", flush=True)


if __name__ == "__main__":
    main()
