"""Types of values that several sections of config.yaml share: paths, names, file patterns, numbers."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from edge_agent.io.names import UNFINISHED, config_name

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


def invalid(text: str) -> PydanticCustomError:
    """Return a validation error with exactly this text; the value is shown only where the text shows it."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def folder_of(info: ValidationInfo) -> Path:
    """Return what relative paths are relative to: the config file's folder, or the working directory without a file."""
    return info.context["folder"] if info.context else Path.cwd()


def absolute(text: str | Path, folder: Path) -> Path:
    """Return `text` as an absolute path, with `~` expanded; symbolic links are kept as the user wrote them."""
    return Path(os.path.abspath(folder / os.path.expanduser(text)))


def _path(value: Any, info: ValidationInfo) -> Any:
    if value == "":
        raise invalid("is empty: give a path, or remove the key")
    if isinstance(value, str) and (fault := _foreign(value)):
        raise invalid(f"{shortened(value)} {fault}")
    return absolute(value, folder_of(info)) if isinstance(value, str | Path) else value


def _foreign(path: str) -> str | None:
    """Say why a path is none of this machine's, and what to write instead; None if it may be one."""
    if re.match(r"[A-Za-z]:([\\/]|$)", path) or "\\" in path:
        example = re.sub(r"^[A-Za-z]:", "", path).replace("\\", "/")
        if path.startswith("\\\\") or path.startswith("//"):
            return "is a Windows share: mount it on this machine (mount -t cifs), and write the folder that it is mounted at"
        return f"is a Windows path: write it with / and without a drive, as this machine has it, such as {example}"
    if re.match(r"[a-z][a-z0-9+.-]+://", path):
        return "is an address, no path: mount what it leads to, and write the folder that it is mounted at"
    if variable := re.search(r"(^|/)(\$\{?\w+\}?|%\w+%)", path):
        return (
            f"has the variable {variable[2]}, which is not replaced here: write the path out, or ~ for the home folder"
        )
    return None


def readable_file(path: Path) -> Path:
    """Return the path of a file that can be read; else raise the error of a validator."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise invalid(f"{path} is not a file")
        path.open("rb").close()
    except FileNotFoundError as error:
        raise invalid(f"the file {path} does not exist") from error
    except OSError as error:
        raise invalid(f"the file {path} cannot be read: {error.strerror}") from error
    return path


def _no_file(path: Path) -> Path:
    if os.path.lexists(path) and not os.path.isdir(path):
        raise invalid(f"{path} is not a folder")
    return path


AnyPath = Annotated[Path, BeforeValidator(_path)]
ReadableFile = Annotated[AnyPath, AfterValidator(readable_file)]
Folder = Annotated[AnyPath, AfterValidator(_no_file)]  # may be created later


def _name(text: str) -> str:
    if not re.fullmatch(r"[^\W_][\w.-]{0,63}", text):
        raise invalid(
            f"{shortened(text)} is no usable name, as it becomes an MQTT topic level and a folder: take up to 64 letters,"
            f" digits, '-', '_' and '.', such as '{config_name(text)}'"
        )
    return text


def _pattern(text: str) -> str:
    if "/" in text:
        raise invalid(f"{shortened(text)} has a '/': patterns match file names; for subfolders say recursive: true")
    if text.startswith((".", "~")) or text.lower().endswith(UNFINISHED):
        raise invalid(
            f"{shortened(text)} can never match: hidden files and unfinished ones (*{', *'.join(UNFINISHED)}) are passed over"
        )
    if re.search(r"[;,]\s*\*|\{.*,.*\}|\|", text):
        raise invalid(f"{shortened(text)} is taken as one name: write several patterns as a list, ['*.png', '*.jpg']")
    return text


def shortened(text: str) -> str:
    """Return the text in quotes, at most 40 characters of it."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Pattern = Annotated[Text, AfterValidator(_pattern)]
