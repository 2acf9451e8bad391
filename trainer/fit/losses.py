"""The losses that methods are fitted with; most share focal and Dice losses of their maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.detectors import cops, vip2clip
from edge_agent.detectors.clip import (
    adaclip,
    afclip,
    anomalyclip,
    aprilgan,
    bayespfl,
    crane,
    craneplus,
    faprompt,
    glocalclip,
    vcpclip,
)
from edge_agent.detectors.clip.method import TEMPERATURE
from edge_agent.detectors.tipsomaly import Tipsomaly, TipsomalyOutput
from edge_agent.kernels import scoring

CRANE_TEMPERATURE, CRANE_BLOCKS = (
    0.01,
    4,
)  # of Crane's loss of the picture; blocks that its loss of the map is summed over
SMOOTH = 1e-5  # keeps the logarithm finite, as the authors' focal loss does


def focal(probability: Tensor, truth: Tensor, gamma: float = 2.0) -> Tensor:
    """Compute the focal loss, the mean of -(1 - p_t)^gamma log p_t.

    Args:
        probability: (B, H, W), of anomalous, in [0, 1].
        truth: the same shape, 0 or 1.
        gamma: default 2.
    """
    right = torch.where(truth > 0.5, probability, 1 - probability).clamp(SMOOTH, 1 - SMOOTH)
    return (-((1 - right) ** gamma) * right.log()).mean()


def both_dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Compute the Dice losses of the anomalous map and of the normal one, 1 - probability, summed, as a mean over pictures.

    Each is 1 - Dice coefficient, with one added to numerator and denominator. Both arguments (B, H, W).
    """
    return dice(probability, truth) + dice(1 - probability, 1 - truth)


def dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Compute the Dice loss of the anomalous map alone; see both_dice."""
    probability, truth = probability.flatten(1), truth.flatten(1)
    overlap, predicted, actual = (probability * truth).sum(dim=1), probability.sum(dim=1), truth.sum(dim=1)
    return (1 - (2 * overlap + 1) / (predicted + actual + 1)).mean()


def map_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Compute the sum of the focal loss and both Dice losses; see focal for the arguments."""
    return focal(probability, truth) + both_dice(probability, truth)


def tipsomaly_losses(method: Tipsomaly, found: TipsomalyOutput, masks: Tensor, bad: Tensor) -> dict[str, Tensor]:
    """Compute Tipsomaly's loss: map_loss of the map stretched bilinearly over the mask, and nothing on the picture as a whole.

    Args: see recipes.FitRecipe.
    """
    return {"map": map_loss(scoring.resize_bilinear(found.patches, masks.shape[-1]), masks)}


