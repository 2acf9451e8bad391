"""The parts of benchmarks.gpu: each returns plain figures, or reports why it cannot be measured here."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import fit as fits
from benchmarks.as_published import AsPublished
from benchmarks.fp8 import to_fp8
from edge_agent.backbones.backbone import Preprocessing
from edge_agent.backbones.precision import halve
from edge_agent.backbones.tips.model import Tips
from edge_agent.core import Evidence, Frame, Inspection, Record, SourceCounts, SourceStatus, Trace
from edge_agent.diagnostics.bench import assemble, flop, matrix_rate, measure, noise_frame, timed
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import choose_device, choose_dtype
from edge_agent.journal.journal import Journal
from edge_agent.kernels import heatmap, pictures, similarity
from edge_agent.kernels.proof import differences
from edge_agent.line.inspect import Station
from edge_agent.line.judge import Rules
from edge_agent.line.line import Line
from trainer import synthesis
from trainer.fit.recipes import RECIPES

Figures = dict[str, Any]


class NotHere(Exception):
    """This machine lacks what a part measures."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. towers: of Tipsomaly, the first of which serves wherever one is enough. clip: of ViP2-CLIP and CoPS.

    image_size: side at which all read. frame: (H, W) of frames. seconds: see bench.measure. compared: pictures whose scores
    are compared between precisions. fit_tower, fitted: tower and pictures of the fit. camera_s: seconds that the cameras run.
    matrix: side of the matrices whose product is timed; None for the device's own.
    """

    towers: tuple[str, ...] = ("tips-l14", "tips-b14", "tips-s14")
    clip: str = "clip:ViT-L-14-336/openai"
    image_size: int = 518
    frame: tuple[int, int] = (1200, 1920)
    batch: int = 32
    seconds: float = 4.0
    compared: int = 1000
    cameras: int = 16
    fps: float = 25.0
    camera_s: float = 15.0
    fit_tower: str = "l14"
    fitted: int = 1725
    compiled: bool = True
    matrix: int | None = None


TINY = Size(("embedded",), "embedded", 32, (60, 80), 2, 0.0, 4, 2, 5.0, 1.0, "tiny", 6, False, 128)


def parts(size: Size, device: str) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """All parts by name, in the order they are measured."""
    first = size.towers[0]
    yield "kernels", lambda: kernels(size, device)
    for tower in size.towers:
        yield f"tipsomaly {tower}", lambda tower=tower: reading(size, device, tower, "tipsomaly")
    for method in ("vip2clip", "cops"):
        yield f"{method} {size.clip}", lambda method=method: reading(size, device, size.clip, method)
    yield f"as published, {first}", lambda: as_published(size, device, first)
    for tower in dict.fromkeys((first, "embedded")):
        yield f"half precision, {tower}", lambda tower=tower: half_precision(size, device, tower)
    if size.compiled:
        yield f"torch.compile, {first}", lambda: reading(size, device, first, "tipsomaly", compiled=True)
    yield f"fp8, {first}", lambda: fp8(size, device, first)
    yield "cameras, journal", lambda: cameras(size, device, first, journal=True)
    yield "cameras, no journal", lambda: cameras(size, device, first, journal=False)
    yield f"fit, {size.fit_tower}", lambda: fit(size, device)


def kernels(size: Size, device: str) -> Figures:
    """Each kernel against its twin: how far apart, what rounding explains, and how much sooner it is done."""
    place = choose_device(device)
    if place.type != "cuda":
        raise NotHere("kernels need a CUDA device; under Triton's interpreter the tests hold them to their twins")
    apart = {name: {"found": found, "allowed": allowed} for name, (found, allowed) in differences(place).items()}
    frames = torch.from_numpy(np.stack([noise_frame(size.frame, seed) for seed in range(size.batch)])).to(place)
    out = torch.empty(size.batch, 3, size.image_size, size.image_size, dtype=torch.float16, device=place)
    cells = size.image_size // 14
    patches = torch.rand(size.batch, cells, cells, device=place)
    features = torch.randn(size.batch, cells * cells, 1024, device=place).half()
    states = torch.nn.functional.normalize(torch.randn(1, 2, 1024, device=place), dim=2)
    steps: dict[str, Callable[[Any], object]] = {
        "pictures": lambda way: way(frames, Preprocessing(), out),
        "similarity": lambda way: way(features, states, 0.07),
        "heatmap": lambda way: way(patches, size.image_size, 4.0, "bilinear", torch.float16),
    }
    ways = {"pictures": pictures, "similarity": similarity, "heatmap": heatmap}
    figures: Figures = {"apart": apart, "all_within": all(one["found"] <= one["allowed"] for one in apart.values())}
    with torch.inference_mode():
        for name, step in steps.items():
            ours, twins = (
                1e3 * float(np.median(list(timed(lambda way=way, step=step: step(way), place, 100, 1.0))))
                for way in (ways[name].kernel, ways[name].reference)  # type: ignore[attr-defined]
            )
            figures[name] = {"kernel_ms": ours, "twin_ms": twins, "ratio": twins / ours}
    return figures


def reading(size: Size, device: str, tower: str, method: str, *, compiled: bool = False) -> Figures:
    """A full batch and a single frame, end to end from bytes."""
    detector, weights = assemble(tower, method, image_size=size.image_size, device=device, compiled=compiled)
    tflop = flop(detector) / 1e12
    matrix = matrix_rate(detector.device, detector.dtype, size.matrix) / 1e12
    batches = {
        str(batch): asdict(measure(detector, batch, size.frame, size.seconds, tflop, matrix))
        for batch in (1, size.batch)
    }
    return {
        "weights": weights,
        "tflop_a_picture": tflop,
        "matrix_tflops": matrix,
        "batches": batches,
        "pictures_per_s": batches[str(size.batch)]["pictures_per_s"],
        "utilisation": batches[str(size.batch)]["utilisation"],
        "single_p50_ms": batches["1"]["p50_ms"],
        "single_p99_ms": batches["1"]["p99_ms"],
    }


def as_published(size: Size, device: str, tower: str) -> Figures:
    """One frame after another in the papers' manner, ours beside it in the same run, and whether both find the same."""
    plain, _ = assemble(tower, image_size=size.image_size, device=device, precision="fp32")
    ours, _ = assemble(tower, image_size=size.image_size, device=device)
    theirs = AsPublished(plain)
    images = [noise_frame(size.frame, seed) for seed in range(size.batch)]
    place = ours.device
    single = list(timed(lambda: theirs.read(images[0]), place, 200, size.seconds))
    alone = list(timed(lambda: ours.read(images[:1]), place, 1000, size.seconds))
    together = measure(ours, size.batch, size.frame, size.seconds, 0.0, 1.0)
    apart = [abs(one.score - theirs.read(image).score) for image, one in zip(images, ours.read(images), strict=True)]
    rate = 1 / float(np.median(single))
    return {
        "published_pictures_per_s": rate,
        "published_ms": 1e3 / rate,
        "ours_pictures_per_s": together.pictures_per_s,
        "ours_single_ms": 1e3 * float(np.median(alone)),
        "ratio": together.pictures_per_s / rate,
        "ratio_single": float(np.median(single) / np.median(alone)),
        "largest_score_apart": max(apart),
    }


