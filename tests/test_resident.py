"""A process that works on the CPU keeps no pages of libraries it has no use for, and works as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is resident")
def test_clean_pages_of_a_library_go_and_it_still_works():
    import cv2

    (path,) = {Path(cv2.__file__).with_name(name.name) for name in Path(cv2.__file__).parent.glob("cv2*.so")}
    script = f"""
import re, numpy as np, cv2
from pathlib import Path
from edge_agent.backbones.memory import release_pages

def resident():
    kept, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith({str(path)!r})
        elif ours and line.startswith("Rss:"):
            kept += int(line.split()[1])
    return kept

picture = np.arange(4096, dtype=np.uint8).reshape(64, 64)
blurred = cv2.GaussianBlur(picture, (0, 0), 2)
before = resident()
release_pages(re.compile(re.escape({str(path)!r})))
print(before, resident())
assert (cv2.GaussianBlur(picture, (0, 0), 2) == blurred).all()
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    before, after = map(int, said.split())
    assert after < before / 2
