"""The folder of the embedded model, made from a pretraining run: weights, vocabulary, fitted prompts, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edge_agent.backbones.tips.files import FILES, TEXT, TOKENIZER, VISION
from edge_agent.backbones.tips.model import Tips, load_tips_folder, to_official
from edge_agent.backbones.weights.digests import format_sums
from edge_agent.backbones.weights.store import PINS
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.detectors.tipsomaly import Tipsomaly
from trainer.fit.checkpoint import header_of
from trainer.fit.defaults import default_epochs
from trainer.fit.feature_cache import CachedFeatures, cache_features
from trainer.fit.features import EncodeSettings, LabelledPicture
from trainer.fit.loop import Plan, fit
from trainer.fit.outputs import measure
from trainer.fit.recipes import RECIPES
from trainer.fit.tipsomaly_settings import EVIDENCES, choose_settings
from trainer.pretrain.batches import ViewDataset
from trainer.pretrain.pool import Pool
from trainer.pretrain.recipe import Recipe

EVIDENCE = EVIDENCES[-1]  # separates real pictures far better, and synthetic ones two points worse


def write_embedded_model(
    tips: Tips,
    tokenizer: bytes,
    pool: Pool,
    recipe: Recipe,
    folder: Path,
    *,
    fit_views: int = 1000,
    check_views: int = 1000,
) -> dict[str, float]:
    """Write all files of the embedded model and return its figures on synthetic pictures of neither training nor fitting.

    The weights are rounded to half precision first, as prompts have to be fitted on what is shipped.

    Args:
        tips: the pretrained model.
        tokenizer: its SentencePiece vocabulary.
        pool: good pictures.
        recipe: of the pretraining; its seed and sizes are used here too.
        folder: to write into; made if it is not there.
        fit_views: views to fit the prompts on; default 1000.
        check_views: views to choose the score and measure on; default 1000.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vision, text = to_official(tips)
    np.savez(folder / VISION, **vision)  # type: ignore[arg-type]
    np.savez(folder / TEXT, **text)  # type: ignore[arg-type]
    (folder / TOKENIZER).write_bytes(tokenizer)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / PINS).write_text(format_sums(sums))
    shipped = load_tips_folder(folder, "embedded")

    published = RECIPES[Tipsomaly.name]
    epochs = default_epochs(published.epochs, published.batch, fit_views)
    plan = Plan(published, epochs, published.batch, recipe.seed)
    torch.manual_seed(recipe.seed)
    method = Tipsomaly(shipped)
    fit(method, _features(shipped, pool, recipe, 11, fit_views), plan)
    check = _features(shipped, pool, recipe, 12, check_views)
    choose_settings(method, check)
    method.evidence = EVIDENCE
    figures, thresholds = measure(method, check)
    source = f"{fit_views} procedural pictures"
    header = header_of(method, plan, recipe.image_size, "object", source, figures) | thresholds
    save_checkpoint(Checkpoint(header, method.tensors()), folder / "tipsomaly.safetensors")
    return figures


def _features(tips: Tips, pool: Pool, recipe: Recipe, stream: int, count: int) -> CachedFeatures:
    """Encode views that no training used. stream: number of the stream of views, other than 0."""
    settings = EncodeSettings(recipe.image_size, recipe.image_size // 4)
    return cache_features(tips, _labelled(pool, recipe, stream, count), count, settings, batch=50)


def _labelled(pool: Pool, recipe: Recipe, stream: int, count: int) -> Iterator[LabelledPicture]:
    views = ViewDataset(pool, replace(recipe, seed=recipe.seed + stream, small_steps=0), 0, count)
    for number in range(count):
        pixels, labels, *_ = views[number]
        yield LabelledPicture(pixels, labels > 0)
