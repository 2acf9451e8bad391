"""The loop that fits a method's prompts on a frozen backbone; killed at any moment it resumes to the same result."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from edge_agent.detectors.method import Method
from edge_agent.errors import EdgeAgentError
from trainer.fit.features import Features
from trainer.fit.recipes import FitRecipe
from trainer.io.run_state import read_state, write_state


@dataclass(frozen=True, slots=True)
class Plan:
    """How a method is fitted: epochs, pictures a step (batch), seed, and seconds between two saved states (every_s)."""

    recipe: FitRecipe
    epochs: int
    batch: int
    seed: int = 0
    every_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Share:
    """This process's part of the pictures: the number of its first one, and the total of all processes."""

    first: int
    total: int


def fit(
    method: Method,
    features: Features,
    plan: Plan,
    *,
    state: Path | None = None,
    key: str = "",
    share: Share | None = None,
    report: Callable[[int, Mapping[str, float]], object] = lambda step, losses: None,
) -> None:
    """Fit `method` in place.

    Args:
        method: its parameters are fitted.
        features: of this process's pictures.
        plan: how to fit.
        state: file to resume from and to save to; default none.
        key: names the fit; the state of another fit is refused.
        share: which of the pictures `features` are, under torchrun, where all processes step together; default all.
        report: called with the step, from 1, and the losses by name, none where this process has no picture of the step.

    Raises EdgeAgentError when the loss is not finite, or the state is another fit's, damaged or cannot be written.
    """
    share = share or Share(0, len(features))
    rank = dist.get_rank() if dist.is_initialized() else 0
    groups = _groups(method, plan.recipe)
    rates = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, betas=plan.recipe.betas, weight_decay=plan.recipe.decay)
    step, saved_at = 0, time.monotonic()
    if state is not None and (known := read_state(state, key)):
        _restore(method, optimizer, known)
        step = int(known["step"])
    per_epoch = -(-share.total // plan.batch)
    steps = plan.epochs * per_epoch
    method.train()
    while step < steps:
        epoch, number = divmod(step, per_epoch)
        order = torch.randperm(share.total, generator=torch.Generator().manual_seed(_seed(plan.seed, epoch)))
        chosen = order[number * plan.batch : (number + 1) * plan.batch]
        own = chosen[(chosen >= share.first) & (chosen < share.first + len(features))] - share.first
        torch.manual_seed(_seed(plan.seed, step, rank))  # so that random numbers depend on the step alone
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * plan.recipe.schedule(step / steps)
        optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        if len(own):
            batch = features.batch(own)
            parts = plan.recipe.losses(method, method(batch.features), batch.masks, batch.bad)
            loss = torch.stack(list(parts.values())).sum()
            (loss * (len(own) / len(chosen))).backward()
            losses = {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}}
            if loss.isfinite().logical_not():
                raise EdgeAgentError(f"the loss is not finite at step {step + 1}: {losses}; try --precision fp32")
        if dist.is_initialized():
            _sum_gradients(method)
        optimizer.step()
        step += 1
        if state is not None and rank == 0 and (step == steps or time.monotonic() - saved_at > plan.every_s):
            parameters = {name: parameter.detach() for name, parameter in method.named_parameters()}
            write_state(state, key, {"method": parameters, "optimizer": optimizer.state_dict(), "step": step})
            saved_at = time.monotonic()
        report(step, losses)
    method.eval()


def _groups(method: Method, recipe: FitRecipe) -> list[dict[str, Any]]:
    """Group the parameters by learning rate; the longest prefix of a name in the recipe decides."""
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in method.named_parameters():
        prefix = max((one for one in recipe.rates if name.startswith(one)), key=len)
        groups.setdefault(recipe.rates[prefix], []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in groups.items()]


def _restore(method: Method, optimizer: torch.optim.Optimizer, known: Mapping[str, Any]) -> None:
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            parameter.copy_(known["method"][name])
    optimizer.load_state_dict(known["optimizer"])


def _sum_gradients(method: Method) -> None:
    """Sum the gradients of all processes; one without a picture in this batch contributes zeros."""
    for parameter in method.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def _seed(*numbers: int) -> int:
    return zlib.crc32(repr(numbers).encode())
