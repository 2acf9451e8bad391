"""`trainer evaluate`: a detector measured on labelled pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from edge_agent.backbones.embedded import EMBEDDED
from edge_agent.backbones.families import forms
from edge_agent.commands.arguments import count, seed, windows
from edge_agent.detectors.methods import unfitted_methods
from trainer.commands.output import bar, writable


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `trainer evaluate`."""
    evaluate = commands.add_parser("evaluate", help="measure a detector on labelled pictures")
    evaluate.add_argument(
        "--data", type=Path, required=True, help="MVTec layout or meta.json; a category or a folder of categories"
    )
    evaluate.add_argument("--model", default=EMBEDDED, help=f"backbone: {forms()} (default %(default)s)")
    evaluate.add_argument("--checkpoint", type=Path, help="prompts fitted for it (default: the embedded model's own)")
    evaluate.add_argument(
        "--method",
        choices=unfitted_methods(),
        help="plain prompts or WinCLIP, which need no checkpoint, in place of one",
    )
    named = evaluate.add_mutually_exclusive_group()
    named.add_argument("--class-name", default="object", help="what is in the pictures (default: object)")
    evaluate.add_argument("--image-size", type=count, help="pixels a side at which they are read (default: as fitted)")
    evaluate.add_argument(
        "--windows", type=windows, default=1, help="windows read besides, along each side (default 1: none)"
    )
    named.add_argument(
        "--category-names", action="store_true", help="what is in the pictures is what their category is called"
    )
    evaluate.add_argument(
        "--size", type=count, help="pixels a side at which maps and masks are compared (default: the model's own)"
    )
    evaluate.add_argument("--seed", type=seed, default=0, help="of the draws behind the intervals (default 0)")
    evaluate.add_argument(
        "--baseline", action="store_true", help="also measure local contrast, which needs no learning"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="all figures and scores, for `trainer compare`")
    evaluate.add_argument("--report", type=Path, metavar="FILE.html", help="a page to read and print")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from edge_agent.core import Detector
    from edge_agent.inference.load import Loader
    from trainer.data.examples import categories, read_examples
    from trainer.evaluate import evaluation
    from trainer.evaluate.measure import LocalContrast, Result, evaluate
    from trainer.report import tables

    for out in (options.json, options.report):
        if out:
            writable(out)
    grouped = categories(read_examples(options.data))
    loader = Loader()

    def detector_for(category: str) -> Detector:
        named = category if options.category_names else options.class_name
        whole = loader.detector(
            options.model, options.checkpoint, named, method=options.method, image_size=options.image_size
        )
        return loader.windowed(whole, options.windows)

    runs: list[tuple[Callable[[str], Detector], list[Result]]] = [(detector_for, [])]
    if options.baseline:
        contrast = LocalContrast()
        runs.append((lambda category: contrast, []))
    detector_for(next(iter(grouped)))  # what is wrong with a model shows before anything is read
    for category, examples in grouped.items():
        size = options.size
        for choose, results in runs:
            with bar(len(examples), category) as seen:
                results.append(evaluate(choose(category), examples, size=size, seed=options.seed, report=seen.update))
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
        from trainer.report.page import report_page, write_report
        from trainer.report.selection import select_pictures

        results = runs[0][1]
        with bar(len(results), "drawing") as seen:
            selections = {}
            for one in results:
                selections[one.category] = select_pictures(detector_for(one.category), one)
                seen.update()
        page = report_page(whole, results, runs[1][1] if options.baseline else (), selections)
        write_report(page, options.report)
        print(f"the report is {options.report}")
    return 0
