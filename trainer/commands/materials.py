"""`trainer materials`: take photographs of materials out of packages, for `trainer pretrain --materials`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer materials`."""
    materials = commands.add_parser(
        "materials",
        help="extract public-domain photographs of materials from packages, for pretrain --materials",
    )
    materials.add_argument(
        "packages",
        type=Path,
        nargs="+",
        help="package files, as the commands in trainer/pretrain/materials/packages.py download them",
    )
    materials.add_argument("--out", type=Path, required=True, help="folder to write pictures and materials.json into")
    materials.set_defaults(run=_materials)


def _materials(options: argparse.Namespace) -> int:
    from trainer.pretrain.materials.packages import write_materials

    print(f"wrote {write_materials(options.packages, options.out)} photographs to {options.out}")
    return 0
