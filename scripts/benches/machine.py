"""What a benchmark or a proof runs on, and the kernels that it may be limited to."""

import os
import platform
from pathlib import Path

#: Limits the libraries under torch to AVX2, if it is set before they look at the processor.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
#: The kernels that the float32 goldens were recorded with, on the processors of every maker (docs/verification.md).
GOLDEN_KERNELS = AVX2 | {"MKL_CBWR": "COMPATIBLE"}


def cpu_name() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def total_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine() -> str:
    """The processor, the memory and the system."""
    memory = total_memory() / 1e9
    return f"{os.cpu_count()} cores of {cpu_name()}, {memory:.0f} GB of memory, Linux {platform.release()}"
