"""The TIPS towers and Tipsomaly's scores meet what the authors' own code computed, at every stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.detectors import tipsomaly
from edge_agent.kernels import scoring
from tests.parity import vectors

FILES = ("tips_mlp", "tips_mlp_interp", "tips_swiglu")


@pytest.fixture(scope="module", params=FILES)
def case(request):
    arrays, config = vectors.load(request.param)
    return arrays, config, *vectors.towers(config)


@pytest.fixture(scope="module")
def features(case):
    _, config, vision, _ = case
    x = pictures_to_tensor(vectors.pictures(config), config["size"], torch.device("cpu"))
    with torch.inference_mode():
        return vision(x, layers=[config["depth"] // 2])


def close(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs, atol=vectors.TOLERANCE, rtol=0)


def text_pairs(case) -> tuple[torch.Tensor, torch.Tensor]:
    """Fixed and learned pair: rows 0 and 1 of the sentences are normal, 2 and 3 anomalous."""
    arrays, config, _, text = case
    ids, paddings = torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["paddings"])
    rows = (slice(0, 2), slice(2, 4))
    with torch.inference_mode():
        fixed = torch.stack([scoring.state_feature(text(ids[row], paddings[row])) for row in rows])
        prompted = zip(rows, vectors.prompts(config), strict=True)
        learned = torch.stack(
            [scoring.state_feature(text(ids[row], paddings[row], prompt)) for row, prompt in prompted]
        )
    return fixed, learned


def test_class_tokens_and_patches_meet_the_authors(case, features):
    arrays = case[0]
    close(features.globals[:, :1], arrays["cls1"])
    close(features.globals[:, 1:], arrays["cls2"])
    close(features.patches, arrays["patches"])


def test_patches_of_a_middle_layer_meet_the_authors(case, features):
    close(features.layers[case[1]["depth"] // 2], case[0]["mid_patches"])


def test_one_picture_gives_what_it_gives_in_a_batch(case, features):
    _, config, vision, _ = case
    x = pictures_to_tensor(vectors.pictures(config)[1:], config["size"], torch.device("cpu"))
    with torch.inference_mode():
        alone = vision(x)
    torch.testing.assert_close(alone.patches[0], features.patches[1], atol=1e-5, rtol=0)


def test_text_meets_the_authors_at_every_length(case):
    arrays, _, _, text = case
    with torch.inference_mode():
        close(text(torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["paddings"])), arrays["text"])


def test_fixed_and_learned_pairs_meet_the_authors(case):
    fixed, learned = text_pairs(case)
    close(fixed, case[0]["fixed"][0])
    close(learned, case[0]["learned"][0])


def test_scores_and_maps_meet_the_authors(case, features):
    arrays, config, _, _ = case
    fixed, learned = text_pairs(case)
    scores = tipsomaly.score(features, fixed, learned, config["temperature"])
    close(scores.patches.flatten(1), arrays["patch_map"])
    for token in (1, 2):  # theirs is the sum, ours half of it
        close(2 * tipsomaly.picture_score(scores, token), arrays[f"score_cls{token}"])
    close(
        scoring.smooth(scoring.resize_bilinear(scores.patches, config["size"]), config["sigma"]), arrays["map_smoothed"]
    )


def test_the_published_blur_across_states_is_an_affine_squeeze_of_ours(case):
    """So that leaving it out, as we do, changes no ranking of pixels."""
    ours, theirs = case[0]["map_smoothed"].ravel(), case[0]["map_smoothed_as_published"].ravel()
    slope, offset = np.polyfit(ours, theirs, 1)
    assert 0 < slope < 1
    np.testing.assert_allclose(slope * ours + offset, theirs, atol=vectors.TOLERANCE)
