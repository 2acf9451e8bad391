"""`trainer evaluate`: measure a detector on labelled pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, seed, windows
from edge_agent.detectors.methods import unfitted_methods
from trainer.commands.output import bar, print_warnings, writable


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer evaluate`."""
    evaluate = commands.add_parser("evaluate", help="measure a detector on labelled pictures")
    evaluate.add_argument(
        "--data", type=Path, required=True, help="MVTec layout or meta.json; a category or a folder of categories"
    )
    evaluate.add_argument("--model", default=EMBEDDED, help=f"backbone: {forms()} (default %(default)s)")
    evaluate.add_argument("--checkpoint", type=Path, help="prompts fitted for it (default: the embedded model's own)")
    evaluate.add_argument(
        "--method",
        choices=unfitted_methods(),
        help="a method that needs no checkpoint, in place of one",
    )
    named = evaluate.add_mutually_exclusive_group()
    named.add_argument(
        "--class-name", help="what the pictures show (default: what the checkpoint was fitted on, else object)"
    )
    evaluate.add_argument("--image-size", type=count, help="pixels a side at which they are read (default: as fitted)")
    evaluate.add_argument(
        "--windows",
        type=windows,
        default=1,
        help="windows along each side to read besides the whole picture (default 1: none)",
    )
    named.add_argument("--category-names", action="store_true", help="use the name of each category as its class name")
    evaluate.add_argument(
        "--size", type=count, help="pixels a side at which maps and masks are compared (default: the model's own)"
    )
    evaluate.add_argument("--seed", type=seed, default=0, help="of the random draws behind the intervals (default 0)")
    evaluate.add_argument("--baseline", action="store_true", help="measure local contrast too, which needs no learning")
    evaluate.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures and scores, for `trainer compare`"
    )
    evaluate.add_argument("--report", type=Path, metavar="FILE.html", help="write a page to read and print")
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from edge_agent.detectors.checkpoint import class_name_of
    from trainer.data.doubts import of_leftover
    from trainer.data.examples import categories, read_examples
    from trainer.evaluate.record import write_evaluation
    from trainer.evaluate.run import ModelChoice, measure_set, record_of
    from trainer.report import tables

    for out in (options.json, options.report):
        if out:
            writable(out)
    choice = ModelChoice(
        options.model,
        options.checkpoint,
        options.method,
        None if options.category_names else options.class_name or class_name_of(options.checkpoint),
        options.image_size,
        options.windows,
    )
    leftover: list[Path] = []
    examples = read_examples(options.data, leftover=leftover)
    print_warnings(of_leftover(leftover))
    results = measure_set(
        categories(examples),
        choice,
        baseline=options.baseline,
        size=options.size,
        seed=options.seed,
        start_bar=bar,
    )
    evaluation = record_of(results, choice, options.data, options.seed, options.command)
    for line in tables.figures(evaluation):
        print(line)
    for line in tables.warnings(evaluation.measured):
        print(line, file=sys.stderr)
    if options.json:
        write_evaluation(evaluation, options.json)
        print(f"wrote the evaluation to {options.json}")
    if options.report:
        from trainer.report.page import report_page, write_report
        from trainer.report.selection import select_pictures

        with bar(len(results.model), "drawing") as progress:
            selections = {}
            for one in results.model:
                selections[one.category] = select_pictures(choice.detector(one.category), one)
                progress.update()
        write_report(report_page(evaluation, results.model, results.baseline, selections), options.report)
        print(f"wrote the report to {options.report}")
    return 0
