"""Stations that are being set up: each a folder with its settings and good parts, which outlasts a restart of the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import ValidationError

from edge_agent.config.places import parse
from edge_agent.config.station import SourceConfig, StationConfig
from edge_agent.errors import ConfigError, EdgeAgentError, PictureError
from edge_agent.io import pictures
from edge_agent.io.files import write_durably
from edge_agent.page.texts import later
from edge_agent.sources.camera.address import is_url

SETTINGS, GOOD, STATION, TABLE = "draft.json", "good", "station", "table.txt"
ENOUGH, MOST = 20, 200  # good parts
MEGAPIXELS = 100
MOST_BYTES = 64 * 2**20  # of one picture that is uploaded
NAME = re.compile(r"[A-Za-z0-9][\w-]{0,39}", re.ASCII)
PART = re.compile(r"\d{1,6}\.[a-z]{3,4}", re.ASCII)
ADDRESS = re.compile(r"/dev/video\d{1,3}|\d{1,3}", re.ASCII)  # of a camera that is no URL

BAD_NAME = later("A name has 1 to 40 letters, digits, - and _, and begins with a letter or a digit.")
BAD_CAMERA = later("A camera is rtsp://..., http://... or /dev/video0. Others are written into config.yaml.")
FULL = later("So many good parts add nothing but time.")
NO_PICTURES = later("There is no further picture in this folder that can be decoded.")
KEPT_ALREADY = later("This picture is among the good parts already.")


class Refused(EdgeAgentError):
    """What was asked for makes no sense; the message is for people."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A station that is being set up. source: as config.yaml has it. parts: names of the files of good parts, in their order."""

    name: str
    class_name: str
    source: Mapping[str, str]
    folder: Path
    parts: Sequence[str]

    @property
    def good(self) -> Path:
        """Return the folder of its good parts."""
        return self.folder / GOOD

    @property
    def station(self) -> Path:
        """Return the folder that `trainer station` writes."""
        return self.folder / STATION

    def table(self) -> str | None:
        """Return what was measured when these good parts were tried; None if they were not."""
        try:
            return (self.folder / TABLE).read_text("utf-8")
        except OSError:
            return None

    def checked_source(self, base: Path) -> SourceConfig:
        """Return where its pictures come from. base: where relative paths start. Raises Refused."""
        return _checked(self.name, self.class_name, self.source, base).source


