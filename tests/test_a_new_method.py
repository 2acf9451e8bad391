"""A method is one class and one member of the list: one that is added from outside works in every command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from edge_agent.backbones.backbone import ImageFeatures
from edge_agent.cli import parser
from edge_agent.detectors.method import Method, Scores
from edge_agent.detectors.methods import METHODS, MethodEntry
from tests.walk import Walk


class NullMethod(Method):
    """Calls a picture anomalous by half, wherever one looks."""

    name = "null-method"
    sigma = 4.0

    @classmethod
    def restored(cls, backbone, header, tensors, class_name):
        return cls(backbone)

    def tensors(self):
        return {}

    def forward(self, features: ImageFeatures) -> ImageFeatures:
        return features

    def scores(self, found: ImageFeatures, keep=None) -> Scores:
        patches = torch.full((len(found.patches), *found.grid), 0.5)
        return Scores(patches.amax(dim=(1, 2)), patches)


NAME = "null-method/embedded"


def add() -> None:
    METHODS[NullMethod.name] = MethodEntry(NullMethod.name, lambda: NullMethod, fitted=False)


@pytest.fixture
def walk(tmp_path, capsys) -> Iterator[Walk]:
    add()
    yield Walk(tmp_path, NAME, {"method": NullMethod.name}, capsys)
    del METHODS[NullMethod.name]


def test_check_and_doctor_know_it(walk):
    assert f"method {NullMethod.name}" in walk.check()
    assert f"cam1: {NAME} on cpu" in walk.doctor()


def test_the_daemon_inspects_with_it_and_metrics_count_its_scores(walk):
    counted = walk.run(before=add)
    assert (counted["score_count", "cam1"], counted["score_sum", "cam1"]) == (1, 0.5)


def test_stored_pictures_are_replayed_with_it(walk):
    assert "1 NotOK" in walk.replay()


def test_it_is_evaluated(walk):
    measured = walk.evaluate("--method", NullMethod.name)
    assert measured["detector"] == NAME
    assert measured["categories"]["plate"]["pictures"][0]["score"] == 0.5


def test_bench_times_it_and_its_help_offers_it(walk, capsys):
    measured = walk.bench("--method", NullMethod.name, "--image-size", "32")
    assert measured["detector"] == NAME
    with pytest.raises(SystemExit):
        parser().parse_args(["bench", "--help"])
    assert NullMethod.name in capsys.readouterr().out


def test_once_it_is_gone_the_config_names_those_there_are(walk):
    del METHODS[NullMethod.name]
    try:
        with pytest.raises(AssertionError, match=r"is 'null-method'; wants 'clip' or 'winclip'"):
            walk.check()
    finally:
        add()
