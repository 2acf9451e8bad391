"""What backbones are known by name: whose they are, what they measure, where their files lie. Data only.

Left out: digests and exact sizes, which the servers state and a fetch pins (see store.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_agent.errors import CheckpointError

VISION, TEXT, TOKENIZER = "vision.npz", "text.npz", "tokenizer.model"
FILES = (VISION, TEXT, TOKENIZER)  # what every backbone's folder holds
EMBEDDED = "embedded"  # the one that ships in the package

_BUCKET = "https://storage.googleapis.com/tips_data"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a backbone: its name in our folders, and where its owner publishes it."""

    name: str
    url: str

    @property
    def published_name(self) -> str:
        """The file's name at its owner's, as in "tips_oss_b14_highres_distilled_vision.npz"."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class Backbone:
    """One set of weights. files is () for what ships in the package.

    image_size: side in pixels of the pictures it was trained on. patch: side of a patch in pixels. width: length of a
    feature. vision_millions, text_millions: parameters of the two towers as published. None where only the files tell.
    """

    name: str
    holder: str
    licence: str  # SPDX
    image_size: int | None = None
    patch: int | None = None
    width: int | None = None
    vision_millions: float | None = None
    text_millions: float | None = None
    files: tuple[RemoteFile, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder below the one of all models: its name, in letters that every file system takes."""
        return self.name.replace(":", "/")

    @property
    def about_bytes(self) -> int | None:
        """Roughly what a fetch brings, at four bytes a parameter; the server states the true sizes."""
        if self.vision_millions is None or self.text_millions is None:
            return None
        return round((self.vision_millions + self.text_millions) * 4e6)


def lookup(name: str) -> Backbone:
    """The backbone of that name. Raises CheckpointError with the nearest names."""
    if name in BACKBONES:
        return BACKBONES[name]
    near = difflib.get_close_matches(name, BACKBONES, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`edge-agent models` lists them"
    raise CheckpointError(f"{name!r} is no known backbone; {hint}")


def _tips(name: str, version: str, stem: str, image_size: int, width: int, vision: float, text: float) -> Backbone:
    # The repository's README puts its software under Apache-2.0 and "all other materials", hence the weights, under
    # CC BY 4.0. Conversions at huggingface.co/google are tagged Apache-2.0; the stricter of the two is named here.
    folder = f"{_BUCKET}/{version}/checkpoints/pytorch"
    return Backbone(
        name=name,
        holder="Google DeepMind",
        licence="CC-BY-4.0",
        image_size=image_size,
        patch=14,
        width=width,
        vision_millions=vision,
        text_millions=text,
        files=(
            RemoteFile(VISION, f"{folder}/{stem}_vision.npz"),
            RemoteFile(TEXT, f"{folder}/{stem}_text.npz"),
            RemoteFile(TOKENIZER, f"{_BUCKET}/v1_0/checkpoints/tokenizer.model"),  # one tokenizer serves both versions
        ),
    )


# Addresses, parameters and sizes of pictures: https://github.com/google-deepmind/tips, its README.md,
# pytorch/checkpoints/download_checkpoints.sh and pytorch/run_image_encoder_inference.py.
BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        backbone.name: backbone
        for backbone in (
            Backbone(EMBEDDED, "edge-agent", "Apache-2.0", 224, 16, 256, 5.2, 2.5),
            _tips("tips-s14", "v1_0", "tips_oss_s14_highres_distilled", 448, 384, 21.6, 33.6),
            _tips("tips-b14", "v1_0", "tips_oss_b14_highres_distilled", 448, 768, 85.7, 109.6),
            _tips("tips-l14", "v1_0", "tips_oss_l14_highres_distilled", 448, 1024, 303.2, 183.9),
            _tips("tips-so400m14", "v1_0", "tips_oss_so400m14_highres_largetext_distilled", 448, 1152, 412.4, 448.3),
            _tips("tips-g14", "v1_0", "tips_oss_g14_highres", 448, 1536, 1100, 389.1),
            _tips("tips-g14-lowres", "v1_0", "tips_oss_g14_lowres", 224, 1536, 1100, 389.1),
            _tips("tips2-b14", "v2_0", "tips_v2_oss_b14", 448, 768, 85.7, 109.6),
            _tips("tips2-l14", "v2_0", "tips_v2_oss_l14", 448, 1024, 303.2, 183.9),
            _tips("tips2-so400m14", "v2_0", "tips_v2_oss_so14", 448, 1152, 412.4, 448.3),
            _tips("tips2-g14", "v2_0", "tips_v2_oss_g14", 448, 1536, 1100, 389.1),
        )
    }
)
