"""From a pretraining run to the folder that the package ships: weights, vocabulary, fitted prompts, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_agent.backbones.catalog import FILES, TEXT, TOKENIZER, VISION
from edge_agent.backbones.digests import format_sums
from edge_agent.backbones.store import PINS
from edge_agent.backbones.tips import Tips, load_tips, to_official
from edge_agent.detectors import scoring, tipsomaly
from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from trainer.fit import FitRecipe, fit_prompts
from trainer.metrics import auroc, balanced_threshold, best_f1_threshold
from trainer.pool import Pool
from trainer.pretrain import Recipe, batches


def embed(
    tips: Tips,
    tokenizer: bytes,
    pool: Pool,
    recipe: Recipe,
    folder: Path,
    *,
    fit_views: int = 1000,
    check_views: int = 1000,
) -> dict[str, float]:
    """Write all files of the embedded model and return what they score on synthetic pictures of neither training nor fitting.

    The weights are rounded to half precision first: prompts are fitted on what is shipped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vision, text = to_official(tips)
    np.savez(folder / VISION, **vision)  # type: ignore[arg-type]
    np.savez(folder / TEXT, **text)  # type: ignore[arg-type]
    (folder / TOKENIZER).write_bytes(tokenizer)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / PINS).write_text(format_sums(sums))
    shipped = load_tips(folder / VISION, folder / TEXT, folder / TOKENIZER, "embedded")

    fitting = FitRecipe(image_size=recipe.image_size, map_size=recipe.image_size // 4, seed=recipe.seed)
    prompt = fit_prompts(shipped, _labelled(pool, recipe, 11, fit_views), fitting)
    with torch.inference_mode():
        tensors = {
            "prompt": prompt,
            "learned": tipsomaly.learned_features(shipped, prompt),
            "fixed.object": tipsomaly.fixed_features(shipped, "object"),
        }
    figures, header = _figures(shipped, tensors, _labelled(pool, recipe, 12, check_views))
    header |= {
        "method": tipsomaly.Tipsomaly.name,
        "backbone": shipped.name,
        "backbone_sha256": shipped.sha256,
        "image_size": recipe.image_size,
        "class_name": "object",
        "fitted_on": f"{fit_views} procedural pictures",
        "hyper_parameters": asdict(fitting),
        "metrics": figures,
    }
    save_checkpoint(Checkpoint(header, tensors), folder / "tipsomaly.safetensors")
    return figures


def _labelled(pool: Pool, recipe: Recipe, stream: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches(pool, replace(recipe, seed=recipe.seed + stream, small_steps=0), 0, count, 50):
        yield batch.x, batch.mask


@torch.inference_mode()
def _figures(
    tips: Tips, tensors: dict[str, Tensor], labelled: Iterator[tuple[Tensor, Tensor]]
) -> tuple[dict[str, float], dict[str, object]]:
    """AUROC in percent with either class token, and what of the header follows: the better token, thresholds."""
    scores: list[Tensor] = []
    maps: list[Tensor] = []
    masks: list[Tensor] = []
    bad: list[Tensor] = []
    for x, mask in labelled:
        found = tipsomaly.score(tips.encode_image(x), tensors["fixed.object"], tensors["learned"], tips.temperature)
        scores.append(torch.stack([tipsomaly.picture_score(found, token) for token in (1, 2)], dim=1))
        maps.append(scoring.stretch(found.patches, 56))
        masks.append(torch.nn.functional.adaptive_avg_pool2d(mask.unsqueeze(1), 56).squeeze(1) > 0.3)
        bad.append(mask.amax(dim=(1, 2)) > 0)
    truth, defective = torch.cat(masks), torch.cat(bad).numpy()
    by_token = [auroc(defective, torch.cat(scores)[:, token].numpy()) for token in (0, 1)]
    token = int(np.argmax(by_token)) + 1
    pixels = torch.cat(maps).flatten().numpy()
    figures = {
        "synthetic_image_auroc_token_1": by_token[0],
        "synthetic_image_auroc_token_2": by_token[1],
        "synthetic_pixel_auroc": auroc(truth.flatten().numpy(), pixels),
    }
    header: dict[str, object] = {
        "class_token": token,
        "threshold": balanced_threshold(defective, torch.cat(scores)[:, token - 1].numpy()),
        "map_threshold": best_f1_threshold(truth.flatten().numpy(), pixels),
    }
    return figures, header
