"""Releases memory pages of libraries that are loaded but not needed, such as CUDA's where a CPU does the work.

PyTorch's usual build loads all of CUDA at import and keeps some 250 MB of clean file pages resident. Releasing them is safe:
if a page is needed after all, the kernel reads it back from the library's file.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

CUDA = re.compile(r"/nvidia/|/libtorch_cuda")
_DONT_NEED = 4  # MADV_DONTNEED
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ +(/.*)\n")


def release_pages(libraries: re.Pattern[str] = CUDA) -> None:
    """Release the clean pages of libraries whose path matches; do nothing where there is no /proc."""
    try:
        places = list(_clean(libraries))
    except OSError:
        return
    madvise = ctypes.CDLL(None).madvise
    for begin, end in places:
        madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONT_NEED)


def _clean(libraries: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) addresses of read-only mappings that hold nothing but the file's content."""
    mapping = None
    with Path("/proc/self/smaps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if found := _MAPPING.fullmatch(line):
                mapping = found
            elif line.startswith("Anonymous:") and mapping and int(line.split()[1]) == 0:
                if "w" not in mapping[3] and libraries.search(mapping[4]):
                    yield int(mapping[1], 16), int(mapping[2], 16)
                mapping = None
