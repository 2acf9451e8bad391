"""CLIP's towers give what open_clip's own calls give, where those exist, and what is said of the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from edge_agent.backbones.clip.model import Clip, require_supported
from edge_agent.backbones.clip.names import fault_of
from edge_agent.errors import CheckpointError
from tests.made import gradient
from tests.tiny_clip import CONFIG, tiny_clip

SENTENCES = ("a photo of a damaged metal plate.", "flawless", "", "a " * 100)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return tiny_clip()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def pictures(clip: Clip, size: int = 32, count: int = 2) -> torch.Tensor:
    return clip.pictures([gradient(90, 70 + seed, seed) for seed in range(count)], size)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_every_layer_is_open_clips_own_projected(clip):
    x = pictures(clip)
    found = clip.encode_image(x, layers=(1, 2, 3))
    visual = clip.model.visual
    theirs = visual.forward_intermediates(x, normalize_intermediates=True, output_fmt="NLC")["image_intermediates"]
    for number, layer in enumerate(theirs, start=1):
        close(found.layers[number], layer @ visual.proj)
    assert found.grid == (4, 4)
    close(found.patches, found.layers[3])


def test_the_global_feature_is_the_class_token_projected_without_its_norm(clip):
    x = pictures(clip)
    found = clip.encode_image(x).globals
    visual = clip.model.visual
    theirs = visual.forward_intermediates(x, output_fmt="NLC", output_extra_tokens=True)
    close(found, theirs["image_intermediates_prefix"][-1] @ visual.proj)
    assert not torch.allclose(found[:, 0], visual(x), atol=1e-3)  # open_clip's own, which norms it first


def test_the_value_stream_is_attention_of_values_to_values_beside_the_ordinary_one(clip):
    x = pictures(clip, 40)
    visual = clip.model.visual
    y = ordinary = clip._embed(x)[0]
    for block in visual.transformer.resblocks:
        heads, width = block.attn.num_heads, block.attn.embed_dim
        _, _, v = F.linear(block.ln_1(ordinary), block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, dim=-1)
        v = v.unflatten(2, (heads, -1)).movedim(2, 1)  # (B, h, L, d)
        weights = (v @ v.mT / (width / heads) ** 0.5).softmax(dim=-1)
        y = y + block.attn.out_proj((weights @ v).movedim(1, 2).flatten(2))
        ordinary = block(ordinary)
    found = clip.encode_image(x, values=1)
    close(found.values, visual.ln_post(y)[:, 1:] @ visual.proj)
    close(found.patches, visual.ln_post(ordinary)[:, 1:] @ visual.proj)


def test_text_run_up_to_its_end_is_the_text_run_at_full_length(clip):
    from open_clip.tokenizer import SimpleTokenizer

    theirs = clip.model.encode_text(SimpleTokenizer()(list(SENTENCES)))  # 77 tokens each, padding and all
    close(clip.encode_text(SENTENCES), theirs)
    for index, sentence in enumerate(SENTENCES):
        close(clip.encode_text([sentence]), theirs[index : index + 1])


def test_text_is_computed_no_further_than_its_end(clip):
    from open_clip.tokenizer import SimpleTokenizer

    lengths = []
    block = clip.model.transformer.resblocks[0]
    handle = block.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    clip.encode_text(["flawless", "a broken part"])
    handle.remove()
    assert lengths == [len(SimpleTokenizer().encode("a broken part")) + 2]


def test_a_prompt_stands_between_begin_and_the_words(clip):
    prompt = torch.randn(5, clip.text_width)
    for sentence in SENTENCES[:3]:
        whole = torch.cat([prompt, clip.embed_words(sentence)]).unsqueeze(0)
        close(clip.encode_text([sentence], prompt), clip.encode_prompts(whole))


def test_words_that_do_not_fit_behind_a_prompt_fall_off_the_end(clip):
    prompt = torch.randn(30, clip.text_width)
    kept = clip.encode_text(["a " * (77 - 2 - 30)], prompt)
    close(clip.encode_text(["a " * 60], prompt), kept)


def test_a_prompt_longer_than_the_tower_is_refused_with_the_number(clip):
    with pytest.raises(CheckpointError, match="3 tokens too long for a text tower of 77"):
        clip.encode_prompts(torch.zeros(1, 78, clip.text_width))


def test_deep_tokens_replace_those_after_begin_at_the_second_block_and_on(clip):
    prompts, deep = torch.randn(2, 6, clip.text_width), torch.randn(2, 3, clip.text_width)

    def replace(number):
        def hook(module, inputs):
            x = inputs[0].clone()
            x[:, 1:4] = deep[number - 2]
            return (x, *inputs[1:])

        return hook

    blocks = clip.model.transformer.resblocks
    handles = [blocks[number - 1].register_forward_pre_hook(replace(number)) for number in (2, 3)]
    theirs = clip.encode_prompts(prompts)
    for handle in handles:
        handle.remove()
    close(clip.encode_prompts(prompts, deep), theirs)
    assert not torch.allclose(clip.encode_prompts(prompts), theirs, atol=1e-3)


def test_prompts_learn_through_a_frozen_tower(clip):
    with torch.enable_grad():
        prompts, deep = (torch.randn(shape, requires_grad=True) for shape in ((2, 5, 16), (3, 2, 16)))
        clip.encode_prompts(prompts, deep).square().sum().backward()
    assert prompts.grad is not None
    assert prompts.grad.abs().sum() > 0
    assert (deep.grad.abs().sum(dim=(1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in clip.parameters())


def test_pictures_are_what_the_authors_transform_makes_of_them(clip):
    """torchvision's bicubic resize of a PIL picture, mean and std; one level of 255 apart at most."""
    import open_clip
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.Resize((32, 32), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
        ]
    )
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((20, 24, 3), (32, 32, 3), (200, 90, 3))]
    theirs = torch.stack([transform(Image.fromarray(image)) for image in images])
    assert ((clip.pictures(images, 32) - theirs) * clip.std * 255).abs().max() < 1.01


