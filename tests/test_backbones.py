"""What every backbone keeps to, whatever its make: the embedded TIPS and a small CLIP stand for the two kinds there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.inference.load import Loader
from tests.made import gradient
from tests.tiny_clip import tiny_clip

SENTENCES = ("a photo of a damaged metal plate.", "flawless", "broken cookie, close up")


@pytest.fixture(scope="module", params=["tips", "clip"])
def backbone(request) -> Backbone:
    return Loader().backbone(device="cpu") if request.param == "tips" else tiny_clip()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def images(count: int = 3) -> Sequence[np.ndarray]:
    return [gradient(60 + 7 * seed, 50 + seed, seed) for seed in range(count)]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def differ(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return not torch.allclose(ours, theirs, atol=1e-3)


def test_it_says_what_it_is(backbone):
    assert backbone.name
    assert backbone.sha256 == backbone.sha256.lower()
    assert 0 < backbone.temperature < 1
    assert min(backbone.width, backbone.depth, backbone.text_width, backbone.text_depth) > 1
    assert backbone.image_size % backbone.patch == 0
    assert backbone.device == torch.device("cpu")


def test_pictures_of_any_size_come_to_one_batch(backbone):
    size = 3 * backbone.patch
    batch = backbone.pictures(images(), size)
    assert batch.shape == (3, 3, size, size)
    assert batch.dtype == torch.float32
    fits = gradient(size, size)
    close(backbone.pictures([*images(2), fits], size)[2:], backbone.pictures([fits], size))
    tiny, huge = np.zeros((1, 1, 3), np.uint8), np.full((900, 40, 3), 255, np.uint8)
    black, white = backbone.pictures([tiny, huge], size)
    assert black.std(dim=(1, 2)).max() < 1e-6
    assert white.std(dim=(1, 2)).max() < 1e-6
    assert (white > black).all()


def test_it_sees_patches_layers_and_values_of_a_batch_as_of_its_pictures(backbone):
    layers = (1, backbone.depth - 1, backbone.depth)
    x = backbone.pictures(images(), backbone.image_size)
    together = backbone.encode_image(x, layers, values=1)
    for index in range(len(x)):
        alone = backbone.encode_image(x[index : index + 1], layers, values=1)
        close(alone.globals[0], together.globals[index])
        close(alone.patches[0], together.patches[index])
        close(alone.values[0], together.values[index])
        for layer in layers:
            close(alone.layers[layer][0], together.layers[layer][index])


def test_it_sees_grids_of_any_shape_and_says_which(backbone):
    full = backbone.pictures(images(), 4 * backbone.patch)
    for high, wide in ((4, 4), (2, 4), (3, 1)):
        x = full[:, :, : high * backbone.patch, : wide * backbone.patch]
        found = backbone.encode_image(x, (1,), values=1)
        assert found.grid == (high, wide)
        for features in (found.patches, found.layers[1], found.values):
            assert features.shape == (3, high * wide, backbone.width)
        assert found.globals.shape[::2] == (3, backbone.width)


def test_the_last_layer_is_the_patches_and_earlier_ones_are_not(backbone):
    x = backbone.pictures(images(), backbone.image_size)
    found = backbone.encode_image(x, range(1, backbone.depth + 1))
    assert sorted(found.layers) == list(range(1, backbone.depth + 1))
    close(found.layers[backbone.depth], found.patches)
    assert differ(found.layers[1], found.layers[2])


def test_what_was_not_asked_for_is_not_there_and_what_was_changes_nothing_else(backbone):
    x = backbone.pictures(images(), backbone.image_size)
    plain, more = backbone.encode_image(x), backbone.encode_image(x, (1,), values=1)
    assert plain.values is None
    assert not plain.layers
    close(plain.patches, more.patches)
    close(plain.globals, more.globals)
    assert differ(more.values, more.patches)


def test_a_sentence_gives_in_a_batch_what_it_gives_alone(backbone):
    together = backbone.encode_text(SENTENCES)
    assert together.shape == (3, backbone.width)
    for index, sentence in enumerate(SENTENCES):
        close(backbone.encode_text([sentence])[0], together[index])
    assert differ(together[0], together[1])


def test_a_prompt_in_front_is_read_by_every_sentence(backbone):
    prompt = torch.randn(4, backbone.text_width)
    with_it = backbone.encode_text(SENTENCES, prompt)
    assert with_it.shape == (3, backbone.width)
    assert all(differ(*pair) for pair in zip(with_it, backbone.encode_text(SENTENCES), strict=True))
    close(backbone.encode_text(SENTENCES[:1], prompt), with_it[:1])


def test_embedded_words_are_what_a_sentence_is_made_of(backbone):
    for sentence in SENTENCES:
        words = backbone.embed_words(sentence)
        assert words.shape[1:] == (backbone.text_width,)
        close(backbone.encode_prompts(words.unsqueeze(0)), backbone.encode_text([sentence]))
        prompt = torch.randn(3, backbone.text_width)
        close(
            backbone.encode_prompts(torch.cat([prompt, words]).unsqueeze(0)), backbone.encode_text([sentence], prompt)
        )


def test_the_same_words_have_the_same_tokens_wherever_they_stand(backbone):
    once, twice = backbone.embed_words("flaw"), backbone.embed_words("flaw flaw")
    assert torch.equal(twice, torch.cat([once, once]))


def test_prompts_of_a_batch_do_not_see_each_other(backbone):
    prompts = torch.randn(3, 5, backbone.text_width)
    deep = torch.randn(backbone.text_depth - 1, 2, backbone.text_width)
    together = backbone.encode_prompts(prompts, deep)
    assert together.shape == (3, backbone.width)
    for index in range(3):
        close(backbone.encode_prompts(prompts[index : index + 1], deep)[0], together[index])


def test_deep_tokens_are_read_from_the_second_block_on_and_hide_what_was_there(backbone):
    """With n tokens replaced in block 2, what these n were matters only through what others saw of them in block 1."""
    prompts = torch.randn(1, 5, backbone.text_width)
    none = torch.zeros(0, 2, backbone.text_width)
    close(backbone.encode_prompts(prompts, none), backbone.encode_prompts(prompts))
    outcomes = [backbone.encode_prompts(prompts)]
    deep = torch.randn(backbone.text_depth - 1, 2, backbone.text_width)
    outcomes += [backbone.encode_prompts(prompts, deep[:count]) for count in range(1, len(deep) + 1)]
    assert all(differ(*pair) for pair in pairwise(outcomes))


def test_prompts_can_be_learned_through_it(backbone):
    prompts = torch.randn(2, 5, backbone.text_width, requires_grad=True)
    with torch.enable_grad():
        backbone.encode_prompts(prompts).square().sum().backward()
    assert (prompts.grad.abs().sum(dim=2) > 0).all()
