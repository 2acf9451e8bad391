"""`edge-agent bench`: how fast this machine reads pictures."""

from __future__ import annotations

import argparse

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count
from edge_agent.commands.exits import OK
from edge_agent.detectors.methods import DEFAULT_METHOD, METHODS


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent bench`."""
    bench = commands.add_parser("bench", help="measure how fast this machine reads pictures")
    bench.add_argument(
        "--batch", type=_counts, default=(1, 4, 16, 32), metavar="N,N", help="pictures at once (default 1,4,16,32)"
    )
    bench.add_argument(
        "--backbone",
        default=EMBEDDED,
        help=f"{forms()} (default %(default)s); random weights are used where its own are not here",
    )
    bench.add_argument("--method", choices=METHODS, default=DEFAULT_METHOD, help="default %(default)s")
    bench.add_argument(
        "--image-size", type=count, help="side in pixels that pictures are read at (default: the backbone's own)"
    )
    bench.add_argument(
        "--frame",
        type=_frame,
        default=(1200, 1920),
        metavar="WxH",
        help="size of the frames in pixels (default 1920x1200)",
    )
    bench.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    bench.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    bench.add_argument(
        "--compile", action="store_true", help="run the vision tower through torch.compile, which takes minutes"
    )
    bench.add_argument(
        "--seconds", type=float, default=2.0, help="time for each of the three measurements of each batch (default 2)"
    )
    bench.add_argument("--json", action="store_true", help="one JSON object on stdout")
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from edge_agent.diagnostics.bench import assemble, flop, machine, measure

    detector, weights = assemble(
        options.backbone,
        options.method,
        image_size=options.image_size,
        device=options.device,
        precision=options.precision,
        compiled=options.compile,
    )
    host, tflop = machine(detector), flop(detector) / 1e12
    about = {
        "detector": detector.info.name,
        "weights": weights,
        "image_size": detector.info.image_size,
        "frame": f"{options.frame[1]}x{options.frame[0]}",
        "tflop_a_picture": tflop,
        "compiled": options.compile,
    }
    if not options.json:
        print(
            f"{host.device}, {host.threads} CPU thread{'s' * (host.threads != 1)}, {host.precision}; {host.versions}\n"
            f"{detector.info.name} with {weights} at {detector.info.image_size}, {tflop:.4f} TFLOP a picture, from frames of"
            f" {about['frame']}\na plain matrix product here makes {host.matrix_tflops:.3f} TFLOP/s\n\n"
            f"{'batch':>5} {'pictures/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'runs':>5} {'of matrix':>9} {'peak MB':>8}"
            "  stages of a batch, ms",
            flush=True,
        )
    batches = []
    for batch in options.batch:
        timing = measure(detector, batch, options.frame, options.seconds, tflop, host.matrix_tflops)
        batches.append(asdict(timing))
        if not options.json:
            stages = ", ".join(f"{name} {ms:.1f}" for name, ms in timing.stages_ms.items())
            print(
                f"{batch:5} {timing.pictures_per_s:10.1f} {timing.p50_ms:8.1f} {timing.p99_ms:8.1f} {timing.runs:5}"
                f" {100 * timing.utilisation:7.1f} % {timing.peak_mb:8.0f}  {stages}",
                flush=True,
            )
    if options.json:
        print(json.dumps({"machine": asdict(host), **about, "batches": batches}))
    return OK


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


def _frame(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return count(height), count(width)
