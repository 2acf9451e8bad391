"""The record of a published set of weights: owner, licence, sizes, addresses of its files.

Left out, but for files whose owner never changes them: digests and exact sizes, which the servers state and a fetch pins
(see store.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a backbone: its name in our folders, and where its owner publishes it.

    sized: name of an array in it whose last axis is as long as a feature; None where none tells. path: where it lies in its
    owner's repository; None where the last part of its address tells it from others. sha256: the only digest (hex) that it may
    have; None for what a fetch finds, which it pins.
    """

    name: str
    url: str
    sized: str | None = None
    path: str | None = None
    sha256: str | None = None

    @property
    def published_name(self) -> str:
        """The file's name at its owner's, as in "tips_oss_b14_highres_distilled_vision.npz"."""
        return self.path or self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class Published:
    """One set of weights of a backbone.

    image_size: side in pixels of the pictures it was trained on. patch: side of a patch in pixels. width: length of a
    feature. vision_millions, text_millions: parameters of the two towers as published. None where only the files give it.
    files: what a fetch brings. shipped: the folder in the package that holds it, where nothing has to be fetched.
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
    shipped: Path | None = None

    @property
    def folder(self) -> str:
        """Its folder below the one of all models: its name, in letters that every file system takes."""
        return self.name.replace(":", "/")

    @property
    def millions(self) -> float | None:
        """Parameters of both towers."""
        if self.vision_millions is None or self.text_millions is None:
            return None
        return self.vision_millions + self.text_millions

    @property
    def about_bytes(self) -> int | None:
        """Roughly what a fetch brings, at four bytes a parameter; the server states the true sizes."""
        return None if self.millions is None else round(self.millions * 4e6)
