"""`edge-agent export --onnx` and `--check`: a station's detector as an ONNX file, and the check of what is built from it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, words
from edge_agent.commands.exits import FAILED, OK
from edge_agent.detectors.methods import unfitted_methods
from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from edge_agent.config.config import Config
    from edge_agent.config.station import StationConfig
    from edge_agent.onnx.golden import GoldenResult


def add(export: argparse.ArgumentParser, what: argparse._MutuallyExclusiveGroup) -> None:
    """Add their part of the command line of `edge-agent export`. what: the group of which one is chosen."""
    what.add_argument(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="instead of a table: the detector as one ONNX file, and a golden set beside it; of the embedded model, or of the"
        " station in --config",
    )
    what.add_argument(
        "--check",
        type=Path,
        metavar="FILE",
        help="check that an exported ONNX file gives torch's results for its golden set: run it in onnxruntime, or take --answers",
    )
    onnx = export.add_argument_group("with --onnx")
    onnx.add_argument("--model", type=words, help=f"{forms()} (default: {EMBEDDED}, or as in the config)")
    onnx.add_argument("--checkpoint", type=Path, help="fitted prompts; default: as in the config")
    onnx.add_argument(
        "--method", choices=unfitted_methods(), help="one that needs no checkpoint; default: as in the config"
    )
    onnx.add_argument("--class-name", type=words, help="default: object, or as in the config")
    onnx.add_argument(
        "--batch",
        type=_batch,
        default="any",
        metavar="N",
        help="how many pictures the file takes at once (default: any; some methods need a number)",
    )
    check = export.add_argument_group("with --check")
    check.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        help="scores, and maps if you have them, of the golden set's pictures from another runtime, such as a TensorRT"
        " engine: .json or .npz",
    )
    check.add_argument(
        "--tolerance",
        type=float,
        default=0.001,
        help="the largest difference of a score, and of a map anywhere, that passes (default: 0.001, for fp32; an fp16 engine: 0.005)",
    )


def export_onnx(options: argparse.Namespace) -> int:
    """Write both files, or neither: the export is first compared with torch."""
    import numpy as np

    from edge_agent import build
    from edge_agent.config.config import Config
    from edge_agent.config.load import load_config
    from edge_agent.io.files import write_durably
    from edge_agent.onnx import golden
    from edge_agent.onnx.export import Graph, export, reference, resized
    from edge_agent.onnx.run import OnnxFile

    if options.config:
        config = load_config(options.config)
    else:
        config = Config.model_validate({"stations": [{"name": "export", "source": {"folder": "."}}]})
    chosen = _station(config, options)
    if chosen.detector.together:
        raise EdgeAgentError(
            f"station {chosen.name} looks with two models together, and one ONNX file holds one: export a station that looks with one"
        )
    loader = build.loader(config)
    station = build.station(chosen, loader, config.sha256)
    rules = station.rules
    # Whoever runs the file cuts elongated pictures into squares.
    detector = build.single_detector(chosen.detector, loader)
    graph = Graph(detector, station.keep)
    made = export(
        detector,
        graph,
        batch=options.batch,
        class_name=chosen.detector.class_name,
        threshold=rules.threshold,
        map_threshold=rules.map_threshold,
    )
    sources = golden.source_pictures()
    pictures = np.concatenate([resized(detector, [one]) for one in sources.values()])
    kept = golden.golden_set(made.metadata, list(sources), pictures, *reference(graph, pictures))
    found = golden.compare(kept, *OnnxFile(made.onnx).read(kept.pictures))
    if not found.passed:
        raise EdgeAgentError(
            f"the exported graph is not what torch computes ({_summary(found)}): nothing was written; report this"
        )
    out = options.onnx
    try:
        golden.save(kept, golden.golden_path(out))
        write_durably(out, made.onnx)
    except OSError as error:
        raise EdgeAgentError(
            f"{out}: {error.strerror}: name a file in a folder with room that you may write"
        ) from error
    size = detector.info.image_size
    print(
        f"{detector.info.name} for {chosen.detector.class_name!r} in {out} ({len(made.onnx) / 1e6:.1f} MB)\n"
        f"takes          pictures ({made.metadata['batch']}, {size}, {size}, 3) uint8 RGB; resize: {made.metadata['resize']}\n"
        f"gives          scores and maps; NotOK from {rules.threshold:g} on, a pixel from {rules.map_threshold:g} on\n"
        f"golden set     {golden.golden_path(out)}: {len(kept.names)} pictures; under onnxruntime {_summary(found)}"
    )
    return OK


def check(options: argparse.Namespace) -> int:
    """Check an ONNX file or its results; exit code 0 where it passes, 1 where it does not."""
    from edge_agent.onnx import golden
    from edge_agent.onnx.run import OnnxFile

    kept = golden.load(golden.golden_path(options.check))
    if options.answers:
        scores, maps = golden.read_answers(options.answers)
    else:
        file = OnnxFile(options.check)
        golden.require_same_export(kept, file.metadata, str(options.check))
        scores, maps = file.read(kept.pictures)
    found = golden.compare(kept, scores, maps, options.tolerance)
    print(f"{'passed' if found.passed else 'FAILED'}: {len(kept.names)} pictures, {_summary(found)}")
    return OK if found.passed else FAILED


def _summary(found: GoldenResult) -> str:
    maps = "maps not given" if found.map is None else f"maps by {found.map:.2g} ({found.map_of})"
    flips = f"verdicts flip on {', '.join(found.flipped)}" if found.flipped else "no verdict flips"
    return f"scores differ by {found.score:.2g} ({found.score_of}), {maps}, {found.tolerance:g} is allowed; {flips}"


def _station(config: Config, options: argparse.Namespace) -> StationConfig:
    """Return the station that --station names, in fp32 on the CPU, with the command line's changes."""
    chosen = config.station(options.station)
    given = {key: getattr(options, key) for key in ("model", "checkpoint", "method", "class_name")}
    if chosen.detector.windows > 1:
        raise EdgeAgentError(
            f"station {chosen.name} reads windows, and a graph reads one picture: set windows: 1 there to export"
        )
    changed = {"device": "cpu", "precision": "fp32"} | {key: value for key, value in given.items() if value}
    return chosen.model_copy(update={"detector": chosen.detector.model_copy(update=changed)})


def _batch(text: str) -> int | None:
    return None if text == "any" else count(text)
