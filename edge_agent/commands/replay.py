"""`edge-agent replay`: stored pictures and videos, inspected as a station would."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import count, fraction, seed, words
from edge_agent.commands.exits import FAILED, INTERRUPTED, OK
from edge_agent.commands.output import as_json, logging_to_stderr, one_line
from edge_agent.commands.signals import stopped_by_signals
from edge_agent.errors import ConfigError, EdgeAgentError

if TYPE_CHECKING:
    import numpy as np

    from edge_agent.config.config import Config
    from edge_agent.config.station import StationConfig
    from edge_agent.core import Evaluation, Evidence, Inspection
    from edge_agent.evidence.contact_sheet import ContactSheet
    from edge_agent.journal.journal import Journal
    from edge_agent.line.pipeline import Station
    from edge_agent.replay.resume import Earlier


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent replay`."""
    replay = commands.add_parser("replay", help="inspect stored pictures and videos, marked as simulated")
    replay.add_argument("paths", nargs="+", metavar="PATH", help="pictures, videos, folders or globs")
    replay.add_argument(
        "--config", type=Path, help="judge as a station of this file does; default: the embedded model as it comes"
    )
    replay.add_argument("--station", help="which station of the config; needed when it has several")
    replay.add_argument(
        "--class-name", type=words, help="what they show, such as hazelnut (default: object, or as the config says)"
    )
    replay.add_argument(
        "--every", type=count, default=1, metavar="N", help="of videos, take every N-th frame (default 1)"
    )
    replay.add_argument(
        "--threshold", type=fraction, help="score in [0, 1] from which a picture is NotOK (default: as recommended)"
    )
    replay.add_argument(
        "--out",
        type=Path,
        default=Path("replay-out"),
        help="folder for overlays, journal and contact sheet (default ./replay-out)",
    )
    replay.add_argument(
        "--again",
        action="store_true",
        help="inspect all of it again, and add to what is in --out (default: go on where a replay by the same settings stopped)",
    )
    replay.add_argument(
        "--overlays",
        choices=("all", "not_ok", "none"),
        default="all",
        help="of which pictures to keep an overlay (default all; an archive is inspected sooner without those that are OK)",
    )
    replay.add_argument(
        "--workers",
        type=seed,
        metavar="N",
        help="processes that decode pictures ahead; 0 decodes in this one (default: half the cores, none for few pictures)",
    )
    replay.add_argument(
        "--distributed",
        metavar="ADDRESS",
        help="inspect pictures by the machines of the Ray cluster at this address, which find them and the model at the same "
        "paths; local: by a cluster of this machine alone; --workers are then the processes that inspect "
        "(needs pip install 'edge-agent[distributed]')",
    )
    replay.add_argument("--json", action="store_true", help="one JSON object a picture on stdout")
    replay.add_argument(
        "--publish", action="store_true", help="publish to the config's broker too, marked as simulated"
    )
    replay.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    from edge_agent.config.config import Config
    from edge_agent.config.load import load_config

    if options.config:
        config = load_config(options.config)
    else:
        config = Config.model_validate({"stations": [{"name": "replay", "source": {"folder": "."}}]})
    if options.station and not options.config:
        raise ConfigError("--station needs a --config: the station is one of that file")
    if options.publish and not (options.config and config.mqtt):
        raise ConfigError("--publish needs a --config with an mqtt section: it says where to")
    return _inspect_stored(config, _station(config, options), options)


def _inspect_stored(config: Config, chosen: StationConfig, options: argparse.Namespace) -> int:
    """The replay of one station; apart, as _watch is."""
    import time

    from tqdm import tqdm

    from edge_agent import build
    from edge_agent.config.database import sqlite_url
    from edge_agent.config.evidence import EvidenceConfig
    from edge_agent.core import MQTT
    from edge_agent.evidence.contact_sheet import ContactSheet
    from edge_agent.journal.journal import Journal
    from edge_agent.line.pipeline import replay
    from edge_agent.replay import resume
    from edge_agent.sources.stored import StoredSource

    log = logging_to_stderr(verbose=False)
    out = Path(os.path.abspath(options.out))
    source = StoredSource(
        chosen.name,
        options.paths,
        every=options.every,
        max_megapixels=config.limits.max_megapixels,
        bit_depth=chosen.source.stored_bit_depth,
        leave_out=out,
        workers=options.workers,
    )
    if options.distributed and source.count is None:
        raise EdgeAgentError("--distributed takes pictures alone, and there are videos here: replay those without it")
    station = build.station(chosen, build.loader(config), config.sha256)
    sheet = ContactSheet()
    begun = time.monotonic()
    with ExitStack() as open_parts:
        if options.distributed:  # first, as Ray has signals of its own
            from edge_agent.replay import distributed

            open_parts.enter_context(distributed.cluster(options.distributed))
        journal = open_parts.enter_context(closing(Journal.open(sqlite_url(out / "journal.db"))))
        judged = resume.judged_by(station, chosen.detector.class_name)
        after = resume.begin(out, journal, station.name, judged, again=options.again)
        earlier = _taken_up(journal, station, after, sheet)
        counts, before = earlier.counts.copy(), earlier.counts.total()
        source.skip(earlier.knows)
        mqtt = config.mqtt if options.publish else None
        sender = build.replay_sender(mqtt, config.agent.name, journal) if mqtt else None
        stop = open_parts.enter_context(stopped_by_signals())
        hidden = True if options.json else None
        bar = open_parts.enter_context(
            tqdm(total=source.count, initial=before, unit="picture", leave=False, disable=hidden)
        )
        announce, batch = build.announce(mqtt), config.limits.batch_size
        if options.distributed:
            inspected = distributed.replay(
                source.unknown_pictures,
                distributed.Task(
                    source.part([]), chosen, config.sha256, config.agent.data_dir / "models", options.overlays
                ),
                station,
                out / "evidence",
                journal,
                announce,
                batch=batch,
                workers=options.workers or None,
                first_seq=before,
                alarms=earlier.alarms,
                stop=stop,
            )
        else:
            evidence_config = EvidenceConfig.model_construct(
                folder=out / "evidence", originals="none", overlays=options.overlays, keep_days=1e9, keep_gb=1e9
            )
            store = build.evidence_store(evidence_config)
            inspected = replay(source, station, store, journal, announce, batch=batch, stop=stop, alarms=earlier.alarms)
        for inspection, evidence in inspected:
            counts[inspection.verdict.evaluation] += 1
            _show(sheet, inspection, evidence, drawn=bool(options.distributed))
            bar.clear()
            told = as_json(inspection, evidence) if options.json else one_line(inspection, colour=sys.stdout.isatty())
            print(told, flush=True)
            bar.update()
        if sender:
            sender.close(60.0)
        unsent = journal.outbox(MQTT).outbox_depth()[0] if sender else 0
    said = _summary(counts, before, time.monotonic() - begun, out, _saved(sheet, out))
    print(said, file=sys.stderr if options.json else sys.stdout)
    if stop.is_set():
        log.warning("interrupted: the rest was not inspected; the same command goes on from here")
        return INTERRUPTED
    if unsent:
        log.error("%d messages could not be sent; the next --publish with this --out sends them", unsent)
        return FAILED
    return OK


