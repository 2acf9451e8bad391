"""The losses of pretraining, all against the text tower's sentences, but for the teacher's.

Image-caption contrast (the first class token with short captions, the second with descriptions that say where), state of
the picture, state of each patch, kind of each defect; and, with a teacher, what it says a patch looks like. Left out:
self-distillation and masked patches.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.appearance import Appearance
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.detectors import prompts
from edge_agent.kernels import scoring
from trainer import synthesis
from trainer.pretrain.batches import Batch
from trainer.pretrain.student import Student
from trainer.pretrain.views import KINDS


def pretraining_losses(
    student: Student, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Compute the parts of the loss by name, already weighted.

    Args:
        student: the model in training.
        tokenizer: its vocabulary.
        batch: the views.
        rng: chooses nouns and sentences.
    """
    device = student.log_temperature.device
    # Only the towers in half precision, and only on a GPU: many CPUs are slower with it.
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    with half:
        features = student.vision(batch.x.to(device), (student.teacher_block,))
    temperature = student.temperature
    mask = batch.mask.to(device)
    bad = mask.amax(dim=(1, 2))  # (B,) 1 where the picture has a defect

    nouns = [
        "object",
        *(batch.nouns[index] for index in rng.choice(len(batch.nouns), min(3, len(batch.nouns)), replace=False)),
    ]
    groups: list[list[str]] = [group for noun in nouns for group in prompts.sentences(noun)]
    groups = [list(rng.choice(group, 10 if index < 2 else 4, replace=False)) for index, group in enumerate(groups)]
    kind_sentences = [synthesis.caption(rng, "object", kind, named=True) for kind in KINDS]
    sentences = [
        *batch.captions,
        *batch.descriptions,
        *kind_sentences,
        *(sentence for group in groups for sentence in group),
    ]
    ids, paddings = tokenizer(sentences)
    with half:
        text = student.text(ids.to(device), paddings.to(device))
    text = scoring.unit(text)  # (T, D)
    count = len(batch.captions)
    caption_text, description_text, kind_text, state_text = text.split(
        [count, count, len(KINDS), sum(map(len, groups))]
    )
    means = [scoring.unit(part.mean(dim=0)) for part in state_text.split([len(group) for group in groups])]
    pairs = torch.stack(means).unflatten(0, (len(nouns), 2))  # (nouns, 2, D)

    # The picture and its words, one kind of words for each class token; equal words are all right answers.
    contrast = picture = torch.zeros((), device=device)
    words_of_token = ((batch.captions, caption_text), (batch.descriptions, description_text))
    for token, (words, words_text) in zip(features.globals.unbind(dim=1), words_of_token, strict=True):
        same = torch.tensor([[a == b for b in words] for a in words], dtype=torch.float32, device=device)
        target = same / same.sum(dim=1, keepdim=True)
        logits = scoring.unit(token) @ words_text.T / temperature
        contrast = contrast + (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        odds = scoring.unit(token) @ (pairs[:, 1] - pairs[:, 0]).T / temperature  # (B, nouns)
        picture = picture + F.binary_cross_entropy_with_logits(odds, bad.unsqueeze(1).expand_as(odds))

    # Each patch and the state of what it shows. A few changed pixels make a patch anomalous: small defects count.
    patch = student.vision.shape.patch
    covered = F.avg_pool2d(mask.unsqueeze(1), patch).squeeze(1)  # (B, h, w) fraction
    patch_target = (covered / 0.06).clamp(max=1)
    patches = scoring.unit(features.patches)
    odds = (patches @ (pairs[0, 1] - pairs[0, 0]) / temperature).unflatten(1, features.grid)  # (B, h, w)
    weight = 1 + 2 * patch_target
    state = (F.binary_cross_entropy_with_logits(odds, patch_target, reduction="none") * weight).mean()

    # The map as inspection shows it: stretched, against the mask itself (focal and Dice, as Tipsomaly is fitted).
    side = 4 * features.grid[0]
    fine = F.interpolate(mask.unsqueeze(1), size=(side, side), mode="area").squeeze(1)
    heatmap = scoring.resize_bilinear(torch.sigmoid(odds), side)
    overlap = 1 - (2 * (heatmap * fine).sum(dim=(1, 2)) + 1) / ((heatmap + fine).sum(dim=(1, 2)) + 1)

    # Anomalous patches and the words for their defect.
    labels = F.max_pool2d(batch.labels.to(device).float().unsqueeze(1), patch).squeeze(1)  # (B, h, w)
    chosen = (covered > 0.05).flatten(1)  # (B, N)
    kind = torch.zeros((), device=device)
    if chosen.any():
        logits = patches[chosen] @ kind_text.T / temperature
        missed = F.cross_entropy(logits, labels.flatten(1)[chosen].long() - 1, reduction="none")
        share = (chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1))[chosen]  # each picture counts alike
        kind = (missed * share).sum() / share.sum()
    parts = {
        "contrast": 0.1 * contrast,
        "picture": 0.5 * picture,
        "patch": 2 * state,
        "dice": 0.5 * overlap.mean(),
        "kind": kind,
    }
    if batch.targets is not None:
        appearance = student.vision.appearance[str(student.teacher_block)]
        assert isinstance(appearance, Appearance)
        error = appearance.figures(features.layers[student.teacher_block].float()) - batch.targets.to(device)
        parts["teacher"] = error.square().sum(dim=2).mean()  # 1 for a student that says the same of every patch
    return parts
