"""`trainer evaluate`: measure a detector on labelled pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, seed, windows
from edge_agent.commands.moments import moment
from edge_agent.detectors.methods import few_shot_methods, unfitted_methods
from trainer.commands.output import bar, print_skipped, print_warnings, writable

DRAWS = 5  # of a few good pictures, unless said otherwise


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer evaluate`."""
    evaluate = commands.add_parser("evaluate", help="measure a detector on labelled pictures")
    what = evaluate.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="MVTec layout or meta.json; a category or a folder of categories")
    what.add_argument(
        "--labels",
        type=Path,
        metavar="CONFIG",
        help="count false alarms and misses as people labelled them, in the journal of this config.yaml; needs --since",
    )
    evaluate.add_argument("--since", type=moment, help="with --labels: 2026-11-20, 10:00, yesterday or 2h (ago)")
    evaluate.add_argument("--until", type=moment, help="with --labels: before this moment; default: no limit")
    evaluate.add_argument("--station", help="with --labels: only this station; default: all")
    evaluate.add_argument("--model", default=EMBEDDED, help=f"backbone: {forms()} (default %(default)s)")
    evaluate.add_argument("--checkpoint", type=Path, help="prompts fitted for it (default: the embedded model's own)")
    evaluate.add_argument(
        "--method",
        choices=list(dict.fromkeys([*unfitted_methods(), *few_shot_methods()])),
        help="a method that needs no checkpoint, in place of one; one that compares with good parts takes --shots",
    )
    evaluate.add_argument(
        "--shots",
        type=count,
        metavar="K",
        help="measure a method that compares with good parts: its memory is made of K good pictures, none of which is measured",
    )
    evaluate.add_argument(
        "--draws", type=count, metavar="N", help=f"how often other K good pictures are drawn (default {DRAWS})"
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
    evaluate.add_argument("--seed", type=seed, default=0, help="of all random draws (default 0)")
    evaluate.add_argument("--baseline", action="store_true", help="measure local contrast too, which needs no learning")
    evaluate.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures and scores, for `trainer compare`"
    )
    evaluate.add_argument("--report", type=Path, metavar="FILE.html", help="write a page to read and print")
    evaluate.set_defaults(run=lambda options: _as_labelled(options, evaluate) if options.labels else _evaluate(options))


def _as_labelled(options: argparse.Namespace, command: argparse.ArgumentParser) -> int:
    from edge_agent.config.load import load_config
    from edge_agent.journal.reader import open_reader
    from trainer.evaluate.as_labelled import as_labelled, lines

    if options.since is None:
        command.error("--labels needs --since: from when on")
    config = load_config(options.labels)
    if options.station:
        config.station(options.station)
    with open_reader(config.database.full_url()) as journal:
        counted = as_labelled(journal.inspections(options.since, options.until, options.station))
    for one in counted:
        for line in lines(one):
            print(line)
    if not counted:
        print("nothing was inspected in that time")
    return 0


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
    if options.shots or options.draws or (options.method and options.method not in unfitted_methods()):
        return _few_shot(options)
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


def _few_shot(options: argparse.Namespace) -> int:
    """Measure a method on several draws of a few good pictures."""
    from edge_agent.detectors.checkpoint import load_checkpoint
    from edge_agent.inference.detector import PromptDetector
    from edge_agent.inference.load import Loader
    from edge_agent.inference.squares import SquaresDetector
    from trainer.bank.memory import bank_maker
    from trainer.data.doubts import of_leftover
    from trainer.data.examples import Skipped, categories, read_examples, training_examples
    from trainer.few_shot.measure import Pool, Way, measure_few_shot
    from trainer.few_shot.record import few_shot_record, lines, write_few_shot

    base = load_checkpoint(options.checkpoint) if options.checkpoint else None
    method = str(base.header["method"]) if base else options.method
    _require_few_shot(options, method)
    draws = options.draws or DRAWS
    leftover: list[Path] = []
    skipped: list[Skipped] = []
    test = categories(read_examples(options.data, leftover=leftover))
    print_warnings(of_leftover(leftover))
    training = categories(training_examples(options.data))
    backbone = Loader().backbone(options.model)
    fitted_for = base.class_name if base else "object"

    def way(category: str) -> Way:
        noun = category if options.category_names else options.class_name or fitted_for
        return Way(
            bank_maker(method, base, backbone, class_name=noun, image_size=options.image_size, seed=options.seed),
            lambda checkpoint: SquaresDetector(PromptDetector(backbone, checkpoint, noun)),
        )

    pools = {name: Pool.of(examples, training.get(name, []), skipped) for name, examples in test.items()}
    for name, pool in pools.items():
        pool.require(name, options.shots)
    results = []
    for name, pool in pools.items():
        with bar(draws * len(pool.test), name) as progress:
            results.append(
                measure_few_shot(
                    name,
                    pool,
                    way(name),
                    shots=options.shots,
                    draws=draws,
                    seed=options.seed,
                    size=options.size,
                    report=progress.update,
                )
            )
    record = few_shot_record(
        results,
        detector=f"{method}/{backbone.name}",
        model_sha256=backbone.sha256,
        folder=options.data,
        shots=options.shots,
        seed=options.seed,
        command=options.command,
    )
    for line in lines(record):
        print(line)
    left_out = {one.path: one for one in [*skipped, *(one for each in results for one in each.skipped)]}
    print_skipped(list(left_out.values()))
    if options.json:
        write_few_shot(record, options.json)
        print(f"wrote all draws to {options.json}")
    return 0


def _require_few_shot(options: argparse.Namespace, method: str | None) -> None:
    """Raise EdgeAgentError for options that say nothing of a method that compares with good parts, or too little."""
    from edge_agent.errors import EdgeAgentError

    known = " or ".join(few_shot_methods())
    if options.shots is None:
        what = "--draws" if options.draws else f"--method {method}"
        raise EdgeAgentError(f"{what} needs --shots K: how many good pictures the method is shown")
    if method not in few_shot_methods():
        raise EdgeAgentError(
            f"--shots is for a method that compares with good parts: name it with --method, or its --checkpoint: {known}"
        )
    for name, given in (
        ("--checkpoint with --method", options.checkpoint and options.method),
        ("--baseline", options.baseline),
        ("--report", options.report),
        ("--windows", options.windows > 1),
    ):
        if given:
            raise EdgeAgentError(f"{name} cannot be given with --shots: leave it out")
