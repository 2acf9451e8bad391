"""The `trainer` command: the only place of the trainer with argument parsing, prints and exit codes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from tqdm import tqdm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 failed, 2 usage."""
    options = parser().parse_args(arguments)
    options.command = shlex.join(["trainer", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return int(options.run(options))
    except EdgeAgentError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        "trainer", description="Make and measure the models that edge-agent inspects with, offline."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    pretrain = commands.add_parser("pretrain", help="train the embedded model from procedural pictures alone")
    pretrain.add_argument("--out", type=Path, required=True, help="folder of the run; one that holds a run is resumed")
    pretrain.add_argument(
        "--start", type=Path, help="folder of an embedded model to begin with, instead of with nothing"
    )
    pretrain.add_argument("--steps", type=int, help="optimizer steps in all")
    pretrain.add_argument(
        "--decay-steps", type=int, help="the last steps, over which the learning rate falls to nothing"
    )
    pretrain.add_argument("--small-steps", type=int, help="the first steps, on smaller views")
    pretrain.add_argument("--pool", type=int, help="good pictures to make, which every use spoils afresh")
    pretrain.add_argument("--batch", type=int, help="pictures a step")
    pretrain.add_argument("--rate", type=float, help="highest learning rate")
    pretrain.add_argument("--seed", type=int, help="decides everything")
    pretrain.add_argument("--workers", type=int, default=1, help="processes that make pictures (default 1)")
    pretrain.add_argument("--threads", type=int, help="threads of the training itself (default: all cores)")
    pretrain.set_defaults(run=_pretrain)

    fit = commands.add_parser("fit", help="fit a method's prompts on labelled pictures, or on good ones alone")
    fit.add_argument(
        "--method", choices=("tipsomaly", "vip2clip", "cops"), default="tipsomaly", help="default tipsomaly"
    )
    fit.add_argument(
        "--backbone", default="embedded", help="a name of `edge-agent models`, or a folder (default embedded)"
    )
    pictures = fit.add_mutually_exclusive_group(required=True)
    pictures.add_argument(
        "--data", type=Path, help="labelled pictures: MVTec layout or meta.json; a category or a folder of categories"
    )
    pictures.add_argument(
        "--good", type=Path, help="a folder of good pictures of your part; defects are painted onto them"
    )
    fit.add_argument("--count", type=_number, default=1000, help="pictures to paint with --good (default 1000)")
    fit.add_argument("--out", type=Path, required=True, help="the checkpoint, FILE.safetensors")
    fit.add_argument("--class-name", default="object", help="what the pictures show (default: object)")
    fit.add_argument("--epochs", type=_number, help="default: as published, more for fewer pictures")
    fit.add_argument("--batch", type=_number, help="pictures a step (default: as published, 8)")
    fit.add_argument("--image-size", type=_number, help="pixels a side (default: 518, 224 for the embedded model)")
    fit.add_argument("--seed", type=int, default=0, help="decides everything that is drawn (default 0)")
    fit.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    fit.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the vision tower: auto is fp16 on a GPU and fp32 on a CPU",
    )
    fit.add_argument(
        "--memory-gb", type=float, default=4.0, help="features larger than this go to disk beside --out (default 4)"
    )
    fit.add_argument(
        "--save-every", type=float, default=20.0, metavar="SECONDS", help="a fit killed goes on from there (default 20)"
    )
    fit.set_defaults(run=_fit)

    evaluate = commands.add_parser("evaluate", help="measure a detector on labelled pictures")
    evaluate.add_argument(
        "--data", type=Path, required=True, help="MVTec layout or meta.json; a category or a folder of categories"
    )
    evaluate.add_argument(
        "--model", default="embedded", help="backbone: a name of `edge-agent models`, or a folder (default embedded)"
    )
    evaluate.add_argument("--checkpoint", type=Path, help="prompts fitted for it (default: the embedded model's own)")
    named = evaluate.add_mutually_exclusive_group()
    named.add_argument("--class-name", default="object", help="what is in the pictures (default: object)")
    named.add_argument(
        "--category-names", action="store_true", help="what is in the pictures is what their category is called"
    )
    evaluate.add_argument(
        "--size", type=_number, help="pixels a side at which maps and masks are compared (default: the model's own)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of the draws behind the intervals (default 0)")
    evaluate.add_argument(
        "--baseline", action="store_true", help="also measure local contrast, which needs no learning"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="all figures and scores, for `trainer compare`")
    evaluate.add_argument("--report", type=Path, metavar="FILE.html", help="a page to read and print")
    evaluate.set_defaults(run=_evaluate)

    compare = commands.add_parser("compare", help="what differs between two evaluations of the same pictures")
    compare.add_argument("first", type=Path, metavar="A.json", help="written by `trainer evaluate --json`")
    compare.add_argument(
        "second", type=Path, metavar="B.json", help="the same, of another model, checkpoint or setting"
    )
    compare.set_defaults(run=_compare)
    return top


def _number(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")


def _fit(options: argparse.Namespace) -> int:
    import time

    from tqdm import tqdm

    from edge_agent.detectors.load import Loader, choose_device, choose_dtype
    from trainer.fitting import Progress, Request, fit_checkpoint, from_data, from_good, together

    if not options.out.parent.is_dir():
        raise EdgeAgentError(f"{options.out.parent}: no such folder to write {options.out.name} into; make it first")
    begun = time.monotonic()
    with together() as (rank, world):
        backbone = Loader().backbone(options.backbone, options.device)
        dtype = choose_dtype(options.precision, choose_device(options.device))
        request = Request(
            options.method,
            options.class_name,
            options.epochs,
            options.batch,
            options.image_size,
            options.seed,
            dtype,
            options.memory_gb,
            options.save_every,
        )
        part = (rank, world)
        chosen = (
            from_data(options.data, part)
            if options.data
            else from_good(options.good, options.count, options.seed, part)
        )
        quiet = True if rank else None
        reading = tqdm(total=chosen.count, desc="reading pictures", unit="picture", leave=False, disable=quiet)
        stepping: list[tqdm] = []

        def step(number: int, total: int, losses: Mapping[str, float]) -> None:
            if not stepping:
                reading.close()
                stepping.append(tqdm(total=total, desc="fitting", unit="step", leave=False, disable=quiet))
            stepping[0].set_postfix_str(" ".join(f"{name} {loss:.3f}" for name, loss in losses.items()), refresh=False)
            stepping[0].update(number - stepping[0].n)

        fitted = fit_checkpoint(request, backbone, chosen, options.out, Progress(reading.update, step))
        for bar in (reading, *stepping):
            bar.close()
    for one in fitted.skipped:
        print(f"skipped {one.path}: {one.reason}", file=sys.stderr)
    if rank == 0:
        print(f"fitted on {fitted.pictures} pictures, {fitted.steps} steps, {time.monotonic() - begun:.0f} s")
        for name, value in fitted.figures.items():
            print(f"{name} on the pictures it was fitted on: {value:.1f}")
        print(f"the checkpoint is {options.out}")
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    import torch

    from trainer.embed import embed
    from trainer.pool import make_pool
    from trainer.pretrain import Recipe, pretrain

    if options.threads:
        torch.set_num_threads(options.threads)
    known = {field.name for field in fields(Recipe)}
    recipe = Recipe(**{key: value for key, value in vars(options).items() if key in known and value is not None})
    tips = pretrain(
        recipe,
        options.out,
        options.workers,
        start=options.start,
        report=lambda row: print({key: round(value, 4) for key, value in row.items()}, flush=True),
    )
    pool = make_pool(options.out / "pool", recipe.pool, recipe.image_size + 32, recipe.seed)
    figures = embed(tips, (options.out / "tokenizer.model").read_bytes(), pool, recipe, options.out / "embedded")
    for name, value in figures.items():
        print(f"{name}: {value:.1f}")
    print(f"the model lies in {options.out / 'embedded'}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from edge_agent.core import Detector
    from edge_agent.detectors.load import Loader
    from trainer import evaluation, tables
    from trainer.data import categories, read_examples
    from trainer.evaluate import LocalContrast, Result, evaluate

    for out in (options.json, options.report):
        if out and not out.parent.is_dir():
            raise EdgeAgentError(f"{out.parent}: no such folder to write {out.name} into; make it first")
    grouped = categories(read_examples(options.data))
    loader = Loader()

    def detector_for(category: str) -> Detector:
        named = category if options.category_names else options.class_name
        return loader.detector(options.model, options.checkpoint, named)

    runs: list[tuple[Callable[[str], Detector], list[Result]]] = [(detector_for, [])]
    if options.baseline:
        contrast = LocalContrast()
        runs.append((lambda category: contrast, []))
    detector_for(next(iter(grouped)))  # what is wrong with a model shows before anything is read
    for category, examples in grouped.items():
        size = options.size
        for choose, results in runs:
            with _bar(len(examples), category) as bar:
                results.append(evaluate(choose(category), examples, size=size, seed=options.seed, report=bar.update))
            size = results[-1].size  # the baseline is compared at the model's
    name = None if options.category_names else options.class_name
    records = [
        evaluation.measured(choose(results[0].category), results, options.data, named)
        for (choose, results), named in zip(runs, (name, None), strict=False)
    ]
    for line in tables.figures(records):
        print(line)
    for line in tables.warnings(records[0]):
        print(line, file=sys.stderr)
    whole = evaluation.evaluation_of(records, options.data, options.seed, options.command)
    if options.json:
        evaluation.write_evaluation(whole, options.json)
        print(f"the evaluation is {options.json}")
    if options.report:
        from trainer.report import page, write_report
        from trainer.shown import gallery

        results = runs[0][1]
        with _bar(len(results), "drawing") as bar:
            shown = {}
            for one in results:
                shown[one.category] = gallery(detector_for(one.category), one)
                bar.update()
        write_report(page(whole, results, runs[1][1] if options.baseline else (), shown), options.report)
        print(f"the report is {options.report}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from trainer import tables
    from trainer.compare import compare
    from trainer.evaluation import read_evaluation

    for line in tables.differences(compare(read_evaluation(options.first), read_evaluation(options.second))):
        print(line)
    return 0


def _bar(total: int, what: str) -> tqdm:
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="picture", leave=False, disable=None)


if __name__ == "__main__":
    sys.exit(main())
