"""CoPS on any backbone: what it finds, what it passes over, what it draws, what it keeps, what it refuses, and that it can be fitted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from edge_agent.backbones.backbone import ImageFeatures
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.detectors.cops import DRAWS, Cops, samples
from edge_agent.detectors.cops_parts import distances, pooled, scaled
from edge_agent.detectors.methods import restore
from edge_agent.errors import CheckpointError
from edge_agent.importing.cops import DEEP_BLOCKS, cops_from_published, published_shapes
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from tests.learned import (
    SIDE,
    assert_gradients_reach_all_but_the_backbone,
    assert_reads_pictures_of_any_size,
    header,
    procedural,
    rows,
    seen,
    spread_out,
    truth,
)
from tests.tiny_clip import tiny_clip
from trainer import synthesis
from trainer.fit.losses import cops_losses


@pytest.fixture(scope="module")
def embedded():
    return Loader().backbone()


@pytest.fixture(scope="module")
def clip():
    """Its tokens are as long as its features (24 numbers)."""
    return tiny_clip(text_width=24)


@pytest.fixture(params=["embedded", "clip"])
def backbone(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def shown() -> list[synthesis.Sample]:
    return procedural(14)


def fresh(backbone, **settings) -> Cops:
    """The same at every call, its prompts far enough apart to tell patches from each other."""
    torch.manual_seed(0)
    return spread_out(Cops(backbone, **settings))


def scored(method: Cops, features: ImageFeatures, keep: torch.Tensor | None = None):
    with torch.no_grad():
        return method.scores(method(features), keep)


def test_scores_and_patches_are_in_their_range_and_differ_from_picture_to_picture(backbone, shown):
    method = fresh(backbone)
    with torch.no_grad():
        found = method(seen(method, shown[:4]))
        scores = method.scores(found)
    side = SIDE // backbone.patch
    assert scores.picture.shape == (4,)
    assert scores.patches.shape == (4, side, side)
    assert found.prototypes.shape == (4, 2, 6, backbone.width)
    assert found.distances.shape == (4, 2, side, side)
    assert found.vae is None
    torch.testing.assert_close(found.text.norm(dim=2), torch.ones(4, 2))
    for tensor in (scores.picture, scores.patches, found.probability):
        assert 0 <= tensor.min() < tensor.max() <= 1
    assert 0 <= found.distances.min() < found.distances.max() <= 2
    assert (found.text[0] - found.text[1]).abs().max() > 1e-5  # prompts are made for each picture


def test_a_batch_gives_what_its_pictures_give_alone(backbone, shown):
    """Fourteen pictures have 280 prompts, more than the text tower gets in one run."""
    method = fresh(backbone)
    features = seen(method, shown)
    together = scored(method, features)
    for number in (0, 5, 13):
        alone = scored(method, rows(features, slice(number, number + 1)))
        torch.testing.assert_close(alone.picture[0], together.picture[number], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.patches[0], together.patches[number], atol=1e-5, rtol=0)


def test_a_patch_counts_by_its_distances_and_a_picture_by_itself_and_its_worst_patch(clip, shown):
    method = fresh(clip, alpha=0.3, beta=0.6)
    with torch.no_grad():
        found = method(seen(method, shown[:1]))
        scores = method.scores(found)
    weighted = []
    normal, anomalous = found.distances[0].flatten(1).tolist()
    for probability, from_normal, from_anomalous in zip(
        found.probability.flatten().tolist(), normal, anomalous, strict=True
    ):
        near = [
            (x - min(all_)) / (max(all_) - min(all_))
            for x, all_ in ((from_normal, normal), (from_anomalous, anomalous))
        ]
        weighted.append(probability * (0.3 * near[0] + 0.7 * (1 - near[1])))
    assert scores.patches.flatten().tolist() == pytest.approx(weighted, abs=1e-5)
    whole = found.picture[0].softmax(dim=0)[1]
    assert float(scores.picture) == pytest.approx(0.6 * float(whole) + 0.4 * max(weighted), abs=1e-5)


def test_masked_patches_are_neither_scored_nor_shown_nor_measured_against(backbone, shown):
    method = fresh(backbone, beta=0.5)
    with torch.no_grad():
        found = method(seen(method, shown[:3]))
    whole = method.scores(found)
    keep = torch.ones_like(whole.patches, dtype=torch.bool)
    for distance in found.distances[0].flatten(1):  # of the first picture, the extremes by which others are scaled
        keep[0].view(-1)[torch.stack([distance.argmin(), distance.argmax()])] = False
    keep[2] = False
    masked = method.scores(found, keep)
    assert not masked.patches[~keep].any()
    assert masked.patches.isfinite().all()
    assert torch.equal(masked.patches[1], whole.patches[1])
    torch.testing.assert_close(masked.picture[2], found.picture[2].softmax(dim=0)[1] / 2)
    near = []
    for distance in found.distances[0]:
        kept = distance[keep[0]]
        near.append((kept - kept.min()) / (kept.max() - kept.min()))
    expected = found.probability[0][keep[0]] * (method.alpha * near[0] + (1 - method.alpha) * (1 - near[1]))
    torch.testing.assert_close(masked.patches[0][keep[0]], expected)
    assert not torch.allclose(whole.patches[0][keep[0]], expected)


def test_distances_that_are_all_the_same_weigh_nothing_and_are_no_nan():
    assert not scaled(torch.full((2, 2, 3, 3), 0.7)).any()


def test_pooling_counts_what_lies_beyond_the_edge_as_zeros():
    patches = torch.arange(1.0, 10).view(1, 9, 1)
    means = pooled(patches, (3, 3), 3).flatten().tolist()
    assert means[4] == pytest.approx(45 / 9)
    assert means[0] == pytest.approx((1 + 2 + 4 + 5) / 9)
    assert pooled(patches, (3, 3), 1).equal(patches)


def test_a_distance_is_to_the_nearest_prototype_of_its_state():
    prototypes = torch.tensor([[[[2.0, 0.0], [0.0, 3.0]], [[-1.0, 0.0], [-1.0, 0.0]]]])  # (1, 2, 2, 2)
    found = distances(torch.tensor([[[5.0, 0.0], [1.0, 1.0]]]), prototypes)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1 - 0.5**0.5], [2.0, 1 + 0.5**0.5]]]))


def test_the_draws_are_fixed_by_their_seed_whatever_else_is_drawn(clip, shown):
    torch.manual_seed(1)
    first = Cops(clip, seed=7)
    torch.manual_seed(2)
    again, other = Cops(clip, seed=7), Cops(clip, seed=8)
    assert torch.equal(first.draws, again.draws)
    assert not torch.equal(first.draws, other.draws)
    assert torch.equal(first.draws, samples(7, clip.width))
    assert first.draws.shape == (DRAWS, clip.width)
    method = fresh(clip)
    features = seen(method, shown[:2])
    torch.manual_seed(3)
    once = scored(method, features)
    torch.manual_seed(4)
    assert torch.equal(scored(method, features).picture, once.picture)


def test_in_training_each_picture_has_a_draw_of_its_own_from_the_global_generator(clip, shown):
    method = fresh(clip).train()
    features = seen(method, shown[:2])
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found = method(features)
        assert found.vae is not None
        assert found.vae.decoded.shape == (2, clip.width)
        texts.append(found.text.detach())
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_what_is_held_changes_nothing_and_is_forgotten_when_fitting_goes_on(backbone, shown):
    method = fresh(backbone)
    features = seen(method, shown[:2])
    before = scored(method, features)
    with torch.no_grad():
        method.precompute()
    assert torch.equal(scored(method, features).picture, before.picture)
    with torch.no_grad():
        method.decoder[2].bias.add_(torch.linspace(-1, 1, backbone.width))
    assert torch.equal(scored(method, features).picture, before.picture)  # still what was held
    method.train().eval()
    assert not torch.equal(scored(method, features).picture, before.picture)


def test_gradients_reach_every_parameter_and_not_the_backbone(backbone, shown):
    method = fresh(backbone).train()
    masks, bad = truth(shown)
    parts = cops_losses(method, method(seen(method, shown)), masks, bad)
    assert_gradients_reach_all_but_the_backbone(method, parts)


@pytest.mark.parametrize(
    ("part", "reached", "spared"),
    [
        ("picture", ("context", "deep", "decoder", "encoder"), ("queries", "extractor")),
        ("map", ("context", "deep", "decoder", "encoder"), ("queries", "extractor")),
        ("normal", ("queries", "extractor"), ("context", "deep", "decoder", "encoder")),
        ("anomalous", ("queries", "extractor"), ("context", "deep", "decoder", "encoder")),
        ("code", ("encoder",), ("context", "deep", "decoder", "queries", "extractor")),
        ("reconstruction", ("encoder", "decoder"), ("context", "deep", "queries", "extractor")),
    ],
)
def test_prototypes_are_fitted_by_distances_alone_and_prompts_by_probabilities(clip, shown, part, reached, spared):
    method = fresh(clip).train()
    cops_losses(method, method(seen(method, shown)), *truth(shown), reconstruction=True)[part].backward()
    touched = {
        name.split(".")[0]
        for name, one in method.named_parameters()
        if one.grad is not None and one.grad.abs().max() > 0
    }
    assert touched >= set(reached)
    assert not touched & set(spared)


def test_some_dozen_steps_of_adam_at_the_published_rate_lower_the_loss(embedded, shown):
    torch.manual_seed(0)
    method = Cops(embedded).train()
    features, (masks, bad) = seen(method, shown), truth(shown)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3, betas=(0.5, 0.999))
    lost = []
    for _ in range(20):
        parts = cops_losses(method, method(features), masks, bad)
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lost.append({"all": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}})
    for name in ("all", "normal", "anomalous"):
        assert lost[-1][name] < lost[0][name], name


def test_half_precision_features_give_fp32_scores_near_those_of_fp32(backbone, shown):
    method = fresh(backbone)
    features = seen(method, shown[:4])
    whole = scored(method, features)
    assert features.values is not None
    for dtype, apart in ((torch.float16, 2e-2), (torch.bfloat16, 6e-2)):
        halved = dataclasses.replace(features, globals=features.globals.to(dtype), values=features.values.to(dtype))
        half = scored(method, halved)
        assert half.picture.dtype == half.patches.dtype == torch.float32
        torch.testing.assert_close(half.picture, whole.picture, atol=apart, rtol=0)
        assert (half.patches - whole.patches).abs().mean() < apart


def test_features_of_nothing_are_read_without_a_nan(clip, shown):
    method = fresh(clip)
    features = seen(method, shown[:2])
    assert features.values is not None
    for factor in (0.0, 1e-3, 1e3):
        scores = scored(
            method,
            dataclasses.replace(features, globals=features.globals * factor, values=features.values * factor),
        )
        assert scores.picture.isfinite().all()
        assert scores.patches.isfinite().all()


def test_a_checkpoint_brings_back_the_same_to_the_bit(backbone, shown, tmp_path):
    method = fresh(backbone, pool=3, alpha=0.35, beta=1.0, seed=11)
    path = tmp_path / "prompts.safetensors"
    save_checkpoint(Checkpoint(header(method), method.tensors()), path)
    loaded = load_checkpoint(path)
    again = restore(backbone, loaded.header, loaded.tensors, "plate")
    assert isinstance(again, Cops)
    assert again.settings() == method.settings() == {"pool": 3, "alpha": 0.35, "beta": 1.0, "draws_seed": 11}
    features = seen(method, shown[:2])
    ours, theirs = scored(method, features), scored(again.eval(), features)
    assert torch.equal(ours.picture, theirs.picture)
    assert torch.equal(ours.patches, theirs.patches)


def test_a_checkpoint_keeps_the_draws_themselves_and_only_tells_their_seed(clip, shown):
    """So that scores stay the same should another version of torch draw other numbers from that seed."""
    given = 3 * torch.randn(DRAWS, clip.width, generator=torch.Generator().manual_seed(1))
    method = fresh(clip, seed=None, draws=given)
    assert header(method)["draws_seed"] is None
    for told in (header(method), header(method) | {"draws_seed": 99}):
        again = restore(clip, told, method.tensors(), "plate")
        assert torch.equal(again.draws, given)
        features = seen(method, shown[:1])
        assert torch.equal(scored(again.eval(), features).picture, scored(method, features).picture)


def test_what_was_held_does_not_go_into_a_checkpoint(clip):
    method = fresh(clip)
    before = set(method.tensors())
    with torch.no_grad():
        method.precompute()
    assert set(method.tensors()) == before
    assert "draws" in before
    assert not {"stop", "biases"} & before


def test_a_restored_method_can_be_fitted_further(clip, shown):
    method = fresh(clip)
    again = restore(clip, header(method), method.tensors(), "plate").train()
    parts = cops_losses(again, again(seen(method, shown)), *truth(shown))
    torch.stack(list(parts.values())).sum().backward()
    assert again.encoder.mean.weight.grad.abs().max() > 0


def test_the_line_reads_pictures_of_any_size_with_it(embedded, tmp_path):
    path = tmp_path / "prompts.safetensors"
    method = fresh(embedded, beta=0.5)
    save_checkpoint(Checkpoint(header(method), method.tensors()), path)
    detector = PromptDetector(embedded, load_checkpoint(path), "plate")
    assert detector.info.name == "cops/embedded"
    assert_reads_pictures_of_any_size(detector)


def test_a_checkpoint_of_another_backbone_says_which_it_wants(embedded, clip, tmp_path):
    path = tmp_path / "prompts.safetensors"
    method = fresh(embedded)
    save_checkpoint(Checkpoint(header(method), method.tensors()), path)
    with pytest.raises(CheckpointError) as raised:
        PromptDetector(clip, load_checkpoint(path), "plate")
    said = str(raised.value)
    assert f"{path} was fitted for embedded ({embedded.sha256[:12]})" in said
    assert f"the station uses {clip.name}" in said
    assert "refit the prompts, or change the station's model" in said


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda header, tensors: header.update(pool=4), "pool 4.*must be odd"),
        (lambda header, tensors: header.update(alpha=1.5), "alpha 1.5"),
        (lambda header, tensors: header.update(beta=-1), "beta -1"),
        (lambda header, tensors: header.pop("beta"), "damaged"),
        (lambda header, tensors: header.update(pool=None), "damaged"),
        (lambda header, tensors: tensors.pop("draws"), "damaged.*draws"),
        (lambda header, tensors: tensors.pop("deep"), "damaged.*deep"),
        (lambda header, tensors: tensors.pop("encoder.mean.bias"), "damaged.*encoder.mean.bias"),
        (lambda header, tensors: tensors.update({"queries": torch.zeros(2, 6, 7)}), "damaged.*queries"),
        (lambda header, tensors: tensors.update({"gate": torch.zeros(1)}), "damaged.*gate"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_an_error_that_says_so(clip, change, error):
    method = fresh(clip)
    told, tensors = header(method), dict(method.tensors())
    change(told, tensors)
    with pytest.raises(CheckpointError, match=error):
        PromptDetector(clip, Checkpoint(told, tensors, path=Path("prompts.safetensors")), "plate")


def test_a_backbone_whose_tokens_are_shorter_than_its_features_is_refused():
    with pytest.raises(CheckpointError, match=r"clip:ViT-tiny-8: CoPS adds features of 24 numbers to tokens of 16"):
        Cops(tiny_clip())


def test_deep_prompts_go_no_deeper_than_the_text_tower(embedded, clip):
    assert clip.text_depth == 4
    assert Cops(clip).deep.shape == (3, 4, 24)
    assert len(Cops(embedded).deep) == min(DEEP_BLOCKS, embedded.text_depth - 1)


def published(clip) -> dict[str, torch.Tensor]:
    """The authors' checkpoint["prompt_learner"], its numbers drawn, with what their training leaves in it beside."""
    torch.manual_seed(1)
    own = Cops(clip, fittable=False).named_parameters()
    shapes = published_shapes({name: tuple(value.shape) for name, value in own})
    unused = {"token_prefix": (1, 1, 24), "vae_encoder.net.0.weight": (24, 24), "projector.weight": (3,)}
    return {name: torch.randn(shape) / 3 for name, shape in {**shapes, **unused}.items()}


