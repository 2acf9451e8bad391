"""CoPS meets what its authors' own code computed, stage by stage, one picture at a time and two together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.detectors.cops import Cops
from edge_agent.importing.cops import cops_from_published, published_shapes
from edge_agent.kernels import scoring
from tests.parity import recipe, vectors

FILES = ("cops", "cops_k3")


@pytest.fixture(scope="module")
def clip():
    """Both files are of one CLIP."""
    return vectors.clip(vectors.load("cops")[1])


@pytest.fixture(scope="module", params=FILES)
def published(request, clip):
    """The file's arrays and hyper-parameters, and the method from a checkpoint with the authors' names."""
    arrays, config = vectors.load(request.param)
    method = cops_from_published(
        clip,
        published_prompts(clip),
        k=config["k"],
        alpha=config["alpha"],
        beta=config["beta"],
        draws=torch.from_numpy(recipe.array("cops.z", (10, clip.width))),
    )
    return arrays, config, method.eval()


def published_prompts(clip) -> dict[str, torch.Tensor]:
    """The authors' checkpoint["prompt_learner"], with the weights that the recipe draws for its names."""
    own = Cops(clip, fittable=False).named_parameters()
    shapes = published_shapes({name: tuple(value.shape) for name, value in own})
    arrays = recipe.state_dict(shapes, "cops.")
    for name, shape in shapes.items():
        if name.startswith("compound_"):
            arrays[name] = recipe.array(f"cops.{name}", shape, *recipe.scale_for(name, shape), fp16=True)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_stage_meets_the_published_code(published, batch, held):
    arrays, config, method = published
    method.train().eval()  # forgets what was held
    pictures = vectors.pictures(config)
    found, scores, maps = [], [], []
    with torch.inference_mode():
        if held:
            method.precompute()
        for start in range(0, len(pictures), batch):
            x = method.backbone.pictures(pictures[start : start + batch], config["size"])
            features = method.backbone.encode_image(x, method.layers, values=method.values)
            found.append(method(features))
            scores.append(method.scores(found[-1]))
            maps.append(
                scoring.heatmaps(
                    scores[-1].patches, config["size"], method.sigma * 518 / config["size"], method.upsampling
                )
            )
    close([one.patches for one in found], arrays["patches"])
    close([one.prototypes[:, 0] for one in found], arrays["proto_n"])
    close([one.prototypes[:, 1] for one in found], arrays["proto_a"])
    close([one.text for one in found], arrays["text"])
    close([one.patches.flatten(1) for one in scores], arrays["patch_map"])
    close([one.picture for one in scores], arrays["score"])
    close(maps, arrays["smoothed"])


def close(ours: list[torch.Tensor], theirs: np.ndarray) -> None:
    np.testing.assert_allclose(torch.cat(ours).numpy(), theirs, atol=vectors.TOLERANCE, rtol=0)