def half_precision(size: Size, device: str, tower: str) -> Figures:
    """The same pictures in fp32 and in half precision: how far scores and maps are apart, and how many verdicts flip."""
    half = "fp16" if choose_device(device).type == "cuda" else "bf16"
    side = None if tower == "embedded" else size.image_size
    exact, rounded = (assemble(tower, image_size=side, device=device, precision=one)[0] for one in ("fp32", half))
    return {"precision": half, **compared(exact, rounded, size)}


def compared(exact: PromptDetector, rounded: PromptDetector, size: Size) -> Figures:
    """Both on `size.compared` procedural pictures. Where prompts are random the threshold is the median score, the hardest."""
    scores: list[tuple[float, float]] = []
    maps = 0.0
    for images in structured(size.compared, 256, size.batch):
        for one, other in zip(exact.read(images), rounded.read(images), strict=True):
            scores.append((one.score, other.score))
            maps = max(maps, float(np.abs(one.heatmap - other.heatmap).max()))
    theirs, ours = np.array(scores).T
    own = exact.info.checkpoint_sha256 != ""
    threshold = exact.info.threshold if own else float(np.median(theirs))
    return {
        "pictures": len(scores),
        "largest_score_apart": float(np.abs(theirs - ours).max()),
        "mean_score_apart": float(np.abs(theirs - ours).mean()),
        "largest_map_apart": maps,
        "threshold": threshold,
        "threshold_is": "the checkpoint's" if own else "the median score",
        "verdicts_flipped": int(((theirs >= threshold) != (ours >= threshold)).sum()),
        "spread_of_scores": float(theirs.std()),
        "rank_correlation": float(np.corrcoef(theirs.argsort().argsort(), ours.argsort().argsort())[0, 1]),
    }


def structured(count: int, side: int, batch: int) -> Iterator[list[np.ndarray]]:
    """Procedural parts, half of them with a defect, in batches: each from a seed of its own."""
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        yield [synthesis.sample(np.random.default_rng([20, number]), side).pixels for number in numbers]


