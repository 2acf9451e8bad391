"""Make the pictures of docs/good-parts.md from the part that `make demo` teaches, which a program drew.

python -m benchmarks.doc_pictures [--out docs]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from edge_agent.config.load import load_config
from edge_agent.inference.load import Loader
from trainer.cli import main as trainer
from trainer.station.before_after import as_shipped, compared, write_sheet

PART = Path("edge_agent/sample_part")
SHOWN = ("1_good.jpg", "5_hole.jpg")
SIDE = 160  # pixels of a good part


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    good = [cv2.imread(str(path)) for path in sorted((PART / "good").glob("*.jpg"))]
    row = np.hstack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in good])
    cv2.imwrite(str(out / "good-parts-shown.jpg"), row, [cv2.IMWRITE_JPEG_QUALITY, 85])
    with tempfile.TemporaryDirectory() as place:
        station = Path(place) / "station"
        trainer(["station", "--good", str(PART / "good"), "--name", "plate", "--out", str(station)])
        after = load_config(station / "config.yaml").station("plate")
        before = as_shipped("plate", "object", station)
        pairs = compared([PART / "new" / name for name in SHOWN], before, after, Loader(), [])
        write_sheet(pairs, out / "good-parts-after.jpg")


if __name__ == "__main__":
    main()