def _taken_up(journal: Journal, station: Station, after: int, sheet: ContactSheet) -> Earlier:
    """What was done before, on the sheet too."""
    from edge_agent.replay.resume import Earlier

    earlier = Earlier()
    for one in journal.outcomes(station.name, after):
        earlier.take_in(one, station.name, station.rules)
        title = one.part_id or Path(one.origin or "").name
        drawn = partial(_tile_from_evidence, one.overlay, (one.height, one.width))
        sheet.add_drawn(one.evaluation, one.score, drawn, title=title)
    return earlier


def _show(sheet: ContactSheet, inspection: Inspection, evidence: Evidence, *, drawn: bool) -> None:
    """Put an inspection on the sheet. drawn: elsewhere, so that its overlay is all there is of it."""
    frame, reading, verdict = inspection.frame, inspection.reading, inspection.verdict
    if drawn:
        uri = evidence.overlay.uri if evidence.overlay else None
        tile = partial(_tile_from_evidence, uri, frame.pixels.shape[:2])
        sheet.add_drawn(verdict.evaluation, reading.score if reading else None, tile, title=frame.title)
    else:
        sheet.add(frame.pixels, reading, verdict, map_threshold=inspection.map_threshold, title=frame.title)


def _tile_from_evidence(uri: str | None, shape: tuple[int, int]) -> np.ndarray:
    """A picture of the sheet as its overlay shows it, or a blank one where no overlay was kept. shape: (H, W) of the picture."""
    from urllib.parse import unquote_to_bytes, urlsplit

    from edge_agent.errors import PictureError
    from edge_agent.evidence.contact_sheet import blank, tile_of_overlay
    from edge_agent.io.pictures import decode

    if uri is None:
        return blank()
    try:
        overlay = decode(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
    except PictureError:  # somebody has tidied up
        return blank()
    return tile_of_overlay(overlay, shape)


def _saved(sheet: ContactSheet, out: Path) -> Path:
    from PIL import Image

    path = out / "contact_sheet.jpg"
    try:
        Image.fromarray(sheet.render()).save(path, quality=90)
    except OSError as error:
        raise EdgeAgentError(f"{path}: cannot be written ({error.strerror}): choose another --out") from error
    return path


def _summary(counts: Counter[Evaluation], before: int, took: float, out: Path, sheet: Path) -> str:
    """What was found, of earlier pictures too, and where it lies."""
    from edge_agent.core import Evaluation
    from edge_agent.io.pictures import printable

    total = counts.total() - before
    found = ", ".join(f"{counts[evaluation]} {evaluation.value}" for evaluation in list(Evaluation)[:3])
    more = f"; {before} {'were' if before != 1 else 'was'} inspected before; of all {total + before}" if before else ""
    return (
        f"\n{total} picture{'s' * (total != 1)} in {took:.1f} s ({total / took:.1f} a second){more}: {found}"
        f"\noverlays       {printable(out / 'evidence')}"
        f"\ncontact sheet  {printable(sheet)}"
        f"\njournal        {printable(out / 'journal.db')}"
    )


def _station(config: Config, options: argparse.Namespace) -> StationConfig:
    """The station that --station names, with what the command line changes of it."""
    chosen = config.station(options.station)
    if options.class_name:
        chosen = chosen.model_copy(
            update={"detector": chosen.detector.model_copy(update={"class_name": options.class_name})}
        )
    if options.threshold is not None:
        chosen = chosen.model_copy(update={"threshold": options.threshold, "calibration": None})
    return chosen