def vip2clip_losses(
    method: vip2clip.ViP2Clip, found: vip2clip.ViP2ClipOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute ViP2-CLIP's losses (its paper, section Training).

    Args: see recipes.FitRecipe.

    Returns by name:
    map: the sum over its layers of map_loss of the layer's probability stretched bilinearly over the mask. picture: cross-entropy
    of the two logits of the most anomalous patches (UTPA) and whether the picture is bad.
    """
    stretched = scoring.resize_bilinear(found.probability.flatten(0, 1), masks.shape[-1]).unflatten(
        0, found.probability.shape[:2]
    )
    return {
        "map": torch.stack([map_loss(layer, masks) for layer in stretched.unbind(dim=1)]).sum(),
        "picture": F.cross_entropy(vip2clip.picture_logits(found.cosines, method.top), bad.long()),
    }


def cops_losses(
    method: cops.Cops, found: cops.CopsOutput, masks: Tensor, bad: Tensor, *, reconstruction: bool = False
) -> dict[str, Tensor]:
    """Compute CoPS's losses, each weighted as published.

    Args: see recipes.FitRecipe; reconstruction: whether to add that part; default False.

    Returns by name:
    picture: cross-entropy of the picture's two logits and whether it is bad.
    map: 4 times map_loss of the patches' probabilities, not yet weighted by distances, each repeated over its part of the mask.
    normal: mean distance of a normal patch, of all pictures, to the nearest normal prototype.
    anomalous: the same of an anomalous patch and the nearest anomalous prototype; 0 where there is none. A patch is anomalous when
    any pixel of it is.
    code: KL divergence from the standard normal of the distribution that a picture's code is drawn from, summed over its
    numbers, mean over pictures.
    reconstruction, only if asked for: mean squared difference of a picture's feature and what was decoded from its code. The
    authors leave it out when they fit on VisA. Their code compares every picture's feature with every other's of the batch, a
    slip that pulls all to the batch's mean; here each is compared with its own.
    """
    patches_bad = F.adaptive_max_pool2d(masks.unsqueeze(1), found.probability.shape[1:]).squeeze(1) > 0  # (B, h, w)
    from_normal, from_anomalous = found.distances.unbind(dim=1)
    guess = found.vae
    assert guess is not None, "only in training"
    spread = guess.mean**2 + guess.log_variance.exp() - 1 - guess.log_variance  # (B, D)
    parts = {
        "picture": F.cross_entropy(found.picture, bad.long()),
        "map": 4 * map_loss(scoring.resize_nearest(found.probability, masks.shape[-1]), masks),
        "normal": mean_where(from_normal, ~patches_bad),
        "anomalous": mean_where(from_anomalous, patches_bad),
        "code": spread.sum(dim=1).mean() / 2,
    }
    return parts | ({"reconstruction": F.mse_loss(guess.decoded, guess.target)} if reconstruction else {})


def afclip_losses(method: afclip.AfClip, found: afclip.AfClipOutput, masks: Tensor, bad: Tensor) -> dict[str, Tensor]:
    """Compute AF-CLIP's losses.

    Args: see recipes.FitRecipe.

    Returns by name:
    picture: focal loss, gamma 4, of the class token's probability. map: the same of the patches', and their mean absolute
    error. alignment: over the sets of adapted patches, the mean of how much more alike a normal and an anomalous patch of one
    picture are than two of the same kind, at least 0.
    """
    probability = torch.sigmoid(found.odds)
    patches = probability[:, 1:].unflatten(1, found.grid)
    truth = (scoring.resize_bilinear(masks, found.grid) > 0.5).float()
    return {
        "picture": focal(probability[:, :1, None], bad[:, None, None], gamma=4),
        "map": focal(patches, truth, gamma=4) + (patches - truth).abs().mean(),
        "alignment": alignment(found.adapted[:, :, 1:], truth.flatten(1)),
    }


def alignment(patches: Tensor, truth: Tensor) -> Tensor:
    """Compare patches of different kinds with those of the same kind; 0 without normal or without anomalous patches.

    Args:
        patches: (B, S, N, D) unit, of S sets.
        truth: (B, N), 0 or 1.
    """
    kinds = torch.stack([1 - truth, truth])  # (2, B, N)
    normal, anomalous = torch.einsum("kbn,bsnd->kbsd", kinds, patches).unbind()  # sums over a picture's patches
    count = kinds.sum(dim=2)
    same, across = count.square().sum(), 2 * count.prod(dim=0).sum()
    if not across:
        return patches.sum() * 0
    alike = (normal.square() + anomalous.square()).sum(dim=(0, 2)) / same  # (S,), over all pairs, each with itself too
    unlike = 2 * (normal * anomalous).sum(dim=(0, 2)) / across
    return (unlike - alike).clamp(min=0).mean()


def aprilgan_losses(
    method: aprilgan.AprilGan, found: aprilgan.AprilGanOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute APRIL-GAN's loss: focal and Dice of the anomalous map of each block, summed; nothing on the picture as a whole.

    Args: see recipes.FitRecipe.
    """
    blocks = aprilgan.stretched_probability(found.logits, masks.shape[-1]).unbind(dim=1)
    return {"map": torch.stack([focal(one, masks) + dice(one, masks) for one in blocks]).sum()}


def anomalyclip_losses(
    method: anomalyclip.AnomalyClip, found: anomalyclip.AnomalyClipOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute AnomalyCLIP's losses: cross-entropy of the picture, and 4 times map_loss of the map stretched bilinearly.

    Args: see recipes.FitRecipe.
    """
    stretched = scoring.resize_bilinear(found.patches, masks.shape[-1])
    return {"picture": F.cross_entropy(found.picture, bad.long()), "map": 4 * map_loss(stretched, masks)}


def glocalclip_losses(
    method: glocalclip.GlocalClip, found: anomalyclip.AnomalyClipOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute GlocalCLIP's losses: AnomalyCLIP's with map_loss once, and squared distances of the pairs of each state.

    Its hinge on different states has the margin 0, as published, and so is always 0.

    Args: see recipes.FitRecipe.
    """
    whole, local = found.text.unflatten(0, (2, 2))  # each (2, D)
    stretched = scoring.resize_bilinear(found.patches, masks.shape[-1])
    return {
        "picture": F.cross_entropy(found.picture, bad.long()),
        "map": map_loss(stretched, masks),
        "pairs": (whole - local).square().sum(),
    }


def crane_losses(method: crane.Crane, found: crane.CraneOutput, masks: Tensor, bad: Tensor) -> dict[str, Tensor]:
    """Compute Crane's losses, each weighted as published.

    Args: see recipes.FitRecipe.

    Returns by name:
    picture: 0.2 times the cross-entropy of the fused feature at temperature 0.01. map: twice focal and Dice of the anomalous map,
    each patch repeated over its part of the mask, for each of four blocks, which in the published code are all the last one.
    """
    sharper = TEMPERATURE / CRANE_TEMPERATURE
    repeated = scoring.resize_nearest(found.patches, masks.shape[-1])
    return {
        "picture": 0.2 * F.cross_entropy(sharper * found.picture, bad.long()),
        "map": CRANE_BLOCKS * 2 * (focal(repeated, masks) + dice(repeated, masks)),
    }


def craneplus_losses(
    method: craneplus.CranePlus, found: craneplus.CranePlusOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute Crane+'s losses: Crane's, but with the maps of both sets of patches, once each.

    Args: see recipes.FitRecipe.
    """
    maps = [scoring.resize_nearest(torch.sigmoid(one), masks.shape[-1]) for one in found.odds.unbind(dim=1)]
    return {
        "picture": crane_losses(method, found, masks, bad)["picture"],
        "map": 2 * torch.stack([focal(one, masks) + dice(one, masks) for one in maps]).sum(),
    }


def faprompt_losses(
    method: faprompt.FaPrompt, found: faprompt.FaPromptOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute FAPrompt's losses.

    Args: see recipes.FitRecipe.

    Returns by name:
    map: map_loss of the first pass and half of that of the second, stretched bilinearly. picture: cross-entropy of the picture's
    logits. score: focal loss of the picture's score. kinds: a tenth of the sum of absolute cosines of the kinds of anomaly, each
    pair once, mean over pictures. bias: mean square of a good picture's bias, summed over them.
    """
    first, second = (map_loss(scoring.resize_bilinear(one, masks.shape[-1]), masks) for one in found.patches)
    alike = (found.kinds @ found.kinds.mT).abs().triu(1).sum(dim=(1, 2)).mean()
    return {
        "map": first + second / 2,
        "picture": F.cross_entropy(found.picture, bad.long()),
        "score": focal(method.scores(found).picture[:, None, None], bad[:, None, None]),
        "kinds": 0.1 * alike,
        "bias": (found.bias.square().mean(dim=1) * (1 - bad)).sum(),
    }


def vcpclip_losses(
    method: vcpclip.VcpClip, found: vcpclip.VcpClipOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute VCP-CLIP's loss: focal and Dice of the anomalous maps of both branches and of each block, summed.

    Args: see recipes.FitRecipe.
    """
    maps = [
        one
        for branch in (found.raw, found.new)
        for one in aprilgan.stretched_probability(branch, masks.shape[-1]).unbind(dim=1)
    ]
    return {"map": torch.stack([focal(one, masks) + dice(one, masks) for one in maps]).sum()}


def adaclip_losses(
    method: adaclip.AdaClip, found: adaclip.AdaClipOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute AdaCLIP's losses: focal of the picture's probability, and map_loss of each block's map, summed.

    Args: see recipes.FitRecipe.
    """
    picture = found.picture.softmax(dim=1)[:, 1]
    blocks = aprilgan.stretched_probability(found.logits, masks.shape[-1]).unbind(dim=1)
    return {
        "picture": focal(picture[:, None, None], bad[:, None, None]),
        "map": torch.stack([map_loss(one, masks) for one in blocks]).sum(),
    }


def bayespfl_losses(
    method: bayespfl.BayesPfl, found: bayespfl.BayesPflOutput, masks: Tensor, bad: Tensor
) -> dict[str, Tensor]:
    """Compute Bayes-PFL's losses, of one prompt of the bank, chosen by torch's global generator.

    Args: see recipes.FitRecipe.

    Returns by name:
    picture: cross-entropy of the picture's logits. map: over the blocks the sum of focal losses, the mean of anomalous pixels and
    that of normal ones, and of Dice over the whole batch. flows: a hundredth of the divergences of what was drawn from a
    standard normal distribution, of pictures and of both states. bank: mean square of the cosines of different prompts of a
    state, a prompt's with itself counted as 0, summed over the states.
    """
    one = int(torch.randint(found.picture.shape[2], ()))
    blocks = torch.sigmoid(scoring.resize_aligned(found.odds[:, :, one], masks.shape[-1])).unbind(dim=1)
    alike = (found.text @ found.text.mT).square()  # (B, 2, P, P)
    alike = alike - torch.diag_embed(alike.diagonal(dim1=2, dim2=3))
    return {
        "picture": F.cross_entropy(found.picture[:, :, one], bad.long()),
        "map": torch.stack([focal_of_kinds(each, masks) + dice_of_all(each, masks) for each in blocks]).sum(),
        "flows": 0.01 * torch.stack([drawn.divergence.mean() for drawn in found.drawn]).sum(),
        "bank": alike.mean(dim=(0, 2, 3)).sum(),
    }


def focal_of_kinds(probability: Tensor, truth: Tensor) -> Tensor:
    """Compute the focal loss of anomalous pixels and that of normal ones, each a mean, and add them; see focal for the arguments."""
    bad = truth > 0.5
    right = torch.where(bad, probability, 1 - probability).clamp(SMOOTH, 1 - SMOOTH)
    each = -((1 - right) ** 2) * right.log()
    return mean_where(each, bad) + mean_where(each, ~bad)


def dice_of_all(probability: Tensor, truth: Tensor) -> Tensor:
    """Compute the Dice loss of the anomalous map over all pictures together. Both arguments (B, H, W)."""
    return 1 - (2 * (probability * truth).sum() + SMOOTH) / (probability.sum() + truth.sum() + SMOOTH)


def mean_where(x: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of x over `chosen`, bool of the same shape; 0 where nothing is chosen."""
    return (x * chosen).sum() / chosen.sum().clamp(min=1)
