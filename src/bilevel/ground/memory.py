"""Keep freed memory in the process: on CPUs the largest single gain in speed."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory", "peak_memory", "physical_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Ask the C library not to return large freed blocks to the system; True if it agreed.

    Big temporaries are otherwise faulted in anew at every operation, which can cost more than the
    arithmetic. It is a setting of the whole process, so programs call it, not the library; the
    command line does. Only glibc has it; elsewhere nothing happens.

    Example:
        >>> changed = keep_freed_memory()
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    limit = 2**30
    return bool(mallopt(M_MMAP_THRESHOLD, limit)) and bool(mallopt(M_TRIM_THRESHOLD, limit))


def physical_memory() -> int | None:
    """How much memory this machine has [byte]; None where the system does not say.

    Example:
        >>> (physical_memory() or 2**40) > 2**20
        True
    """
    if sys.platform == "win32":
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_memory() -> int | None:
    """The most that this process has had in memory [byte]; None where the system does not say.

    Example:
        >>> (peak_memory() or 2**40) > 2**20
        True
    """
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
