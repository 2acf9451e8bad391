"""Names of methods stand in one list: whatever a --help offers, the command takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from edge_agent.cli import main
from edge_agent.cli import parser as agent_parser
from edge_agent.detectors.methods import METHODS, few_shot_methods, fitted_methods, unfitted_methods
from edge_agent.detectors.systems import DATASETS
from edge_agent.importing.layouts import LAYOUTS
from tests import tiny_clip
from trainer.cli import parser as trainer_parser
from trainer.fit.recipes import RECIPES


def offered(parser: argparse.ArgumentParser, option: str) -> Iterator[tuple[str, str]]:
    """(command, choice) of every command that has the option, below this parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from offered(below, option)
        elif option in action.option_strings and action.choices:
            yield from ((parser.prog, choice) for choice in action.choices)


OFFERED = [*offered(agent_parser(), "--method"), *offered(trainer_parser(), "--method")]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_list_is_named_there_as_its_class_is(name):
    assert METHODS[name].load().name == name


def test_every_method_is_offered_by_a_help_and_every_offered_one_is_in_the_list():
    assert {choice for _, choice in OFFERED} == set(METHODS)
    commands = {command for command, _ in OFFERED}
    assert commands == {f"edge-agent {one}" for one in ("bench", "export")} | {
        f"trainer {one}" for one in ("fit", "import", "evaluate", "reproduce", "calibrate", "bank")
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    """The name of a small CLIP in a file."""
    return tiny_clip.saved(tmp_path_factory.mktemp("clip"), tiny_clip.EVEN)


@pytest.mark.parametrize("method", [choice for command, choice in OFFERED if command == "edge-agent bench"])
def test_every_method_that_bench_offers_is_timed(method, small, capsys):
    backbone = small if METHODS[method].on_clip else "embedded"
    command = [
        "bench",
        "--method",
        method,
        "--batch",
        "1",
        "--seconds",
        "0",
        "--frame",
        "64x64",
        "--backbone",
        backbone,
    ]
    assert main([*command, "--image-size", "32", "--device", "cpu"]) == 0
    assert f"{method}/{backbone.split('@')[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("method", [name for name, one in METHODS.items() if one.on_clip])
def test_a_method_on_clip_refuses_another_backbone(method, capsys):
    assert main(["bench", "--method", method, "--batch", "1", "--seconds", "0", "--frame", "64x64"]) == 1
    assert "take a CLIP, such as clip:ViT-L-14-336/openai" in capsys.readouterr().err


def test_models_lists_every_method_with_what_it_needs_and_costs(capsys):
    assert main(["models", "--methods"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["NAME", "METHOD", "NEEDS", "COST"]
    assert [row.split()[0] for row in rows] == list(METHODS)


def test_every_method_that_fit_offers_has_a_recipe():
    assert {choice for command, choice in OFFERED if command == "trainer fit"} == set(fitted_methods()) == set(RECIPES)


def test_every_method_that_import_offers_has_a_published_layout():
    assert {choice for command, choice in OFFERED if command == "trainer import"} == set(LAYOUTS)


def test_every_dataset_that_import_offers_has_settings_where_they_depend_on_it():
    assert {choice for _, choice in offered(trainer_parser(), "--trained-on")} == set(DATASETS)
    for layout in LAYOUTS.values():
        assert set(layout.settings) in (set(), set(DATASETS)), layout.title


def test_commands_without_a_checkpoint_offer_the_methods_that_need_none():
    for command in ("edge-agent export", "trainer calibrate"):
        assert [choice for own, choice in OFFERED if own == command] == unfitted_methods(), command
    measured = [choice for own, choice in OFFERED if own == "trainer evaluate"]
    assert measured == list(dict.fromkeys([*unfitted_methods(), *few_shot_methods()]))
    assert [choice for own, choice in OFFERED if own == "trainer bank"] == few_shot_methods()
