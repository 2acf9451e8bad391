"""How each method is fitted, as its paper and published code do: numbers, losses, and what is chosen afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edge_agent.detectors.clip.adaclip import AdaClip
from edge_agent.detectors.clip.afclip import AfClip
from edge_agent.detectors.clip.anomalyclip import AnomalyClip
from edge_agent.detectors.clip.aprilgan import AprilGan
from edge_agent.detectors.clip.bayespfl import BayesPfl
from edge_agent.detectors.clip.crane import Crane
from edge_agent.detectors.clip.craneplus import CranePlus
from edge_agent.detectors.clip.faprompt import FaPrompt
from edge_agent.detectors.clip.glocalclip import GlocalClip
from edge_agent.detectors.clip.vcpclip import VcpClip
from edge_agent.detectors.cops import Cops
from edge_agent.detectors.tipsomaly import Tipsomaly
from edge_agent.detectors.vip2clip import ViP2Clip
from trainer.fit import losses
from trainer.fit.features import Features
from trainer.fit.tipsomaly_settings import choose_settings

Losses = Callable[[Any, Any, Tensor, Tensor], dict[str, Tensor]]


def _nothing(method: Any, features: Features) -> None:
    """Choose nothing after the fit."""


def _constant(done: float) -> float:
    """Leave the rates as they are."""
    return 1.0


def warm_cosine(done: float) -> float:
    """Return what the rates are multiplied with: up from 0 over a tenth of the steps, then down to 0 along a cosine.

    done: share of the steps, in [0, 1].
    """
    warm = 0.1
    return done / warm if done < warm else (1 + math.cos(math.pi * (done - warm) / (1 - warm))) / 2


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """How one method is fitted.

    epochs, batch, betas (of Adam): as published. rates: learning rates by prefix of a parameter's name, "" for the rest.
    losses(method, found, masks, bad): the parts of the loss by name, already weighted; found: what `forward` returned; masks
    (B, S, S) and bad (B,) are float, 0 or 1. choose_settings(method, features): sets what is chosen once the parameters are
    fitted; default nothing. schedule: of the share of steps that are done, what the rates are multiplied with; default 1.
    decay: of weights, as AdamW does it; default none.
    """

    epochs: int
    batch: int
    betas: tuple[float, float]
    rates: Mapping[str, float]
    losses: Losses
    choose_settings: Callable[[Any, Features], None] = _nothing
    schedule: Callable[[float], float] = _constant
    decay: float = 0.0


RECIPES: Mapping[str, FitRecipe] = {
    Tipsomaly.name: FitRecipe(2, 8, (0.5, 0.999), {"": 1e-3}, losses.tipsomaly_losses, choose_settings),
    ViP2Clip.name: FitRecipe(10, 8, (0.9, 0.999), {"": 1e-3, "fgp.": 1e-5}, losses.vip2clip_losses),
    Cops.name: FitRecipe(10, 8, (0.5, 0.999), {"": 1e-3}, losses.cops_losses),
    AfClip.name: FitRecipe(2, 8, (0.5, 0.999), {"": 1e-4}, losses.afclip_losses),
    AnomalyClip.name: FitRecipe(15, 8, (0.5, 0.999), {"": 1e-3}, losses.anomalyclip_losses),
    Crane.name: FitRecipe(5, 8, (0.6, 0.999), {"": 1e-3}, losses.crane_losses),
    CranePlus.name: FitRecipe(5, 8, (0.6, 0.999), {"": 1e-3}, losses.craneplus_losses),
    GlocalClip.name: FitRecipe(15, 8, (0.5, 0.999), {"": 1e-3}, losses.glocalclip_losses),
    FaPrompt.name: FitRecipe(10, 8, (0.5, 0.999), {"": 1e-3}, losses.faprompt_losses),
    AdaClip.name: FitRecipe(5, 1, (0.5, 0.999), {"": 1e-2}, losses.adaclip_losses, decay=1e-2),
    VcpClip.name: FitRecipe(10, 32, (0.5, 0.999), {"": 2e-5, "logs": 1e-2}, losses.vcpclip_losses),
    # As published but for its end: there the epoch that is best on five classes of the other set is taken, which a user lacks.
    BayesPfl.name: FitRecipe(
        15,
        32,
        (0.5, 0.999),
        {
            "": 1e-4,
            **dict.fromkeys(("context", "state.", "context_flows.", "state_flows.", "state_input."), 1e-3),
            **{"context_gaussian.": 1e-4, "logs": 1e-2},
        },
        losses.bayespfl_losses,
        schedule=warm_cosine,
    ),
    AprilGan.name: FitRecipe(3, 8, (0.5, 0.999), {"": 1e-3}, losses.aprilgan_losses),
}
