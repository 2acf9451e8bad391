"""The kinds of value in config.yaml that pydantic does not know: paths, names, topics, database URLs, polygons."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from edge_agent.backbones.weights.catalog import lookup
from edge_agent.backbones.weights.clip_names import is_clip, parse_clip
from edge_agent.errors import CheckpointError, ConfigError
from edge_agent.line.calibration import Calibration, Fraction, read_calibration
from edge_agent.settings.polygons import Point, fault_of, without_closing_point
from edge_agent.sources.camera import address


def wrong(text: str) -> PydanticCustomError:
    """An error with exactly this text: the value is shown only where the text itself shows it."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def folder_of(info: ValidationInfo) -> Path:
    """What relative paths are relative to: the folder of the config file, or the working directory without one."""
    return info.context["folder"] if info.context else Path.cwd()


def absolute(text: str | Path, folder: Path) -> Path:
    """`text` as an absolute path, `~` expanded; symbolic links stay, as the user named them."""
    return Path(os.path.abspath(folder / os.path.expanduser(text)))


def sqlite_url(path: Path) -> str:
    """The URL of a database file; a URL would take these three letters of a path for something else."""
    return f"sqlite:///{path}".translate({ord(letter): f"%{ord(letter):02X}" for letter in "%?@"})


def sanitised(text: str) -> str:
    """The nearest valid name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:64] or "edge-agent"


def _path(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise wrong("is empty: give a path, or remove the key")
    return absolute(value, folder_of(info)) if isinstance(value, str | Path) else value


def _readable_file(path: Path) -> Path:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise wrong(f"{path} is not a file")
        path.open("rb").close()
    except FileNotFoundError as error:
        raise wrong(f"the file {path} does not exist") from error
    except OSError as error:
        raise wrong(f"the file {path} cannot be read: {error.strerror}") from error
    return path


def _no_file(path: Path) -> Path:
    if os.path.lexists(path) and not os.path.isdir(path):
        raise wrong(f"{path} is not a folder")
    return path


AnyPath = Annotated[Path, BeforeValidator(_path)]
ReadableFile = Annotated[AnyPath, AfterValidator(_readable_file)]
Folder = Annotated[AnyPath, AfterValidator(_no_file)]  # may come into being later


def _name(text: str) -> str:
    if not re.fullmatch(r"[^\W_][\w.-]{0,63}", text):
        raise wrong(
            f"{_short(text)} is no usable name, as it becomes an MQTT topic level and a folder: take up to 64 letters,"
            f" digits, '-', '_' and '.', such as '{sanitised(text)}'"
        )
    return text


def _topic(text: str) -> str:
    for level in text.split("/"):
        bad = re.search(r"[+#$\s]", level)
        if bad:
            raise wrong(
                f"the topic level {_short(level)} has {bad[0]!r} in it: MQTT topics go without '+', '#', '$', space"
            )
        if not level:
            raise wrong(
                f"the topic {_short(text)} has an empty level: write it like acme/plant1/line4, no '/' at the ends"
            )
    if len(text) > 200:
        raise wrong("the topic is longer than 200 characters")
    return text


def _host(text: str) -> str:
    if "://" in text:
        raise wrong(f"{_short(text)} is a URL: give the host alone; for mqtts:// add tls: {{}}")
    if re.fullmatch(r"[^:]+:\d+", text):
        raise wrong(f"{_short(text)} has a port in it: give it as port: {text.rsplit(':')[-1]}")
    if not re.fullmatch(r"[\w.:%-]{1,253}", text):
        raise wrong(f"{_short(text)} is no host name and no IP address")
    return text


Name = Annotated[str, AfterValidator(_name)]
Topic = Annotated[str, AfterValidator(_topic)]
Host = Annotated[str, AfterValidator(_host)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


def _model(text: str, info: ValidationInfo) -> str:
    if is_clip(text):
        try:
            return str(parse_clip(text, folder_of(info)))
        except CheckpointError as error:
            raise wrong(str(error)) from error
    if not text.startswith(("/", "./", "../", "~")):
        try:
            return lookup(text).name
        except CheckpointError as error:
            raise wrong(f"{error}; a folder begins with /, ./, ../ or ~") from error
    path = absolute(text, folder_of(info))
    if not os.path.isdir(path):
        raise wrong(f"the folder {path} does not exist")
    return str(path)


def _pattern(text: str) -> str:
    if "/" in text:
        raise wrong(f"{_short(text)} has a '/': patterns match file names; for subfolders say recursive: true")
    return text


def _polling(value: Any) -> Any:
    return None if value == "auto" else value


def _camera(value: Any, info: ValidationInfo) -> Any:
    text = str(value) if isinstance(value, int | Path) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text:
        return text
    fault = address.fault_of(text)
    if fault:
        raise wrong(fault)
    if text.isdecimal():
        return f"/dev/video{int(text)}"
    if address.is_url(text) or address.is_pipeline(text):
        return text
    return str(absolute(text, folder_of(info)))


def _roi(roi: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = roi
    if not width or not height or x + width > 1.000001 or y + height > 1.000001:
        raise wrong(
            "leaves the picture, or holds nothing of it: wants [x, y, width, height] as fractions of the picture"
        )
    return roi


def _four(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise wrong("wants [x, y, width, height] as fractions of the picture, such as [0.25, 0, 0.5, 1]")
    return value


def _two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong("wants [width, height] in pixels, such as [1920, 1080]")
    return value


def _rotate(degrees: int) -> int:
    if degrees not in (0, 90, 180, 270):
        raise wrong(f"is {degrees}; wants 0, 90, 180 or 270, in degrees clockwise")
    return degrees


CameraAddress = Annotated[str, Field(min_length=1, max_length=2000), BeforeValidator(_camera)]
Side = Annotated[int, Field(ge=16, le=65535)]
Size = Annotated[tuple[Side, Side], BeforeValidator(_two)]
Roi = Annotated[tuple[Fraction, Fraction, Fraction, Fraction], BeforeValidator(_four), AfterValidator(_roi)]
Rotate = Annotated[int, AfterValidator(_rotate)]
Model = Annotated[Text, AfterValidator(_model)]
Pattern = Annotated[Text, AfterValidator(_pattern)]
Polling = Annotated[bool | None, BeforeValidator(_polling)]


def _calibration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Calibration):
        return value
    if not isinstance(value, str | Path):
        raise wrong("wants the path of a calibration file")
    path = _readable_file(absolute(value, folder_of(info)))
    try:
        return read_calibration(path)
    except ConfigError as error:
        raise wrong("; ".join(str(error).splitlines())) from error


CalibrationFile = Annotated[Calibration, BeforeValidator(_calibration)]


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    points = without_closing_point(points)
    fault = fault_of(points)
    if fault:
        raise wrong(fault)
    return points


def _not_one_polygon(value: Any) -> Any:
    """Catches `ignore: [[0, 0], [1, 0], [1, 1]]`: one polygon where a list of them is due."""
    if isinstance(value, list) and value and all(isinstance(x, list) and _flat(x) for x in value):
        raise wrong("is a single polygon: wants a list of them, so put one more pair of brackets around it")
    return value


def _flat(items: list[Any]) -> bool:
    return bool(items) and not any(isinstance(item, list | dict) for item in items)


Polygon = Annotated[tuple[tuple[Fraction, Fraction], ...], AfterValidator(_polygon)]
Polygons = Annotated[tuple[Polygon, ...], BeforeValidator(_not_one_polygon)]

_POSTGRES = "postgresql+psycopg"


def _database_url(text: str, info: ValidationInfo) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in ("sqlite", _POSTGRES):
        hint = f"; write {_POSTGRES}://" if scheme in ("postgres", "postgresql") else ""
        raise wrong(f"wants sqlite:///FILE or {_POSTGRES}://USER@HOST/DATABASE{hint}")
    if scheme == "sqlite":
        if not rest.startswith("///") or rest.strip("/") in ("", ":memory:") or re.search("[?#]", rest):
            raise wrong("wants sqlite:///FILE: the journal has to outlive the agent")
        return sqlite_url(absolute(unquote(rest[3:]), folder_of(info)))
    try:
        url = urlsplit(text)
        port, password = url.port, url.password
    except ValueError as error:
        raise wrong("is not a valid URL: check the host and the port") from error
    if password is not None or "password" in dict(parse_qsl(url.query)):
        raise wrong("has a password in it, in plain text: take it out, and give password: {file: PATH} beside url")
    if not url.path.strip("/") or port == 0:
        raise wrong(f"names no database: wants {_POSTGRES}://USER@HOST/DATABASE")
    return text


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]


def user_of(url: str) -> str | None:
    """Whom a database URL connects as, if it says so."""
    return urlsplit(url).username


def with_password(url: str, password: str) -> str:
    """`url` with the password put in, for whoever connects; never to be logged."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
