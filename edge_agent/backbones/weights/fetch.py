"""Fetches a backbone from its owner, a mirror or a folder, verifies it against what the source states, and pins it."""

from __future__ import annotations

import errno
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import filelock

from edge_agent.backbones.families import family_of
from edge_agent.backbones.weights.digests import BLOCK, measure, parse_sums
from edge_agent.backbones.weights.download import (
    Downloaded,
    NotThere,
    Report,
    RetryPolicy,
    Unreachable,
    check_room,
    discard,
    download,
)
from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.backbones.weights.store import PINS, intact, pin, read_pins
from edge_agent.errors import CheckpointError
from edge_agent.io.files import put

log = logging.getLogger(__name__)

Progress = Callable[[str, int, "int | None"], None]  # file ("tips-b14/vision.npz"), bytes done, in all where known
READABLE = 0o644  # weights are no secret, and a service that reads them is another user than who fetched them
FileSource = Callable[[RemoteFile, Path, Report], Downloaded]  # writes a file to the path


def fetch(
    name: str,
    *,
    into: Path,
    source: str | Path | None = None,
    progress: Progress = lambda file, done, total: None,
    policy: RetryPolicy = RetryPolicy(),  # noqa: B008  (frozen)
) -> Path:
    """Fetch a backbone into its folder below `into` and return that folder.

    Files that are there and intact are not fetched again, an interrupted download is resumed, and of two fetches at once
    one waits for the other.

    Args:
        name: of the backbone.
        into: the folder of all models.
        source: an http(s) address or a local folder to take the files from instead of their owner. There they may be
            named as published (tips_oss_b14_highres_distilled_vision.npz), or as here (tips-b14/vision.npz, or vision.npz
            alone); a SHA256SUMS beside them is honoured.
        progress: called with file, bytes done and bytes in all, where known.
        policy: how long a download is retried.

    Raises CheckpointError, with the remedy, when a file cannot be fetched or is not what it should be.
    """
    backbone = family_of(name).published(name)
    return fetch_published(backbone, into=into, source=source, progress=progress, policy=policy)


def fetch_published(
    backbone: Published, *, into: Path, source: str | Path | None, progress: Progress, policy: RetryPolicy
) -> Path:
    """Fetch a backbone that no catalog need list; see fetch()."""
    if backbone.shipped:
        return backbone.shipped
    folder = into / backbone.folder
    download_file = _source(backbone, source, policy)
    try:
        if all(_is_here(folder, file) for file in backbone.files):
            return folder  # before the lock, so that a read-only folder is enough
        _make_readable(into, backbone.folder)
        with locked(folder):
            for file in backbone.files:
                if not _is_here(folder, file):
                    _fetch_file(backbone, file, folder, download_file, progress)
    except Unreachable as error:
        raise Unreachable(f"{error}\n{_other_sources(backbone)}") from None
    except OSError as error:
        raise CheckpointError(_disk_error(error, folder)) from None
    return folder


def _is_here(folder: Path, file: RemoteFile) -> bool:
    return intact(folder, file.name) and file.sha256 in (None, read_pins(folder)[file.name])


def _make_readable(into: Path, name: str) -> None:
    """Create the folder `name` in `into`, so that every user may read it whatever the umask: a service is another user."""
    folder = into / name
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        one.chmod(READABLE | 0o111)


def _fetch_file(
    backbone: Published, file: RemoteFile, folder: Path, download_file: FileSource, progress: Progress
) -> None:
    part = folder / f"{file.name}.part"
    report = partial(progress, f"{backbone.name}/{file.name}")
    downloaded = download_file(file, part, report)
    try:
        sha256 = _verify(part, downloaded, file)
    except CheckpointError as error:
        discard(part)
        if not downloaded.pieced:
            raise
        log.warning("%s; downloading it again from the first byte", error)
        downloaded = download_file(file, part, report)
        sha256 = _verify(part, downloaded, file)
    if fault := _fault_of_shape(backbone, file, part):
        discard(part)
        raise CheckpointError(
            f"{downloaded.origin} is not {file.name} of {backbone.name}: {fault}; name the right file"
        )
    pinned = read_pins(folder).get(file.name)
    if file.sha256 is None and pinned not in (None, sha256):
        discard(part)
        raise CheckpointError(
            f"{downloaded.origin} is not the file that {folder / PINS} has pinned: its SHA-256 is {sha256[:12]}..., the "
            f"pin {pinned[:12]}...; take it from where it came first or, if the change is meant, delete {folder} "
            "and fetch again"
        )
    pin(folder, file.name, sha256)  # before the rename: after a power cut the whole part is still there
    part.chmod(READABLE)
    put(part, folder / file.name)
    discard(part)


