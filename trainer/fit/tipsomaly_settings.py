"""Settings of Tipsomaly that are chosen after its prompts are fitted: how patches and class tokens make the score."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_agent.detectors.tipsomaly import (
    CLASS_TOKEN,
    CONSISTENCY,
    MIN_PROBABILITY,
    NO_CONTRAST,
    PUBLISHED,
    LocalEvidence,
    Tipsomaly,
    picture_score,
    with_consistency,
)
from trainer.evaluate.metrics import auroc
from trainer.fit.features import Features
from trainer.fit.outputs import outputs
from trainer.io.processes import gathered

EVIDENCES = (PUBLISHED, LocalEvidence((0.02,), odds=True), LocalEvidence((0.02, 0.2, 1.0), odds=True))  # to choose from
SELF_WEIGHT = 0.5  # weight of a patch's unlikeness to the others of its picture, beside what the prompts say of it
CONTRAST = (0.2, 2.0)  # share and temperature of the contrast, where a backbone gives it: see tipsomaly.sharpened


def choose_settings(method: Tipsomaly, features: Features) -> None:
    """Set consistency and contrast, and the class token and local evidence whose score separates good from bad best.

    As published where all separate alike.
    """
    method.consistency = find_consistency(method, features)
    choices = [(token, evidence) for evidence in EVIDENCES for token in (CLASS_TOKEN, 1)]
    scores: list[list[Tensor]] = [[] for _ in choices]
    bad = []
    for batch, found in outputs(method, features):
        bad.append(batch.bad.cpu() > 0)
        method.contrast = NO_CONTRAST if found.contrast is None else CONTRAST
        found = with_consistency(found, *method.consistency)
        for (token, evidence), one in zip(choices, scores, strict=True):
            one.append(picture_score(found, min(token, found.picture.shape[1]), None, evidence).cpu())
    defective = gathered(torch.cat(bad))
    aurocs = [auroc(defective, gathered(torch.cat(one))) for one in scores]
    method.class_token, method.evidence = choices[aurocs.index(max(aurocs))]


def find_consistency(method: Tipsomaly, features: Features) -> tuple[float, float]:
    """Return the slope and centre with which a patch's unlikeness is added to its logit.

    They follow from the mean and spread of both over the patches of good pictures. As published where the backbone gives
    no unlikeness.
    """
    logits, unlike = [], []
    for batch, found in outputs(method, features):
        if found.dissimilarity is None:
            return CONSISTENCY
        good = batch.bad == 0
        logits.append(torch.logit(found.patches[good], MIN_PROBABILITY).cpu())
        unlike.append(found.dissimilarity[good].cpu())
    text, own = (gathered(torch.cat(parts)) for parts in (logits, unlike))
    return (SELF_WEIGHT * float(text.std() / max(own.std(), 1e-6)), float(own.mean()))