def test_prompts_as_published_come_with_all_their_numbers(clip):
    theirs = published(clip)
    method = cops_from_published(clip, theirs, k=3, alpha=0.35, beta=1.0, seed=5)
    assert torch.equal(method.context[0], theirs["ctx_pos"][0, 0])
    assert torch.equal(method.context[1], theirs["ctx_neg"][0, 0])
    assert torch.equal(method.queries, torch.stack([theirs["t_n"], theirs["t_a"]]))
    assert torch.equal(method.deep[2], theirs["compound_prompts_text.2"].half().float())
    assert torch.equal(method.decoder[2].bias, theirs["vae_decoder.net.2.bias"])
    assert torch.equal(method.extractor.mlp[0].weight, theirs["extractor.mlp.c_fc.weight"])
    assert torch.equal(method.draws, samples(5, 24))
    assert method.settings() == {"pool": 3, "alpha": 0.35, "beta": 1.0, "draws_seed": 5}


def test_prompts_as_published_inspect_but_are_not_fitted_further(clip, shown):
    method = cops_from_published(clip, published(clip), k=5, alpha=0.26, beta=0.9)
    features = seen(method, shown[:1])
    assert 0 <= float(scored(method.eval(), features).picture) <= 1
    again = restore(clip, header(method), method.tensors(), "plate")
    assert torch.equal(scored(again.eval(), features).picture, scored(method, features).picture)
    with pytest.raises(CheckpointError, match=r"without the VAE's encoder.*fit afresh"):
        again.train()(features)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda theirs: theirs.pop("t_a"), "t_a is missing"),
        (lambda theirs: theirs.pop("vae_decoder.net.0.bias"), "vae_decoder.net.0.bias is missing"),
        (lambda theirs: theirs.update(gate=torch.ones(1)), "gate is not of CoPS"),
        (
            lambda theirs: theirs.update(ctx_neg=torch.ones(14, 24)),
            r"ctx_neg is \(14, 24\) where clip:ViT-tiny-8 wants",
        ),
        (lambda theirs: theirs.clear(), "is missing.* and .* more: take the authors' file, for the backbone"),
    ],
)
def test_what_is_not_published_prompts_for_this_clip_is_named(clip, change, error):
    theirs = published(clip)
    change(theirs)
    with pytest.raises(CheckpointError, match=f"not CoPS prompts for clip:ViT-tiny-8: .*{error}"):
        cops_from_published(clip, theirs, k=5, alpha=0.26, beta=0.9)


def test_the_backbone_is_no_part_of_what_is_fitted_or_kept(clip):
    method = Cops(clip)
    assert not any(isinstance(part, type(clip)) for part in method.modules())
    assert all(not name.startswith("backbone") for name in method.state_dict())
