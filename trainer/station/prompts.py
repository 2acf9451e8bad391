"""Prompts of the embedded model that are fitted on defects painted onto good parts, each measured on parts it was not fitted on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.core import Detector
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.methods import DEFAULT_METHOD, lookup
from edge_agent.inference.arranged import arranged
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.image_size import chosen_side
from edge_agent.inference.load import Loader
from trainer.bank.good_picture import GoodPicture
from trainer.data.painted_pictures import paint_picture
from trainer.fit.checkpoint import header_of
from trainer.fit.defaults import default_epochs
from trainer.fit.feature_cache import cache_features
from trainer.fit.features import EncodeSettings, LabelledPicture
from trainer.fit.loop import Plan, fit
from trainer.fit.outputs import measure
from trainer.fit.recipes import RECIPES
from trainer.station.candidates import Candidate, Report, candidate_of
from trainer.station.pictures import PictureSet

HALVES = 2  # of the good parts; each is measured with prompts that were fitted on the other one
COUNT = 200  # pictures that are painted for one fit, every second one left good


def fitted_prompts(
    pictures: PictureSet, class_name: str, seconds: float, seed: int, loader: Loader, report: Report
) -> Candidate | None:
    """Fit prompts on all good parts, and on each half of them to measure what such prompts are worth.

    Args:
        pictures: good and defective ones.
        class_name: what they show, in a word or two.
        seconds: for all fits together, about; each makes one round at least.
        seed: of all random numbers.
        loader: loads the embedded model.
        report: called with 1 for every picture that is measured.

    Returns the candidate; None with a single good part, which leaves none to measure on.
    """
    if len(pictures.good) < HALVES:
        return None
    backbone = loader.backbone(EMBEDDED, "cpu")
    each = seconds / (HALVES + 1)
    halves = [[one for at, one in enumerate(pictures.good) if at % HALVES != left] for left in range(HALVES)]
    whole, *parts = (fitted_on(backbone, some, class_name, each, seed) for some in (pictures.good, *halves))
    readers: list[Detector] = [arranged(PromptDetector(backbone, one, class_name)) for one in parts]
    count = len(pictures.good)
    return candidate_of(
        f"prompts fitted on painted defects, {count} good parts",
        arranged(PromptDetector(backbone, whole, class_name)),
        {"model": EMBEDDED},
        whole,
        pictures,
        lambda number: readers[number % HALVES],
        report,
        fitted=True,
    )


def fitted_on(
    backbone: Backbone, good: Sequence[GoodPicture], class_name: str, seconds: float, seed: int
) -> Checkpoint:
    """Fit prompts on defects painted onto good parts.

    Args:
        backbone: the embedded model.
        good: at least one picture.
        class_name: what they show.
        seconds: that it may take, about; it makes one round at least, and no more than a full fit.
        seed: of all random numbers.
    """
    started = time.monotonic()
    recipe = RECIPES[DEFAULT_METHOD]
    side = chosen_side(backbone, None)
    torch.manual_seed(seed)
    method = lookup(DEFAULT_METHOD).fresh(backbone, class_name)
    settings = EncodeSettings.of(method, side, side)
    features = cache_features(backbone, _painted(good, seed), COUNT, settings)
    encoded = time.monotonic()
    fit(method, features, Plan(recipe, 1, recipe.batch, seed))
    a_round = time.monotonic() - encoded
    rounds = int((seconds - (time.monotonic() - started)) / a_round)
    if rounds > 1:
        torch.manual_seed(seed)
        method = lookup(DEFAULT_METHOD).fresh(backbone, class_name)
    plan = Plan(recipe, max(1, min(rounds, default_epochs(recipe.epochs, recipe.batch, COUNT))), recipe.batch, seed)
    if rounds > 1:
        fit(method, features, plan)
    recipe.choose_settings(method, features)
    figures, thresholds = measure(method, features)
    header = header_of(method, plan, side, class_name, f"defects painted onto {len(good)} good parts", figures)
    shown = {"good": [{"name": one.name, "sha256": one.sha256} for one in good]}
    return Checkpoint(header | thresholds | shown, {key: one.detach() for key, one in method.tensors().items()})


def _painted(good: Sequence[GoodPicture], seed: int) -> Iterator[LabelledPicture]:
    """Yield COUNT pictures, every second one with a painted defect."""
    for number in range(COUNT):
        random = np.random.default_rng([seed, number])
        pixels = good[number // 2 % len(good)].decode()
        if number % 2:
            painted, mask, _ = paint_picture(random, pixels, good[int(random.integers(len(good)))].decode())
            yield LabelledPicture(painted, mask)
        else:
            yield LabelledPicture(pixels, np.zeros(pixels.shape[:2], bool))