def fp8(size: Size, device: str, tower: str) -> Figures:
    """The tower's linear layers in FP8, against fp16 in speed and fp32 in scores."""
    place = choose_device(device)
    if place.type == "cuda" and torch.cuda.get_device_capability(place) < (8, 9):
        raise NotHere("FP8 needs compute capability 8.9")
    exact, _ = assemble(tower, image_size=size.image_size, device=device, precision="fp32")
    halved, _ = assemble(tower, image_size=size.image_size, device=device)
    eighth, _ = assemble(tower, image_size=size.image_size, device=device, precision="bf16", compiled=size.compiled)
    backbone = eighth.method.backbone
    assert isinstance(backbone, Tips)
    layers = to_fp8(backbone.vision.vit)
    rates = {
        name: measure(detector, size.batch, size.frame, size.seconds, 0.0, 1.0).pictures_per_s
        for name, detector in (("half", halved), ("fp8", eighth))
    }
    return {
        "layers": layers,
        "pictures_per_s": rates["fp8"],
        "half_pictures_per_s": rates["half"],
        "ratio": rates["fp8"] / rates["half"],
        **compared(exact, eighth, size),
    }


class SimulatedCamera:
    """A live source of the frames of a camera that delivers on time, whatever becomes of them."""

    live = True

    def __init__(self, station: str, images: Sequence[np.ndarray], fps: float) -> None:
        self.station, self._images, self._fps = station, images, fps
        self.taken = 0

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """See core.Source."""
        begun = time.monotonic()
        while not stop.wait(max(0.0, begun + self.taken / self._fps - time.monotonic())):
            image = self._images[self.taken % len(self._images)]
            yield Frame(self.station, self.taken, datetime.now(timezone.utc), image)
            self.taken += 1

    def counts(self) -> SourceCounts:
        """See core.Source."""
        return SourceCounts(self.taken)

    def status(self) -> SourceStatus:
        """See core.Source."""
        return SourceStatus(up=True)


class NoJournal:
    """Records nothing, to see the line without its disk."""

    def commit(self, records: Sequence[Record]) -> list[bool]:
        """See line.inspect.Recorder."""
        return [True] * len(records)


class NoEvidence:
    """Keeps no pictures."""

    def wants(self, inspection: Inspection) -> bool:
        """See line.inspect.EvidenceSaver."""
        return False

    def save(self, inspection: Inspection, *, shrunk: bool = False) -> Evidence:
        """See line.inspect.EvidenceSaver."""
        return Evidence()


def cameras(size: Size, device: str, tower: str, *, journal: bool) -> Figures:
    """The daemon's own line fed by simulated cameras: what it keeps up with, and how old a frame is when it is recorded."""
    detector, _ = assemble(tower, image_size=size.image_size, device=device)
    detector.warm_up(size.batch)
    images = [noise_frame(size.frame, seed) for seed in range(4)]
    sources = [SimulatedCamera(f"cam{number}", images, size.fps) for number in range(size.cameras)]
    trace = Trace(detector.info.name, detector.info.model_sha256, detector.info.checkpoint_sha256, None, "")
    rules = Rules(1.0)  # nothing is NotOK: no evidence, no alarms
    stations = {source.station: Station(source.station, detector, rules, trace) for source in sources}
    ages: list[float] = []

    def report(inspection: Inspection, evidence: Evidence) -> None:
        ages.append((datetime.now(timezone.utc) - inspection.frame.taken_at).total_seconds() * 1e3)

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        recorder = (
            stack.enter_context(closing(Journal.open(f"sqlite:///{Path(folder, 'journal.db')}")))
            if journal
            else NoJournal()
        )
        line = Line(
            sources,
            stations,
            NoEvidence(),
            recorder,
            lambda *_: (),
            [],
            batch=size.batch,
            max_wait_s=0.0,
            report=report,
        )
        stop = threading.Event()
        timer = threading.Timer(size.camera_s, stop.set)
        begun = time.monotonic()
        timer.start()
        line.run(stop)
        took = time.monotonic() - begun
    taken, dropped = sum(source.taken for source in sources), sum(line.inbox.dropped.values())
    return {
        "cameras": size.cameras,
        "fps": size.fps,
        "seconds": took,
        "taken": taken,
        "inspected": line.counts.inspected,
        "dropped": dropped,
        "inspected_per_s": line.counts.inspected / took,
        "share_inspected": line.counts.inspected / max(taken, 1),
        "age_p50_ms": float(np.percentile(ages, 50)),
        "age_p99_ms": float(np.percentile(ages, 99)),
    }


def fit(size: Size, device: str) -> Figures:
    """A whole fit of Tipsomaly's prompts as published, from pictures to prompts."""
    if device == "cpu" and torch.cuda.is_available():
        raise NotHere("benchmarks.fit takes the GPU where there is one")
    tips = fits.backbone(size.fit_tower, Tips)
    dtype = choose_dtype("auto", tips.device)
    if dtype != torch.float32:
        halve(tips, dtype)
    drawn = fits.pictures(min(size.fitted, 64), size.image_size)
    shown = [drawn[number % len(drawn)] for number in range(size.fitted)]
    epochs = RECIPES["tipsomaly"].epochs if size.compiled else 1
    took = fits.timed("tipsomaly", tips, shown, size.image_size, epochs, dtype)
    return {
        "pictures": len(shown),
        "epochs": epochs,
        "seconds": took.seconds,
        "features_s": took.features,
        "final_loss": took.loss,
        "clock": fits.clock.__name__,
    }