def _verify(part: Path, downloaded: Downloaded, file: RemoteFile) -> str:
    """Verify a download against its source's digests and the catalogue's, and return its SHA-256 (hex).

    Args:
        part: the downloaded file.
        downloaded: what its source states.
        file: what it is to be.

    Raises CheckpointError where it is damaged, or another file.
    """
    found = measure(part, {"sha256", *downloaded.stated})
    for algorithm, stated in downloaded.stated.items():
        if found[algorithm] != stated:
            raise CheckpointError(
                f"{downloaded.origin} arrived damaged: its {algorithm} is {found[algorithm]}, its source states {stated}; "
                "try again; if it stays so, the source itself is damaged"
            )
    if file.sha256 not in (None, found["sha256"]):
        raise CheckpointError(
            f"{downloaded.origin} is not {file.name}: its SHA-256 is {found['sha256'][:12]}..., its owner's file has"
            f" {str(file.sha256)[:12]}...; nothing of it was kept: take it from {file.url}"
        )
    if not downloaded.stated and file.sha256 is None:
        log.warning("%s: the source states no digest for it", downloaded.origin)
        if file.name.endswith(".npz") and (fault := _fault(part)):
            raise CheckpointError(
                f"{downloaded.origin} is not a whole .npz file ({fault}); try again, or another source"
            )
    return found["sha256"]


def _fault_of_shape(backbone: Published, file: RemoteFile, part: Path) -> str | None:
    """Hold a file against the width that the catalogue gives for its backbone; return what differs, if anything does."""
    if file.sized is None or backbone.width is None:
        return None
    from edge_agent.backbones.weights.arrays import read_shape  # numpy: only here

    shape = read_shape(part, file.sized)
    if not shape:
        return f"it has no array {file.sized}"
    return (
        None
        if shape[-1] == backbone.width
        else f"its width is {shape[-1]}, that of {backbone.name} is {backbone.width}"
    )


def _fault(npz: Path) -> str | None:
    """Check an archive by its own checksums; return what is wrong with it, if anything is."""
    try:
        with zipfile.ZipFile(npz) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        return str(error)
    return damaged and f"{damaged} in it is damaged"


def _source(backbone: Published, source: str | Path | None, policy: RetryPolicy) -> FileSource:
    """Return what takes a file from that source. Raises CheckpointError for a source that cannot be used."""
    if source is None:
        return lambda file, part, report: download(file.url, part, report, policy)
    if isinstance(source, str) and "://" in source:
        mirror = source.rstrip("/")
        parts = urlsplit(mirror)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CheckpointError(f"{source}: only http and https addresses and local folders can be used")
        if "@" in parts.netloc:
            raise CheckpointError(f"{parts.hostname}: no password in an address, logs would show it; copy to a folder")
        return lambda file, part, report: _from_mirror(backbone, file, mirror, part, report, policy)
    place = Path(source)
    if not place.is_dir():
        raise CheckpointError(f"{place}: no such folder; give one that holds the files, or an http(s) address")
    return lambda file, part, report: _from_folder(backbone, file, place, part, report)


def _from_mirror(
    backbone: Published, file: RemoteFile, mirror: str, part: Path, report: Report, policy: RetryPolicy
) -> Downloaded:
    refusals = []
    for name in _candidate_names(backbone, file):
        url = f"{mirror}/{name}"
        try:
            downloaded = download(url, part, report, policy)
        except NotThere as error:
            refusals.append(str(error))
            continue
        listed = _listed_digest(url, part.with_name(f"{PINS}.part"), policy)
        return Downloaded(url, downloaded.stated | listed, downloaded.pieced)
    raise Unreachable("\n".join(refusals))


def _listed_digest(url: str, part: Path, policy: RetryPolicy) -> dict[str, str]:
    """Return the digest of `url` in a SHA256SUMS beside it, if there is one."""
    folder, name = url.rsplit("/", 1)
    discard(part)
    try:
        download(f"{folder}/{PINS}", part, lambda done, total: None, policy)
    except NotThere:
        return {}
    listed = _digest_in(part, name)
    discard(part)
    return listed


def _from_folder(backbone: Published, file: RemoteFile, source: Path, part: Path, report: Report) -> Downloaded:
    paths = [source / name for name in _candidate_names(backbone, file)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise Unreachable(f"no {file.name} of {backbone.name} at {' or '.join(map(str, paths))}")
    discard(part)
    total = path.stat().st_size
    check_room(part.parent, str(path), total)
    with path.open("rb") as reader, part.open("wb") as writer:
        report(0, total)
        while block := reader.read(BLOCK):
            writer.write(block)
            report(writer.tell(), total)
        writer.flush()
        os.fsync(writer.fileno())
    return Downloaded(str(path), _digest_in(path.with_name(PINS), path.name))


def _candidate_names(backbone: Published, file: RemoteFile) -> list[str]:
    """List the names that a file may have at a mirror or in a folder, the most specific first."""
    return list(dict.fromkeys([f"{backbone.folder}/{file.name}", file.published_name, file.name]))


def _digest_in(sums: Path, name: str) -> dict[str, str]:
    digest = parse_sums(sums.read_text(errors="replace")).get(name) if sums.is_file() else None
    return {"sha256": digest} if digest else {}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other fetch work in a folder at the same time; wait for one that does."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.warning("another fetch works in %s; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _other_sources(backbone: Published) -> str:
    names = ", ".join(file.published_name for file in backbone.files)
    return (
        f"To take the files from elsewhere: `edge-agent models fetch {backbone.name} --from PLACE`, where PLACE is a "
        f"mirror's address or a folder (a USB stick, say) with {names}; `edge-agent models pack PLACE {backbone.name}` makes it on "
        "a PC with internet"
    )


def _disk_error(error: OSError, folder: Path) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: {reason}; make room, or choose another folder for models; what was received is kept"
    return f"{error.filename or folder}: {reason}; check who may read and write there, or choose another folder"