def test_the_temperature_is_the_inverse_of_the_learned_scale(clip):
    assert clip.temperature == pytest.approx(1 / float(clip.model.logit_scale.exp()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same(clip, dtype):
    x, prompts = pictures(clip, 40), torch.randn(2, 5, 16)
    full = clip.encode_image(x, layers=(1, 3), values=1)
    with torch.autocast("cpu", dtype):
        half = clip.encode_image(x, layers=(1, 3), values=1)
        texts = clip.encode_text(["a broken part"]), clip.encode_prompts(prompts, prompts[:, :2])
    pairs = [(half.globals, full.globals), (half.patches, full.patches), (half.values, full.values)]
    pairs += [(half.layers[1], full.layers[1])]
    pairs += zip(
        texts, (clip.encode_text(["a broken part"]), clip.encode_prompts(prompts, prompts[:, :2])), strict=True
    )
    for ours, theirs in pairs:
        assert F.cosine_similarity(ours.float(), theirs, dim=-1).min() > 0.99


def open_clips(class_name: str, **changed) -> torch.nn.Module:
    """One of open_clip's models of the tiny configuration with some of its values changed."""
    from open_clip import coca_model, model

    config = CONFIG | {key: CONFIG.get(key, {}) | value for key, value in changed.items()}
    return getattr(coca_model if class_name == "CoCa" else model, class_name)(**config)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: open_clips("CLIP", vision_cfg={"layers": [1, 1, 1, 1], "width": 8}), "tower is a ModifiedResNet"),
        (lambda: open_clips("CLIP", vision_cfg={"pool_type": "avg"}), "no class token"),
        (lambda: open_clips("CLIP", text_cfg={"no_causal_mask": True}), "not CLIP's own causal one"),
        (lambda: open_clips("CLIP", vision_cfg={"qk_norm": True}), "blocks are not CLIP's own"),
        (lambda: open_clips("CustomTextCLIP"), "not CLIP's own causal one"),
        (lambda: open_clips("CoCa", multimodal_cfg=CONFIG["text_cfg"]), "not CLIP's own causal one"),
        (lambda: torch.nn.Linear(2, 2), "vision tower is a NoneType"),
    ],
)
def test_a_model_of_another_make_is_refused_and_says_why(make, said):
    with pytest.raises(CheckpointError, match=f"mine: its .*{said}"):
        require_supported(make(), "mine")


def test_what_its_configuration_allows_its_modules_allow_too():
    import open_clip

    models = [name for name in open_clip.list_models() if not fault_of(open_clip.get_model_config(name))]
    assert {"ViT-L-14-336", "ViT-B-16", "ViT-bigG-14"} < set(models)
    for name in models:
        with torch.device("meta"):
            require_supported(open_clip.model.CLIP(**open_clip.get_model_config(name)), name)


def test_the_same_weights_run_with_another_activation_and_other_positions(clip):
    x = torch.rand(1, 3, 40, 40)
    other = clip.run_as("gelu", "bicubic antialias")
    assert (clip.activation, other.activation) == ("quick_gelu", "gelu")
    assert clip.run_as("quick_gelu", "bilinear") is clip
    assert {id(one) for one in other.parameters()} == {id(one) for one in clip.parameters()}
    plain, resized = other.run_as("gelu", "bilinear"), other.positions((5, 5))
    assert not torch.allclose(plain.positions((5, 5)), resized, atol=1e-3)
    assert not torch.allclose(clip.encode_image(x).patches, plain.encode_image(x).patches, atol=1e-3)
    assert not torch.allclose(clip.encode_text(["a nut"]), plain.encode_text(["a nut"]), atol=1e-3)


def test_raw_outputs_are_those_that_features_are_made_from(clip):
    found = clip.encode_image(torch.rand(2, 3, 32, 32), (2,), raw=(2, 3))
    assert found.raw[2].shape == (2, 17, clip.tower_width)
    assert torch.allclose(clip.project(found.raw[2])[:, 1:], found.layers[2], atol=1e-5)
    assert torch.allclose(clip.project(found.raw[3])[:, 0], found.image, atol=1e-5)


def test_the_second_stream_starts_where_it_is_told_to(clip):
    x = torch.rand(1, 3, 32, 32)
    last, joined = clip.encode_image(x, (2,), values=3), clip.encode_image(x, values=3, joined=True)
    assert not torch.allclose(last.values, clip.encode_image(x, values=1).values, atol=1e-3)
    assert not torch.allclose(last.values, joined.values, atol=1e-3)


def test_a_prompt_with_a_begin_token_of_its_own_is_given_none(clip):
    words, begin = clip.embed_words("metal nut")[None], clip.embed_words("<start_of_text>")[None]
    plain = clip.encode_prompts(words)
    assert torch.allclose(clip.encode_prompts(torch.cat([begin, words], dim=1), begun=True), plain, atol=1e-5)
