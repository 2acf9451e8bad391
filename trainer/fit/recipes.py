"""How each method is fitted, as its paper and published code do: data, and which losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer.fit import losses

Losses = Callable[[Any, Any, Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class MethodRecipe:
    """epochs, batch, betas (of Adam): as published. rates: learning rate by the beginning of a parameter's name, "" for all others.

    losses(method, found, masks, bad): by name, already weighted; masks (B, S, S) and bad (B,) are float, 0 or 1.
    """

    epochs: int
    batch: int
    betas: tuple[float, float]
    rates: Mapping[str, float]
    losses: Losses


RECIPES: Mapping[str, MethodRecipe] = {
    "tipsomaly": MethodRecipe(2, 8, (0.5, 0.999), {"": 1e-3}, losses.tipsomaly_losses),
    "vip2clip": MethodRecipe(10, 8, (0.9, 0.999), {"": 1e-3, "fgp.": 1e-5}, losses.vip2clip_losses),
    "cops": MethodRecipe(10, 8, (0.5, 0.999), {"": 1e-3}, losses.cops_losses),
}