class Drafts:
    """The drafts of a folder. Thread-safe."""

    def __init__(self, folder: Path, base: Path) -> None:
        """folder: of all drafts; made when it is needed. base: where relative paths of sources start."""
        self.folder, self.base, self._lock = folder, base, threading.Lock()

    def all(self) -> list[Draft]:
        """Return them by name."""
        names = sorted(one.parent.name for one in self.folder.glob(f"*/{SETTINGS}"))
        return [one for name in names if (one := self.find(name)) is not None]

    def find(self, name: str) -> Draft | None:
        """Return one by its name; None if there is none."""
        if not NAME.fullmatch(name):
            return None
        folder = self.folder / name
        try:
            held = json.loads((folder / SETTINGS).read_bytes())
            source = {str(key): str(value) for key, value in held["source"].items()}
            return Draft(name, str(held["class_name"]), source, folder, self._parts(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def make(self, name: str, class_name: str, source: Mapping[str, str]) -> Draft:
        """Make a draft, or give one other settings.

        Args:
            name: of the station.
            class_name: what its pictures show.
            source: `folder`, or `camera` with `fps`.

        Raises:
            Refused: the agent would refuse it.
        """
        if not NAME.fullmatch(name):
            raise Refused(BAD_NAME)
        camera = source.get("camera")
        if camera is not None and not is_url(camera) and not ADDRESS.fullmatch(camera):
            raise Refused(BAD_CAMERA)
        _checked(name, class_name, source, self.base)
        folder = self.folder / name
        with _writing(folder):
            (folder / GOOD).mkdir(parents=True, exist_ok=True, mode=0o750)
            write_durably(folder / SETTINGS, json.dumps({"class_name": class_name, "source": dict(source)}).encode())
        draft = self.find(name)
        assert draft is not None
        return draft

    def keep(self, draft: Draft, content: bytes, name: str) -> None:
        """Keep a picture of a good part, if it can be decoded as the agent would.

        Args:
            draft: of which station.
            content: of the file.
            name: of it, in errors.

        Raises:
            PictureError: it cannot be.
            Refused: there are enough, or this one is among them.
        """
        pictures.decode_bytes(
            content, name, max_megapixels=MEGAPIXELS, min_side=pictures.MIN_SIDE, refuse_drawings=True
        )
        suffix = Path(name).suffix.lower()
        with self._lock:
            parts = self._parts(draft.folder)
            if len(parts) >= MOST:
                raise Refused(FULL)
            if any(_is_same(draft.good / one, content) for one in parts):
                raise Refused(KEPT_ALREADY)
            number = 1 + max((int(one.partition(".")[0]) for one in parts), default=0)
            suffix = suffix if suffix in pictures.SUFFIXES else ".png"  # what it is, its content tells
            with _writing(draft.good):
                (draft.folder / TABLE).unlink(missing_ok=True)  # it is of other parts
                write_durably(draft.good / f"{number:03}{suffix}", content)

    def keep_pixels(self, draft: Draft, pixels: np.ndarray) -> None:
        """Keep a picture that a camera took, (H, W, 3) uint8 RGB. Raises as keep() does."""
        done, content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if not done:
            raise PictureError("the picture cannot be encoded")
        self.keep(draft, content.tobytes(), "picture.png")

    def copy_newest(self, draft: Draft, folder: Path, wanted: int) -> int:
        """Keep the newest pictures of a folder; return how many. Those that cannot be decoded are passed over.

        Args:
            draft: of which station.
            folder: where its pictures come from.
            wanted: the most that are kept.

        Raises:
            Refused: there is none.
        """
        try:
            with os.scandir(folder) as entries:
                files = [one for one in entries if Path(one.name).suffix.lower() in pictures.SUFFIXES and one.is_file()]
            files.sort(key=lambda one: one.stat().st_mtime_ns, reverse=True)
        except OSError as error:
            raise Refused(f"{folder}: {error.strerror}") from error
        kept = 0
        for file in files[: 10 * wanted]:
            if kept == wanted:
                break
            try:
                _, data = pictures.read(file.path, max_bytes=MOST_BYTES)
                self.keep(draft, data or b"", file.name)
                kept += 1
            except (PictureError, OSError):
                continue
            except Refused as error:
                if str(error) != KEPT_ALREADY:
                    raise
        if not kept:
            raise Refused(NO_PICTURES)
        return kept

    def remove_part(self, draft: Draft, part: str) -> None:
        """Forget a good part; nothing happens where there is none of that name."""
        if part in draft.parts:
            (draft.folder / TABLE).unlink(missing_ok=True)
            (draft.good / part).unlink(missing_ok=True)

    def discard(self, draft: Draft) -> None:
        """Forget a draft, with its good parts and what was made of them."""
        (draft.folder / SETTINGS).unlink(missing_ok=True)  # first, so that no half of it is shown again
        shutil.rmtree(draft.folder, ignore_errors=True)

    def done(self, draft: Draft) -> None:
        """Forget that a station is being set up; what config.yaml names stays, with its own copies of the good parts."""
        (draft.folder / SETTINGS).unlink(missing_ok=True)
        shutil.rmtree(draft.good, ignore_errors=True)

    def _parts(self, folder: Path) -> list[str]:
        return sorted(one.name for one in (folder / GOOD).glob("*") if PART.fullmatch(one.name))


def added_station(draft: Draft) -> dict[str, str]:
    """Return the station of a draft as keys of config.yaml, each with its value as YAML in one line.

    Raises ConfigError if `trainer station` has not written it.
    """
    try:
        written = parse((draft.station / "config.yaml").read_text("utf-8")).data["stations"][0]
        detector = _absolute(written["detector"], draft.station)
        calibration = str(draft.station / written["calibration"])
    except (OSError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"{draft.station}: holds no station: try it first") from error
    found = {"source": _flow(dict(draft.source)), "detector": _flow(detector), "calibration": _flow(calibration)}
    return {"name": _flow(draft.name), **found}


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(one, folder) for one in value]
    if isinstance(value, dict):
        return {key: str(folder / one) if key == "checkpoint" else _absolute(one, folder) for key, one in value.items()}
    return value


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    text = str(value)
    return text if re.fullmatch(r"[\w./][\w./-]*", text, re.ASCII) else "'" + text.replace("'", "''") + "'"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(
            f"{folder}: {error.strerror}: free some space, or let user {os.geteuid()} write there; nothing was kept"
        ) from error


def _is_same(path: Path, content: bytes) -> bool:
    return path.stat().st_size == len(content) and path.read_bytes() == content


def _checked(name: str, class_name: str, source: Mapping[str, str], base: Path) -> StationConfig:
    data = {"name": name, "source": dict(source), "detector": {"class_name": class_name}}
    try:
        return StationConfig.model_validate(data, context={"folder": base})
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
