"""ViP2-CLIP meets what its authors' own code computed, stage by stage, one picture at a time and two together."""

from __future__ import annotations

import pytest
import torch

from edge_agent.detectors.vip2clip import SHARED, STATE
from edge_agent.errors import CheckpointError
from edge_agent.importing.vip2clip import END, PERCEPTION, vip2clip_from_published
from edge_agent.kernels import scoring
from tests.parity import recipe, vectors

FILES = ("vip2", "vip2_interp")


@pytest.fixture(scope="module")
def clip():
    """Both files are of one CLIP."""
    return vectors.clip(vectors.load("vip2")[1])


def published(clip) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The authors' two state dicts, with the weights that the recipe draws for their names; both words are "damaged" there."""
    D, W = clip.width, clip.text_width
    shapes = {"ctx_pos": (STATE, W), "ctx_neg": (STATE, W), "cls_ctx": (SHARED, W), "cls_prompter.bias": (1, D)}
    for adapter in (f"cls_prompter.fc.{index}" for index in range(SHARED)):
        shapes |= {f"{adapter}.0.weight": (D // 2, D), f"{adapter}.0.bias": (D // 2,)}
        shapes |= {f"{adapter}.2.weight": (W, D // 2), f"{adapter}.2.bias": (W,)}
    ica = {name: torch.from_numpy(value) for name, value in recipe.state_dict(shapes, "vip2.ica.").items()}
    with torch.no_grad():
        word, end = clip.embed_words("damaged"), clip.embed_words(END)
    ica |= {"token_middle_pos": word[None], "token_middle_neg": word[None], "token_suffix_pos": end[None]}
    fgp_shapes: dict[str, tuple[int, ...]] = {}
    for name in PERCEPTION.values():
        fgp_shapes |= {f"{name}.weight": (D, D, 1), f"{name}.bias": (D,)}
    fgp = {name: torch.from_numpy(value) for name, value in recipe.state_dict(fgp_shapes, "vip2.fgp.").items()}
    return ica, fgp


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("file", FILES)
def test_every_stage_meets_the_published_code(clip, file, batch):
    arrays, config = vectors.load(file)
    method = vip2clip_from_published(clip, *published(clip), top=config["topk"]).eval()
    assert list(method.layers) == config["feats"]
    pictures, text, score, maps, smoothed = vectors.pictures(config), [], [], [], []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            x = clip.pictures(pictures[start : start + batch], config["size"])
            found = method(clip.encode_image(x, method.layers))
            scores = method.scores(found)
            text.append(found.text)
            score.append(scores.picture)
            maps.append(scoring.resize_bilinear(scores.patches, config["size"]))
            smoothed.append(scoring.heatmaps(scores.patches, config["size"], config["sigma"] * 518 / config["size"]))
    for name, ours in {"text": text, "score": score, "map": maps, "smoothed": smoothed}.items():
        vectors.meet(ours, name, arrays, config)


def test_prompts_of_another_width_are_refused_by_name(clip):
    ica, fgp = published(clip)
    ica["ctx_pos"] = ica["ctx_pos"][:, :512]
    with pytest.raises(CheckpointError, match=r"ctx_pos is \(9, 512\) instead of \(9, 768\)"):
        vip2clip_from_published(clip, ica, fgp)
