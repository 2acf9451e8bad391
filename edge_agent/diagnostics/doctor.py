"""Checks whether the agent would work on this machine, and says what to do about each check that fails."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge_agent import __version__, build
from edge_agent.backbones.families import family_of
from edge_agent.backbones.weights.store import own_folder, search_folders
from edge_agent.config.config import Config
from edge_agent.errors import EdgeAgentError, JournalInUse
from edge_agent.io.files import why_not_writable
from edge_agent.settings.finding import Finding

if TYPE_CHECKING:
    from edge_agent.core import Detector

WAL_RESET_FIXED = (3, 51, 3)  # an earlier SQLite may lose a write if two connections write; the agent has only one
LEAST_DISK_GB = 1.0
EARLIEST = datetime(2026, 1, 1, tzinfo=timezone.utc)  # a clock that is earlier than this program is wrong


def examine(config: Config | None) -> Iterator[Finding]:
    """Yield the findings of all checks in order. A check that raises an EdgeAgentError has failed.

    config: None makes only the checks that need none.
    """
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("versions", _versions),
        ("sqlite", _sqlite),
        ("clock", _clock),
        ("gpu", _gpu),
        ("detector", lambda: _detectors(config)),
    ]
    if config is not None:
        checks.insert(-1, ("models", lambda: _models(config)))
        checks += [
            ("disk", lambda: _disk(config)),
            ("journal", lambda: _journal(config)),
            ("sources", lambda: _sources(config)),
            ("sinks", lambda: _sinks(config)),
        ]
    for name, check in checks:
        try:
            yield from check()
        except EdgeAgentError as error:
            yield Finding(name, "failed", str(error))


def _versions() -> Iterator[Finding]:
    import torch

    yield Finding(
        "versions",
        "ok",
        f"edge-agent {__version__}, Python {platform.python_version()}, torch {torch.__version__}, OpenCV {cv2.__version__}",
    )


def _sqlite() -> Iterator[Finding]:
    if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        yield Finding(
            "sqlite",
            "ok",
            f"{sqlite3.sqlite_version}; before 3.51.3 a second writer may lose data: the agent is the only one, "
            "so let no other program write",
        )
    else:
        yield Finding("sqlite", "ok", sqlite3.sqlite_version)


def _clock() -> Iterator[Finding]:
    now = datetime.now(timezone.utc)
    if now < EARLIEST:
        yield Finding(
            "clock", "failed", f"it is {now:%Y-%m-%d %H:%M} UTC on this machine: set the clock, verdicts carry its time"
        )
    elif Path("/run/systemd/timesync").is_dir() and not Path("/run/systemd/timesync/synchronized").exists():
        yield Finding("clock", "warning", f"{now:%Y-%m-%d %H:%M:%S} UTC, not yet synchronised: see `timedatectl`")
    else:
        yield Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding(
            "gpu",
            "ok",
            f"{torch.cuda.get_device_name()}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, CUDA {torch.version.cuda}",
        )
    elif Path("/dev/nvidia0").exists() or Path("/dev/nvhost-gpu").exists():
        yield Finding(
            "gpu",
            "warning",
            f"this machine has one, but torch {torch.__version__} cannot use it: install a CUDA build and its driver",
        )
    else:
        yield Finding("gpu", "ok", "none: the CPU does the work")


def _models(config: Config) -> Iterator[Finding]:
    """Yield models that only this user finds."""
    if "STATE_DIRECTORY" in os.environ:  # as a service, which does not look there
        return
    own, folders = own_folder(), search_folders(config.agent.data_dir)
    for_service = [folder for folder in folders if folder != own]
    for model in dict.fromkeys(station.detector.model for station in config.stations):
        family = family_of(model)
        if cached := family.only_cached(model, folders):
            remedy = f"sudo edge-agent models fetch {model}"
            yield Finding(
                "models", "warning", f"{model} is in your cache alone ({cached}), where no service looks: {remedy}"
            )
        elif family.is_absent(model, for_service) and not family.is_absent(model, [own]):
            remedy = f"sudo edge-agent models fetch {model} --from {own}"
            yield Finding("models", "warning", f"{model} is in {own} alone, where no service looks; for one: {remedy}")


def _detectors(config: Config | None) -> Iterator[Finding]:
    from edge_agent.backbones.tips.embedded import EMBEDDED
    from edge_agent.inference.load import Loader

    if config is None:
        found: list[tuple[str, Detector]] = [(EMBEDDED, Loader().detector())]
    else:
        found = [(one.name, one.detector) for one in build.stations(config, build.loader(config)).values()]
    for name, detector in {id(detector): (name, detector) for name, detector in reversed(found)}.values():
        stages, info = _stages(detector), detector.info
        yield Finding(
            "detector",
            "ok",
            f"{name}: {info.name} on {info.device}, weights {info.model_sha256[:12]}, "
            f"prompts {info.checkpoint_sha256[:12]}; "
            + ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in stages.items()),
        )


def _stages(detector: Detector) -> dict[str, float]:
    """Return the median milliseconds of each stage, for five single pictures of 1280 x 1024 stored as PNG."""
    from edge_agent.evidence.overlay import overlay
    from edge_agent.io.pictures import decode_bytes
    from edge_agent.line.judge import Rules, judge

    noise = np.random.default_rng(0).integers(0, 256, (1024, 1280, 3), np.uint8)
    stored = cv2.imencode(".png", noise)[1].tobytes()
    rules = Rules(threshold=0.0)
    taken: dict[str, list[float]] = {"decode": [], "read": [], "judge": [], "overlay": []}
    detector.read([noise])  # the first one warms up
    for _ in range(5):
        moments = [time.perf_counter()]
        pixels = decode_bytes(stored, "noise.png")
        moments.append(time.perf_counter())
        (reading,) = detector.read([pixels])
        moments.append(time.perf_counter())
        verdict = judge(reading, rules, pixels.shape)
        moments.append(time.perf_counter())
        overlay(pixels, reading, verdict, threshold=rules.threshold, map_threshold=rules.map_threshold)
        moments.append(time.perf_counter())
        for ms, (started, ended) in zip(taken.values(), pairwise(moments), strict=True):
            ms.append((ended - started) * 1e3)
    return {stage: statistics.median(ms) for stage, ms in taken.items()}


def _disk(config: Config) -> Iterator[Finding]:
    for folder in dict.fromkeys((config.agent.data_dir, config.evidence.folder)):
        there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        free = shutil.disk_usage(there).free / 1e9
        if reason := why_not_writable(there):
            yield Finding("disk", "failed", reason)
            continue
        state = "ok" if free >= LEAST_DISK_GB else "warning"
        yield Finding("disk", state, f"{folder}: {free:.1f} GB free")


def _journal(config: Config) -> Iterator[Finding]:
    from edge_agent.journal.journal import Journal

    file = config.database.file()
    if file and not file.exists() and not Path(f"{file}-wal").exists():
        yield Finding("journal", "ok", f"{config.database.url}: is made at the first start")
        return
    try:
        journal = Journal.open(config.database.full_url())
    except JournalInUse:
        yield Finding("journal", "ok", f"{config.database.url}: in use, as expected while the agent runs")
        return
    waiting = [_waiting_text(name, *journal.outbox(name).outbox_depth()) for name in journal.receivers()]
    used = journal.size() / 1e9
    journal.close()
    most, sending = config.database.keep_gb, "; ".join(waiting) or "nothing waits to be sent"
    yield Finding("journal", "ok", f"{config.database.url}: {used:.3f} of at most {most:g} GB, {sending}")


def _waiting_text(receiver: str, count: int, oldest: datetime | None) -> str:
    return f"{count} messages wait for {receiver}" + (
        f", the oldest since {oldest:%Y-%m-%d %H:%M} UTC" if oldest else ""
    )


def _sources(config: Config) -> Iterator[Finding]:
    for station in config.stations:
        yield from station.source.check(station.name, max_megapixels=config.limits.max_megapixels)


def _sinks(config: Config) -> Iterator[Finding]:
    for key, sink in config.sinks().items():
        yield from sink.check(config.agent.name, [one.name for one in config.stations], config.asked(key))
    if not config.sinks():
        yield Finding("broker", "ok", "none configured: nothing is published")
