"""Measures how fast a detector reads on this machine: end to end from a frame's bytes, by stage, and relative to its peak."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edge_agent import __version__
from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.families import family_of
from edge_agent.backbones.precision import halve
from edge_agent.backbones.random_weights import random_backbone
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint
from edge_agent.detectors.methods import DEFAULT_METHOD, lookup
from edge_agent.errors import CheckpointError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader, choose_device, choose_dtype
from edge_agent.inference.thread_batches import read_in_threads
from edge_agent.kernels.fused import heatmaps, prepare

MIN_RUNS = 3  # however long one takes


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured. matrix_tflops: TFLOP/s of a plain product of large matrices, in the detector's precision."""

    device: str
    threads: int
    precision: str
    matrix_tflops: float
    versions: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Timings of one size of batch.

    runs: batches timed one after another, of which p50_ms and p99_ms are; with few runs p99 is the slowest.
    pictures_per_s: with the next batch started while one is read. stages_ms: median milliseconds a batch, each stage alone.
    peak_mb: of the device's memory, or of the process on a CPU. utilisation: tflop a picture x pictures_per_s / matrix_tflops.
    """

    batch: int
    runs: int
    pictures_per_s: float
    p50_ms: float
    p99_ms: float
    stages_ms: dict[str, float]
    peak_mb: float
    utilisation: float


def assemble(
    backbone: str = EMBEDDED,
    method: str = DEFAULT_METHOD,
    *,
    image_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    compiled: bool = False,
) -> tuple[PromptDetector, str]:
    """Assemble a detector to be timed, with random weights where the backbone's are not here, and fresh prompts where none come with it.

    Args:
        backbone: its name.
        method: its name.
        image_size: side in pixels that pictures are read at; default the backbone's own.
        device: "auto", "cpu" or "cuda".
        precision: "auto", "fp32", "bf16" or "fp16".
        compiled: run the tower through torch.compile.

    Returns the detector, and a description of its weights. Raises CheckpointError.
    """
    place = choose_device(device)
    dtype = choose_dtype(precision, place)
    try:
        tower, weights = Loader().backbone(backbone, device, dtype), "its own weights"
    except CheckpointError as error:
        try:
            random = random_backbone(backbone)
        except CheckpointError:
            raise error from None  # how to get the weights is the better advice
        if dtype != torch.float32:
            halve(random, dtype)
        tower, weights = random.to(place), "random weights"
    size = image_size or tower.image_size
    shipped = family_of(backbone).checkpoint(backbone)
    checkpoint = load_checkpoint(shipped) if shipped else None
    if checkpoint is None or (checkpoint.header["method"], checkpoint.header["image_size"]) != (method, size):
        checkpoint = fresh(tower, method, size)
    return PromptDetector(tower, checkpoint, "object", dtype=dtype, compiled=compiled), weights


def fresh(backbone: Backbone, method: str, image_size: int) -> Checkpoint:
    """Make prompts as a fit starts with, from a fixed seed.

    Args:
        backbone: the backbone.
        method: the method's name.
        image_size: side in pixels that pictures are read at.

    Raises CheckpointError for an unknown method.
    """
    torch.manual_seed(0)
    with torch.no_grad():
        made = lookup(method).fresh(backbone, "object")
        tensors = made.tensors()
    header = {
        "method": method,
        "backbone": backbone.name,
        "backbone_sha256": backbone.sha256,
        "image_size": image_size,
        "threshold": 0.5,
        "map_threshold": 0.5,
        **made.settings(),
    }
    return Checkpoint(header, tensors, path=Path("fresh prompts"))


def machine(detector: PromptDetector) -> Machine:
    """Describe this machine, and measure its matrix product."""
    device = detector.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    versions = f"edge-agent {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return Machine(
        f"{device.type}: {name}",
        torch.get_num_threads(),
        str(detector.dtype).removeprefix("torch."),
        matrix_rate(device, detector.dtype) / 1e12,
        versions,
    )


def processor() -> str:
    """Return the CPU's name, from /proc/cpuinfo where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Measure floating-point operations a second of a product of two square matrices: the best of several runs.

    Args:
        device: where.
        dtype: of both matrices.
        side: of the matrices; default 8192 on a GPU, 1024 on a CPU.
    """
    side = side or (8192 if device.type == "cuda" else 1024)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = list(timed(lambda: a @ b, device, 20, 2.0))
    return 2 * side**3 / min(seconds)


def flop(detector: PromptDetector) -> int:
    """Count the floating-point operations of reading one picture, from the shapes of matrix products and convolutions."""
    x = torch.zeros(1, 3, detector.info.image_size, detector.info.image_size, device=detector.device)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:  # other backends are not counted everywhere
        detector.predict(x)
    return counter.get_total_flops()


def measure(
    detector: PromptDetector, batch: int, frame: tuple[int, int], seconds: float, tflop: float, matrix_tflops: float
) -> Timing:
    """Time one size of batch.

    Args:
        detector: the detector.
        batch: pictures at once.
        frame: (H, W) of the frames.
        seconds: to spend on each of three measurements: latency, throughput, stages.
        tflop: of reading one picture.
        matrix_tflops: see Machine.
    """
    device = detector.device
    images = [noise_frame(frame, seed) for seed in range(batch)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    detector.read(images)  # on a GPU the graph for this size of batch is captured now
    taken = list(timed(lambda: detector.read(images), device, 1000, seconds))
    p50, p99 = (1e3 * float(np.percentile(taken, share, method="higher")) for share in (50, 99))
    rate = throughput(detector, images, seconds) if detector.overlaps else 1e3 * batch / p50
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_of_process()
    return Timing(
        batch, len(taken), rate, p50, p99, stages(detector, images, seconds), peak / 1e6, tflop * rate / matrix_tflops
    )


def throughput(detector: PromptDetector, images: Sequence[np.ndarray], seconds: float) -> float:
    """Measure pictures a second, with the next batch started while one is read.

    Args:
        detector: to be measured.
        images: one batch of (H, W, 3) uint8 RGB.
        seconds: to spend at least.
    """
    detector.read(images)
    begin = time.perf_counter()
    count, finish = 0, detector.start(images)
    while count < MIN_RUNS or time.perf_counter() - begin < seconds:
        following = detector.start(images)
        finish()
        finish, count = following, count + 1
    finish()
    return (count + 1) * len(images) / (time.perf_counter() - begin)


def stages(detector: PromptDetector, images: Sequence[np.ndarray], seconds: float) -> dict[str, float]:
    """Measure median milliseconds of each stage of a batch, each alone and synchronised; without CUDA graphs.

    Args:
        detector: to be measured.
        images: one batch of (H, W, 3) uint8 RGB.
        seconds: to spend on all stages together.
    """
    device, method, size = detector.device, detector.method, detector.info.image_size
    steps: dict[str, Callable[[], object]] = {}
    with torch.inference_mode():
        if device.type == "cuda":
            below = torch.from_numpy(np.stack(images)).pin_memory()
            above = below.to(device)
            x = torch.zeros(len(images), 3, size, size, dtype=detector.dtype, device=device)
            steps["up"] = lambda: above.copy_(below, non_blocking=True)
            steps["resize"] = lambda: prepare(above, method.backbone.preprocessing, x)
            steps["resize"]()
        else:
            x = method.backbone.pictures(images, size)
            steps["resize"] = lambda: method.backbone.pictures(images, size)
        features = detector.encode(x)
        scores = method.scores(method(features))
        maps = heatmaps(scores.patches, size, method.sigma, method.upsampling, detector.map_dtype)
        steps["tower"] = lambda: tower(detector, x)
        steps["method"] = lambda: method.scores(method(features))
        steps["map"] = lambda: heatmaps(scores.patches, size, method.sigma, method.upsampling, detector.map_dtype)
        if device.type == "cuda":
            steps["down"] = lambda: (scores.picture.cpu(), maps.cpu())
        return {
            name: 1e3 * float(np.median(list(timed(step, device, 200, seconds / len(steps)))))
            for name, step in steps.items()
        }


def tower(detector: PromptDetector, x: Tensor) -> object:
    """Encode a batch as the detector does: on a CPU its pictures are split over the cores."""
    if detector.overlaps:
        return detector.encode(x)

    def encode(part: slice) -> list[object]:
        with torch.inference_mode():  # of this thread
            return [detector.encode(x[part])]

    return read_in_threads(encode, len(x), large=detector.is_large)


def timed(step: Callable[[], object], device: torch.device, most: int, seconds: float) -> Iterator[float]:
    """Yield the seconds of each call of `step`; the first call warms up and is not yielded.

    Args:
        step: what is timed.
        device: where it runs; each call is synchronised.
        most: how many calls at most.
        seconds: after which no further call is made, but for MIN_RUNS.
    """
    with synchronized(device):
        step()
    begin = time.perf_counter()
    for count in range(most):
        if count >= MIN_RUNS and time.perf_counter() - begin > seconds:
            return
        start = time.perf_counter()
        with synchronized(device):
            step()
        yield time.perf_counter() - start


@contextmanager
def synchronized(device: torch.device) -> Iterator[None]:
    """Wait at the end of the with block until the device has finished."""
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def noise_frame(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB noise: the time to read a picture does not depend on its content."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def peak_of_process() -> int:
    """Return the peak of this process's memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
