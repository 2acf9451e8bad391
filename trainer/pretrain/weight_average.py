"""The mean of the weights of models that descend from one another, which keeps much of what each of them has learnt.

Source: Wortsman et al., "Model soups" (ICML 2022) and "Robust fine-tuning of zero-shot models" (CVPR 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from edge_agent.backbones.tips.model import Tips
from edge_agent.errors import CheckpointError
from trainer import synthesis

_NOT_AVERAGED = "vision.appearance."  # each run finds its teacher's directions anew: their mean would mean nothing


def average_weights(tips: Tips, others: Sequence[Tips]) -> Tips:
    """Return a copy of `tips` with the mean of all their weights; its weights learnt from a teacher stay its own.

    Raises CheckpointError when the models differ in shapes or vocabulary.
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
    return {key: weight for key, weight in tips.state_dict().items() if not key.startswith(_NOT_AVERAGED)}


def require_alike(tips: Tips, others: Sequence[Tips]) -> None:
    """Raise CheckpointError when one of `others` has other shapes or another vocabulary than `tips`."""
    for other in others:
        shapes, theirs = ({(key, weight.shape) for key, weight in _weights(one).items()} for one in (tips, other))
        if unlike := sorted(key for key, _ in shapes ^ theirs):
            raise CheckpointError(
                f"{other.name} has other shapes ({unlike[0]}): only models of one descent can be averaged"
            )
        assert tips.tokenizer is not None
        assert other.tokenizer is not None
        if not torch.equal(tips.tokenizer(synthesis.NOUNS)[0], other.tokenizer(synthesis.NOUNS)[0]):
            raise CheckpointError(f"{other.name} has another vocabulary: only models of one descent can be averaged")
