"""The mean of the weights of models that descend from one another: it keeps what each of them is sure of.

Source: Wortsman et al., "Model soups" (ICML 2022) and "Robust fine-tuning of zero-shot models" (CVPR 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from edge_agent.backbones.tips import Tips
from edge_agent.errors import CheckpointError
from trainer import synthesis

OWN = "vision.appearance."  # each run finds its teacher's directions anew: their mean would mean nothing


def averaged(tips: Tips, others: Sequence[Tips]) -> Tips:
    """`tips` with the mean of all their weights; the figures of what patches look like stay those of `tips`.

    Raises CheckpointError when one is built otherwise or reads words otherwise.
    """
    require_alike(tips, others)
    made = copy.deepcopy(tips)
    states = [_weights(one) for one in (tips, *others)]
    with torch.no_grad():
        for key, weight in _weights(made).items():
            weight.copy_(torch.stack([state[key] for state in states]).mean(dim=0))
    made.temperature = fmean(one.temperature for one in (tips, *others))
    return made


def _weights(tips: Tips) -> dict[str, Tensor]:
    return {key: weight for key, weight in tips.state_dict().items() if not key.startswith(OWN)}


def require_alike(tips: Tips, others: Sequence[Tips]) -> None:
    """Raises CheckpointError when one of `others` is built otherwise than `tips` or reads words otherwise."""
    for other in others:
        shapes, theirs = ({(key, weight.shape) for key, weight in _weights(one).items()} for one in (tips, other))
        if unlike := sorted(key for key, _ in shapes ^ theirs):
            raise CheckpointError(
                f"{other.name} is built otherwise ({unlike[0]}): only models of one descent can be averaged"
            )
        assert tips.tokenizer is not None
        assert other.tokenizer is not None
        if not torch.equal(tips.tokenizer(synthesis.NOUNS)[0], other.tokenizer(synthesis.NOUNS)[0]):
            raise CheckpointError(f"{other.name} has another vocabulary: only models of one descent can be averaged")
