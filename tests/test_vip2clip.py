"""ViP2-CLIP on any backbone: what it finds, what it passes over, what it keeps, what it refuses, and that it can be fitted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.detectors.methods import restore
from edge_agent.detectors.vip2clip import TEMPERATURE, ViP2Clip, picture_logits
from edge_agent.detectors.vip2clip_parts import HEADS, Perception
from edge_agent.errors import CheckpointError
from edge_agent.importing.vip2clip import END, vip2clip_from_published
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
from trainer.fit.losses import vip2clip_losses


@pytest.fixture(scope="module")
def embedded():
    return Loader().backbone()


@pytest.fixture(scope="module")
def clip():
    """Its tokens (16 numbers) are shorter than its features (24)."""
    return tiny_clip()


@pytest.fixture(params=["embedded", "clip"])
def backbone(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def shown() -> list[synthesis.Sample]:
    return procedural(16)


def drawn(backbone, **settings) -> ViP2Clip:
    """The same at every call, its text features far enough apart to tell patches from each other."""
    torch.manual_seed(0)
    return spread_out(ViP2Clip(backbone, **settings))


def test_scores_and_patches_are_in_their_range_and_differ_from_picture_to_picture(backbone, shown):
    method = drawn(backbone)
    with torch.no_grad():
        found = method(seen(method, shown))
        scores = method.scores(found)
    side = SIDE // backbone.patch
    assert scores.picture.shape == (16,)
    assert scores.patches.shape == (16, side, side)
    assert found.cosines.shape == (16, len(method.layers), 2, side, side)
    torch.testing.assert_close(found.text.norm(dim=2), torch.ones(16, 2))
    for tensor in (scores.picture, scores.patches, found.probability):
        assert 0 <= tensor.min() < tensor.max() <= 1
    assert (found.text[0] - found.text[1]).abs().max() > 1e-4  # prompts are made for each picture


def test_a_batch_gives_what_its_pictures_give_alone(backbone, shown):
    method = drawn(backbone)
    features = seen(method, shown[:4])
    with torch.no_grad():
        together = method.scores(method(features))
        alone = [method.scores(method(rows(features, slice(number, number + 1)))) for number in range(4)]
    torch.testing.assert_close(torch.cat([one.picture for one in alone]), together.picture, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([one.patches for one in alone]), together.patches, atol=1e-5, rtol=0)


def test_a_picture_is_judged_by_its_most_anomalous_patches_of_every_layer(clip, shown):
    method = drawn(clip, layers=(1, 3), top=5)
    with torch.no_grad():
        found = method(seen(method, shown[:1]))
        score = method.scores(found).picture
    pairs = []
    for normal, anomalous in found.cosines[0].flatten(2).tolist():  # one layer's
        worst = sorted(zip(normal, anomalous, strict=True), key=lambda pair: pair[0] - pair[1])[:5]
        pairs += worst
    expected = (torch.tensor(pairs).mean(dim=0) / TEMPERATURE).softmax(dim=0)[1]
    assert float(score) == pytest.approx(float(expected), abs=1e-6)


def test_masked_patches_are_neither_scored_nor_shown(backbone, shown):
    method = drawn(backbone, top=4)
    with torch.no_grad():
        found = method(seen(method, shown[:3]))
    keep = torch.ones_like(found.probability[:, 0], dtype=torch.bool)
    keep[0].view(-1)[found.probability[0].mean(dim=0).flatten().topk(20).indices] = False
    keep[2] = False
    whole, masked = method.scores(found), method.scores(found, keep)
    assert masked.picture[0] < whole.picture[0]
    assert masked.picture[1] == pytest.approx(float(whole.picture[1]), abs=1e-6)
    assert masked.picture[2] == 0
    assert not masked.patches[~keep].any()
    assert torch.equal(masked.patches[keep], whole.patches[keep])


def test_where_fewer_patches_than_the_top_are_kept_only_they_count():
    cosines = torch.rand(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    keep = torch.zeros(2, 4, 5, dtype=torch.bool)
    keep[:, 1, 2:4] = True
    logits = picture_logits(cosines, 50, keep)
    torch.testing.assert_close(logits, cosines[..., 1, 2:4].mean(dim=(1, 3)) / TEMPERATURE)
    assert not picture_logits(cosines, 50, torch.zeros_like(keep)).any()
    torch.testing.assert_close(picture_logits(cosines, 50), picture_logits(cosines, 50, torch.ones_like(keep)))


def test_patches_far_more_anomalous_than_the_temperature_are_still_told_apart():
    """Their probabilities are all 1 in fp32, their cosines are not."""
    anomalous = torch.tensor([0.90, 0.95, 0.99])
    cosines = torch.stack([-anomalous, anomalous]).view(1, 1, 2, 1, 3)
    assert float(picture_logits(cosines, 1)[0, 1]) == pytest.approx(0.99 / TEMPERATURE, rel=1e-6)


def test_attention_is_what_projecting_every_patch_gives():
    torch.manual_seed(0)
    width, layers = 32, 2
    perception = Perception(width)
    text, patches = F.normalize(torch.randn(3, 2, width), dim=2), F.normalize(torch.randn(3, layers, 7, width), dim=3)
    for layer in range(layers):
        query = perception.query(text).view(3, 2, HEADS, -1).transpose(1, 2)  # (B, h, 2, d)
        key, value = (
            projection(patches[:, layer]).view(3, 7, HEADS, -1).transpose(1, 2)
            for projection in (perception.key, perception.value)
        )
        heads = F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)
        expected = F.normalize(perception.out(heads), dim=2)
        torch.testing.assert_close(perception(text, patches)[:, layer], expected, atol=1e-6, rtol=0)


def test_gradients_reach_every_parameter_and_not_the_backbone(backbone, shown):
    method = drawn(backbone).train()
    masks, bad = truth(shown)
    parts = vip2clip_losses(method, method(seen(method, shown)), masks, bad)
    assert_gradients_reach_all_but_the_backbone(method, parts)


def test_each_loss_alone_reaches_prompts_and_attention(embedded, shown):
    masks, bad = truth(shown)
    for part in ("map", "picture"):
        method = drawn(embedded).train()
        vip2clip_losses(method, method(seen(method, shown)), masks, bad)[part].backward()
        assert method.prompts.state.grad.abs().max() > 0
        assert method.fgp.out.weight.grad.abs().max() > 0


@pytest.mark.parametrize("told", [("map",), ("picture",), ("map", "picture")])
def test_some_dozen_steps_of_adam_at_the_published_rates_lower_what_they_are_told_to(embedded, shown, told):
    torch.manual_seed(0)
    method = ViP2Clip(embedded).train()
    features, (masks, bad) = seen(method, shown), truth(shown)
    groups = [
        {"params": method.prompts.parameters(), "lr": 1e-3},
        {"params": method.fgp.parameters(), "lr": 1e-5},
    ]
    optimizer = torch.optim.Adam(groups)
    lost = []
    for _ in range(36):
        parts = vip2clip_losses(method, method(features), masks, bad)
        loss = torch.stack([parts[name] for name in told]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lost.append(float(loss.detach()))
    assert lost[-1] < lost[0]


def test_half_precision_features_give_fp32_scores_near_those_of_fp32(backbone, shown):
    method = drawn(backbone)
    features = seen(method, shown)
    with torch.no_grad():
        whole = method.scores(method(features))
        for dtype, apart in ((torch.float16, 5e-3), (torch.bfloat16, 3e-2)):
            layers = {number: layer.to(dtype) for number, layer in features.layers.items()}
            halved = dataclasses.replace(features, globals=features.globals.to(dtype), layers=layers)
            with torch.autocast("cpu", torch.bfloat16):  # nothing of the method follows it
                half = method.scores(method(halved))
            assert half.picture.dtype == half.patches.dtype == torch.float32
            torch.testing.assert_close(half.picture, whole.picture, atol=apart, rtol=0)
            torch.testing.assert_close(half.patches, whole.patches, atol=apart, rtol=0)


def test_features_of_any_length_down_to_none_are_read_without_a_nan(clip, shown):
    method = drawn(clip)
    features = seen(method, shown[:2])
    with torch.no_grad():
        expected = method(features).cosines
        for factor in (0.0, 1e-3, 1e3):
            layers = {number: layer * factor for number, layer in features.layers.items()}
            scaled = dataclasses.replace(features, globals=features.globals * factor, layers=layers)
            cosines = method(scaled).cosines
            assert cosines.isfinite().all()
            if factor:
                torch.testing.assert_close(cosines, expected, atol=1e-4, rtol=0)


def test_a_checkpoint_brings_back_the_same_to_the_bit(backbone, shown, tmp_path):
    method = drawn(backbone, layers=(1, 2), top=7, state=5, shared=2)
    path = tmp_path / "prompts.safetensors"
    save_checkpoint(Checkpoint(header(method), method.tensors()), path)
    loaded = load_checkpoint(path)
    again = restore(backbone, loaded.header, loaded.tensors, "plate")
    assert isinstance(again, ViP2Clip)
    assert again.settings() == method.settings() == {"layers": [1, 2], "top": 7}
    features = seen(method, shown[:2])
    with torch.no_grad():
        ours, theirs = method.scores(method(features)), again.scores(again(features))
    assert torch.equal(ours.picture, theirs.picture)
    assert torch.equal(ours.patches, theirs.patches)


def test_the_line_reads_pictures_of_any_size_with_it(embedded, tmp_path):
    path = tmp_path / "prompts.safetensors"
    method = drawn(embedded)
    save_checkpoint(Checkpoint(header(method), method.tensors()), path)
    detector = PromptDetector(embedded, load_checkpoint(path), "plate")
    assert_reads_pictures_of_any_size(detector)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda header, tensors: header.update(layers=[1, 99]), r"layers \(1, 99\).*has layers 1 to 6"),
        (lambda header, tensors: header.update(top=0), "top 0"),
        (lambda header, tensors: header.pop("layers"), "damaged"),
        (lambda header, tensors: header.update(layers=None), "damaged"),
        (lambda header, tensors: tensors.pop("word_normal"), "damaged"),
        (lambda header, tensors: tensors.pop("fgp.key.weight"), "damaged.*fgp.key.weight"),
        (lambda header, tensors: tensors.update({"prompts.bias": torch.zeros(3)}), "damaged.*prompts.bias"),
        (lambda header, tensors: tensors.update({"prompts.shared": torch.zeros(())}), "damaged"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_an_error_that_says_so(embedded, change, error):
    method = drawn(embedded)
    told, tensors = header(method), dict(method.tensors())
    change(told, tensors)
    with pytest.raises(CheckpointError, match=error):
        PromptDetector(embedded, Checkpoint(told, tensors, path=Path("prompts.safetensors")), "plate")


def test_words_of_other_lengths_make_prompts_of_other_lengths(embedded, shown):
    words = (torch.randn(1, embedded.text_width), torch.randn(4, embedded.text_width))
    method = drawn(embedded, words=words)
    with torch.no_grad():
        found = method(seen(method, shown[:2]))
        normal, anomalous = method.prompts(torch.zeros(2, embedded.width), words)
    assert found.cosines.isfinite().all()
    assert (normal.shape[1], anomalous.shape[1]) == (9 + 1 + 3, 9 + 4 + 3)


def test_a_tower_of_few_blocks_is_looked_at_once_a_block(clip):
    assert clip.depth == 3
    assert ViP2Clip(clip).layers == (1, 2, 3)


def test_a_backbone_that_no_heads_can_share_is_refused():
    class Odd(nn.Module):
        name, width, depth, text_width, device = "odd", 100, 12, 100, torch.device("cpu")

    with pytest.raises(CheckpointError, match="odd: its features of 100 numbers"):
        ViP2Clip(Odd())  # type: ignore[arg-type]


def published(clip, dtype: torch.dtype = torch.float32) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Both state dicts with every name that the authors' training writes, and words of their own."""
    torch.manual_seed(1)
    D, W, state, shared = clip.width, clip.text_width, 4, 2
    learner = {
        "cls_ctx": torch.randn(shared, W),
        "ctx_pos": torch.randn(state, W),
        "ctx_neg": torch.randn(state, W),
        "cls_prompter.bias": torch.randn(1, D),
        "token_middle_pos": torch.randn(1, 1, W),
        "token_middle_neg": torch.randn(1, 1, W),
    }
    for index in range(shared):
        first, last = nn.Linear(D, D // 2).state_dict(), nn.Linear(D // 2, W).state_dict()
        learner |= {f"cls_prompter.fc.{index}.0.{name}": value for name, value in first.items()}
        learner |= {f"cls_prompter.fc.{index}.2.{name}": value for name, value in last.items()}
    for one in ("pos", "neg"):
        learner[f"token_prefix_{one}"] = torch.randn(1, 1, W)
        learner[f"token_suffix_{one}"] = torch.cat([clip.embed_words(END)[None], torch.randn(1, 60, W)], dim=1)
        learner[f"tokenized_prompts_{one}"] = torch.zeros(1, 77, dtype=torch.int)
    fgp = {"prompt_temp_l1": torch.tensor(2.66)}
    for name in ("q_proj_pre", "k_proj_pre_1", "v_proj_pre_1", "proj_post_t"):
        fgp |= {f"{name}.weight": torch.randn(D, D, 1), f"{name}.bias": torch.randn(D)}
    halved = {name: value.to(dtype) if value.is_floating_point() else value for name, value in learner.items()}
    return halved, fgp


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_prompts_as_published_come_with_all_their_numbers(clip, dtype):
    learner, fgp = published(clip, dtype)
    method = vip2clip_from_published(clip, learner, fgp)
    assert all(tensor.dtype == torch.float32 for tensor in method.state_dict().values())
    assert torch.equal(method.word_normal, learner["token_middle_pos"][0].float())
    assert torch.equal(method.word_anomalous, learner["token_middle_neg"][0].float())
    assert torch.equal(method.prompts.state[0], learner["ctx_pos"].float())
    assert torch.equal(method.prompts.state[1], learner["ctx_neg"].float())
    assert torch.equal(method.fgp.value.bias, fgp["v_proj_pre_1.bias"])
    assert sum(parameter.numel() for parameter in method.parameters()) == sum(
        value.numel()
        for name, value in {**learner, **fgp}.items()
        if not name.startswith("token") and name not in ("prompt_temp_l1", "k_proj_pre_1.bias")
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda learner, fgp: learner.pop("ctx_neg"), "ctx_neg is missing"),
        (lambda learner, fgp: learner.pop("token_middle_pos"), "token_middle_pos is missing"),
        (lambda learner, fgp: learner.pop("cls_prompter.fc.1.2.bias"), r"cls_prompter.fc.1.2.bias is missing"),
        (lambda learner, fgp: fgp.pop("proj_post_t.weight"), "proj_post_t.weight is missing"),
        (lambda learner, fgp: fgp.update(gate=torch.ones(1)), "gate is unknown"),
        (lambda learner, fgp: learner.update(ctx_neg=torch.ones(9, 16)), r"ctx_neg is \(9, 16\) instead of \(4, 16\)"),
        (lambda learner, fgp: learner.update(ctx_pos=torch.ones(())), r"ctx_pos is \(\) instead"),
        (lambda learner, fgp: learner.update(ctx_pos=torch.ones(0, 16)), r"ctx_pos is \(0, 16\) instead"),
        (
            lambda learner, fgp: fgp.update({"q_proj_pre.weight": torch.ones(24, 24)}),
            r"q_proj_pre.weight is \(24, 24\)",
        ),
        (lambda learner, fgp: learner.pop("token_suffix_pos"), "end token"),
        (lambda learner, fgp: learner["token_suffix_pos"].neg_(), "end token"),
        (lambda learner, fgp: learner.clear(), "ctx_pos is missing; ctx_neg is missing.*and . more"),
    ],
)
def test_what_is_not_published_prompts_for_this_clip_is_named(clip, change, error):
    learner, fgp = published(clip)
    change(learner, fgp)
    with pytest.raises(CheckpointError, match=error):
        vip2clip_from_published(clip, learner, fgp)


def test_published_prompts_are_refused_on_a_backbone_without_clips_tokens(clip, embedded):
    with pytest.raises(CheckpointError, match="no ViP2-CLIP prompts for embedded"):
        vip2clip_from_published(embedded, *published(clip))
