"""The file in which a method's authors publish their prompts, read without running code from it."""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.errors import CheckpointError

# What training scripts often save beside tensors: settings, paths, losses. None of it is built here all the same.
_PLAIN_DATA = ("argparse.Namespace", "numpy._core.multiarray.", "numpy.core.multiarray.", "numpy.dtype", "numpy.ndarray",
               "pathlib.", "datetime.", "omegaconf.", "easydict.", "yacs.config.")  # fmt: skip
_PROMPT_FILES = (".pth", ".pt")
_BESIDE_PROMPTS = (".txt", ".json", ".yaml", ".yml", ".log", ".md")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class PublishedPrompts:
    """What such a file holds.

    path: of the file. sha256: its digest, hex. method: the method's name. parts: dicts of tensors under the authors' own
    keys and names.
    """

    path: Path
    sha256: str
    method: str
    parts: Mapping[str, Mapping[str, Tensor]]


def prompts_file(path: Path) -> Path:
    """Return the file of prompts that is meant: the path itself, or the only .pth in a folder, or beside a text file such as args.txt.

    Raises CheckpointError when there is none, or more than one.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and (path.suffix.lower() not in _BESIDE_PROMPTS or not path.is_file()):
        return path
    found = sorted(one for one in folder.iterdir() if one.suffix.lower() in _PROMPT_FILES)
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in found[:5]) + (", ..." if len(found) > 5 else "")
    raise CheckpointError(
        f"{folder}: has {f'{len(found)} files of prompts ({names}): name one of them' if found else 'no .pth in it: name the file'}"
    )


def read_content(path: Path) -> tuple[Any, str]:
    """Unpickle the file and return its content and its SHA-256.

    Only tensors in plain containers or in a ParameterList are built; nothing else is imported or called. Raises
    CheckpointError when the file cannot be read, is damaged, or asks for anything else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    return _unpickled(path, data), hashlib.sha256(data).hexdigest()


def checked_tensors(path: Path, name: str, content: Any) -> dict[str, Tensor]:
    """Check that a part of a file is a dict of ordinary CPU tensors by name, and return it.

    Args:
        path: of the file, for error messages.
        name: of the part, for error messages.
        content: the part.

    Raises CheckpointError when it is anything else.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: {name} is no dict of tensors; download it again, or take another file")
    for key, value in content.items():
        ordinary = (
            isinstance(key, str)
            and isinstance(value, Tensor)
            and value.layout is torch.strided
            and value.device.type == "cpu"  # any other device at this point means a tensor without content
            and not value.is_quantized
            and not value.is_complex()
        )
        if not ordinary:
            raise CheckpointError(f"{path}: {name}[{key!r}] is no ordinary tensor; take another file")
    return dict(content)


def described(content: Any) -> str:
    """Describe what an unknown file holds, for an error message."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    keys = ", ".join(repr(key)[:40] for key in list(content)[:5])
    return f"a dict of {keys}" if keys else "an empty dict"


def _unpickled(path: Path, data: bytes) -> Any:
    if data.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path}: is Git LFS's pointer to a file, not the file: run `git lfs pull`, or download it"
        )
    try:
        with torch.serialization.safe_globals([nn.ParameterList]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old pickles, which it refuses anyway
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch raise nearly every exception there is
        refused = re.search(r"GLOBAL (\S+)", str(error))
        name = refused[1] if refused else _first_import(data) if isinstance(error, pickle.UnpicklingError) else None
        if name:
            raise CheckpointError(f"{path}: {_refusal(name)}") from None
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0][:200]
        raise CheckpointError(
            f"{path}: not a whole file of torch.save ({reason or type(error).__name__}); download or copy it again"
        ) from None


def _refusal(name: str) -> str:
    """Say what was refused and what to do. name: what the file would import; torch before 2.7 says builtins.eval for eval."""
    name = name.removeprefix("builtins.")
    if name.startswith(_PLAIN_DATA):
        return (
            f"holds {name} besides tensors, as training scripts save beside the prompts; only tensors are read, so it was refused"
            " and nothing of it was run. Save it again without: in the program that made it, torch.save the dict of tensors"
            " alone, in plain dicts and lists"
        )
    return (
        f"would call {name}, which no file of prompts needs: refused, and nothing of it was run;"
        " do not trust this file, take the one that the authors publish"
    )


def _first_import(data: bytes) -> str | None:
    """Return the first name that a pickle would import, or nearly: read from its opcodes, without running it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
    except (zipfile.BadZipFile, StopIteration):
        pass  # the pickle itself, or nothing
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings[-2:])
            if isinstance(argument, str):
                strings.append(argument)
    except ValueError:
        pass  # no pickle, or cut off
    return None
