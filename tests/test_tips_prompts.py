"""TIPS's prompts and its value stream against what plain torch makes of the same weights."""

from __future__ import annotations

import pytest
import torch

from edge_agent.backbones.tips.model import Tips, sinusoids
from edge_agent.inference.load import Loader
from tests.made import gradient

SENTENCES = ("a photo of a damaged metal plate.", "flawless", "broken")


@pytest.fixture(scope="module")
def tips() -> Tips:
    return Loader().backbone(device="cpu")


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def attention(block, x: torch.Tensor) -> torch.Tensor:
    """A text block's, of (B, L, D), head by head."""
    heads = block.attn.num_heads
    q, k, v = (block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
    q, k, v = (part.unflatten(2, (heads, -1)).movedim(2, 1) for part in (q, k, v))  # (B, h, L, d)
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return block.attn.out_proj((weights @ v).movedim(1, 2).flatten(2))


def recomputed(tips: Tips, prompts: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
    """Prompts (B, L, D) through the text tower; deep[k] stands first at block k + 2, counted from 1."""
    x = prompts + sinusoids(prompts.shape[1], prompts.shape[2])
    for number, block in enumerate(tips.text.transformer.resblocks, start=1):
        if 2 <= number < 2 + len(deep):
            x[:, : deep.shape[1]] = deep[number - 2]
        x = x + attention(block, x)
        x = x + block.mlp.c_proj(block.mlp.c_fc(block.ln_2(x)).clamp(min=0))
    return tips.text.ln_final(x).mean(dim=1)


def test_prompts_of_a_sentences_words_are_the_sentence(tips):
    for sentence in SENTENCES:
        close(tips.encode_prompts(tips.embed_words(sentence).unsqueeze(0)), tips.encode_text([sentence]))


def test_words_come_scaled_without_positions_and_without_padding(tips):
    ids, paddings = tips.tokenizer(["flawless"])
    words = tips.embed_words("flawless")
    assert len(words) == int((paddings == 0).sum())
    close(words, tips.text.token_embedding.weight[ids[0, : len(words)]] * tips.width**0.5)


def test_no_words_are_no_tokens(tips):
    assert tips.embed_words("").shape == (0, tips.text_width)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_deep_tokens_stand_where_the_protocol_says(tips, blocks):
    prompts = torch.randn(2, 6, tips.text_width)
    deep = torch.randn(blocks, 3, tips.text_width)
    kept = prompts.clone()
    close(tips.encode_prompts(prompts, deep), recomputed(tips, prompts, deep))
    assert torch.equal(prompts, kept), "the caller's prompts are the caller's"


def test_one_deep_token_more_than_the_tower_has_blocks_is_never_read(tips):
    prompts, deep = torch.randn(1, 4, tips.text_width), torch.randn(tips.text_depth, 2, tips.text_width)
    close(tips.encode_prompts(prompts, deep), tips.encode_prompts(prompts, deep[:-1]))


def test_the_value_stream_is_attention_of_values_to_values_beside_the_ordinary_one(tips):
    x = tips.pictures([gradient(100, 140, seed) for seed in range(2)], 64)
    vit = tips.vision.vit
    y, grid, _ = tips.vision._embed(x)
    ordinary = y
    for number, block in enumerate(vit.blocks, start=1):
        ordinary = tips.vision._compared(ordinary, grid, number)
        heads = block.attn.num_heads
        v = block.attn.qkv(block.norm1(ordinary)).chunk(3, dim=-1)[2]
        v = v.unflatten(2, (heads, -1)).movedim(2, 1)  # (B, h, L, d)
        weights = (v @ v.mT / v.shape[-1] ** 0.5).softmax(dim=-1)
        y = y + block.ls1.gamma * block.attn.proj((weights @ v).movedim(1, 2).flatten(2))
        ordinary = block(ordinary)
    found = tips.encode_image(x, values=1)
    assert found.grid == grid
    close(found.values, vit.norm(y)[:, 2:])
    close(found.patches, vit.norm(ordinary)[:, 2:])
