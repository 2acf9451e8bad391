"""Methods on CLIP meet what their authors' own code computed, stage by stage, alone and with a memory of two good pictures.

One CLIP serves all files, as drawing its numbers takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.backbones.clip.model import Clip
from edge_agent.backbones.vision_only import VisionOnly
from edge_agent.detectors.clip import adaclip as ada
from edge_agent.detectors.clip import crane
from edge_agent.detectors.clip.afclip import gathered
from edge_agent.detectors.clip.bayespfl import map_of, probability
from edge_agent.detectors.clip.craneplus import CranePlus, guidance
from edge_agent.detectors.clip.vcpclip import both_maps
from edge_agent.detectors.memory import FewShotMethod, Memory
from edge_agent.detectors.method import Method
from edge_agent.importing import adaclip, afclip, aprilgan, bayespfl, vcpclip
from edge_agent.importing import object_prompts as objects
from edge_agent.kernels import scoring
from tests import tiny_clip
from tests.parity import recipe, vectors


@pytest.fixture(scope="module")
def clip() -> Clip:
    """All files are of one CLIP; those of another activation run the same weights with it."""
    return vectors.clip(vectors.load("afclip")[1])


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def files(name: str):
    """Every stage is met at the size of the positions and at another, one picture at a time and two together."""
    return pytest.mark.parametrize(
        ("file", "batch"), [(f"{name}{size}", batch) for size in ("", "_interp") for batch in (1, 2)]
    )


def encoded(method: Method, config: dict, batch: int) -> list:
    """Features of the two tested pictures, in batches."""
    pictures = vectors.pictures(config)
    size = config["size"]
    return [
        method.encode(method.backbone.pictures(pictures[start : start + batch], size)) for start in range(0, 2, batch)
    ]


def shown(method: FewShotMethod, config: dict) -> None:
    """Put both good pictures into memory."""
    size = config["size"]
    pictures = vectors.shots(config)
    method.show([method.describe(method.encode(method.backbone.pictures([one], size))) for one in pictures])


def again(method: Method, backbone: Clip) -> Method:
    """The method as a checkpoint holds it."""
    restored = type(method).restored(backbone, method.settings(), method.tensors(), "object").eval()
    restored.precompute()
    return restored


def smoothed(patches: torch.Tensor, config: dict) -> torch.Tensor:
    return scoring.heatmaps(patches, config["size"], config["sigma"] * 518 / config["size"])


def stretched(patches: torch.Tensor, config: dict) -> torch.Tensor:
    return scoring.resize_bilinear(patches, config["size"])


def af_clip(clip: Clip, config: dict) -> afclip.AfClip:
    shapes = afclip.published_shapes(clip, config["prompt_len"])
    own = vectors.drawn({name: shapes[name] for name in (afclip.PROMPT,)}, "afclip.")
    rest = vectors.drawn({name: shapes[name] for name in shapes if name != afclip.PROMPT}, "afclip.adaptor.")
    method = afclip.afclip_from_published(clip, own | rest).eval()
    assert list(method.raw) == config["feats"]
    return method


@files("afclip")
def test_af_clip(clip, file, batch):
    arrays, config = vectors.load(file)
    method = af_clip(clip, config)
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    chosen = ((0, 1), (1, 3), (3, 5))  # number of a block and scale
    tokens = [
        torch.stack([gathered(one.raw[method.raw[at]], one.grid, side)[:, :10] for at, side in chosen], dim=1)
        for one in features
    ]
    vectors.meet(tokens, "tokens", arrays, config)
    vectors.meet(found[0].text, "text", arrays, config)
    vectors.meet([one.adapted[:, [0, -1], :10] for one in found], "adapted", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    vectors.meet([one.patches for one in scores], "patch_map", arrays, config)
    vectors.meet([stretched(one.patches, config) for one in scores], "map", arrays, config)
    vectors.meet([smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


@files("afclip")
def test_af_clip_with_a_memory(clip, file, batch):
    arrays, config = vectors.load(file)
    method = af_clip(clip, config)
    shown(method, config)
    method = again(method, clip)
    found = [method(one) for one in encoded(method, config, batch)]
    scores = [method.scores(one) for one in found]
    patches = [1.1 * one.patches for one in scores]  # ours are scaled to at most 1
    vectors.meet([one.distance for one in found], "few_patch_map_memory", arrays, config)
    vectors.meet([one.distance.amax(dim=(1, 2)) for one in found], "few_score_memory", arrays, config)
    vectors.meet([1.1 * one.picture for one in scores], "few_score", arrays, config)
    vectors.meet(patches, "few_patch_map", arrays, config)
    vectors.meet([stretched(one, config) for one in patches], "few_map", arrays, config)
    vectors.meet([1.1 * smoothed(one.patches, config) for one in scores], "few_smoothed", arrays, config)


@pytest.fixture(scope="module")
def april_gan(clip) -> aprilgan.AprilGan:
    """Both files are of one method; encoding its 420 sentences takes seconds."""
    _, config = vectors.load("aprilgan")
    own = vectors.drawn(aprilgan.published_shapes(clip), "aprilgan.")
    method = aprilgan.aprilgan_from_published(clip, own, config["class_name"]).eval()
    assert list(method.raw) == config["feats"]
    assert method.settings() == {
        "activation": config["activation"],
        "positions": config["positions"],
        "layers": config["feats"],
    }
    method.precompute()
    return method


@files("aprilgan")
def test_april_gan(april_gan, file, batch):
    arrays, config = vectors.load(file)
    method = april_gan
    method.memory = Memory()
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    vectors.meet([scoring.unit(one.image) for one in features], "global", arrays, config)
    vectors.meet(method.text[None], "text", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    vectors.meet([one.logits.flatten(3) for one in found], "patch_logits", arrays, config, 1e-3)  # 100 times cosines
    vectors.meet([4 * one.patches for one in scores], "map", arrays, config)  # ours are means over blocks


@files("aprilgan")
def test_april_gan_with_a_memory(april_gan, file, batch):
    arrays, config = vectors.load(file)
    method = april_gan
    shown(method, config)
    found = [method(one) for one in encoded(method, config, batch)]
    scores = [method.scores(one) for one in found]
    vectors.meet([one.distances for one in found], "few_patch_map", arrays, config)
    vectors.meet([8 * one.patches for one in scores], "few_map", arrays, config)
    vectors.meet([8 * one.patches.amax(dim=(1, 2)) for one in scores], "few_score_map_max", arrays, config)


def test_without_a_memory_nothing_is_far(clip):
    _, config = vectors.load("afclip")
    method = af_clip(clip, config)
    plain = method.scores(method(encoded(method, config, 2)[0]))
    shown(method, config)
    method.memory = Memory()
    assert torch.equal(method.scores(method(encoded(method, config, 2)[0])).patches, plain.patches)


def object_prompts(clip: Clip, kind: objects.Kind, config: dict, **shapes: tuple[int, ...]) -> Method:
    """A method of published names with the recipe's numbers; shapes: of the learned tokens."""
    width = clip.text_width
    known = {name: torch.zeros(*shape, width) for name, shape in shapes.items()}
    known |= {
        f"{objects.DEEP}.{number}": torch.zeros(config.get("deep_tokens", 4), width) for number in range(config["deep"])
    }
    own = vectors.drawn(objects.published_shapes(kind, known, clip), f"{kind.title.lower()}.")
    first = config.get("values_from", config.get("stream_from"))
    return objects.from_published(kind, clip, own, values_from=first).eval()


def compared(patches: torch.Tensor, method: Method, grid: tuple[int, int]) -> torch.Tensor:
    """The probability of anomalous of each patch of a block."""
    return scoring.anomalous_probability(patches, method.text_pair(), 0.07).unflatten(1, grid)


@files("anomalyclip")
def test_anomaly_clip(clip, file, batch):
    arrays, config = vectors.load(file)
    tokens = (1, 1, 12)
    method = object_prompts(clip, objects.ANOMALYCLIP, config, ctx_pos=tokens, ctx_neg=tokens)
    if batch == 2:  # as inspecting reads it, with what it keeps
        method = again(method, clip)
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    vectors.meet([one.globals[:, -1] for one in features], "global", arrays, config)
    vectors.meet([one.values[:, None] for one in features], "patches", arrays, config)
    vectors.meet(found[0].text[None], "text", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    last = {"patch_map": arrays["patch_map"][:, -1]}  # of the last block, the only one that we read
    vectors.meet([one.patches.flatten(1) for one in scores], "patch_map", last, config)
    if len(config["feats"]) > 1:  # the published defaults: the map is of several blocks
        method.layers = tuple(config["feats"])
        method = again(method, clip)
        features = encoded(method, config, batch)
        scores = [method.scores(method(one)) for one in features]
        each = [
            torch.stack([compared(one.layers[at], method, one.grid) for at in method.layers], 1) for one in features
        ]
        vectors.meet([one.flatten(2) for one in each], "patch_map", arrays, config)
    sets = len(config["feats"])  # published maps are their sum
    vectors.meet([sets * stretched(one.patches, config) for one in scores], "map", arrays, config)
    vectors.meet([sets * smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


@files("crane")
def test_crane(clip, file, batch):
    arrays, config = vectors.load(file)
    tokens = (1, 1, 12)
    method = again(object_prompts(clip, objects.CRANE, config, ctx_pos=tokens, ctx_neg=tokens), clip)
    found = [method(one) for one in encoded(method, config, batch)]
    scores = [method.scores(one) for one in found]
    vectors.meet([one.whole for one in found], "global", arrays, config)
    vectors.meet([one.features[:, None] for one in found], "patches", arrays, config)
    vectors.meet(found[0].text[None], "text", arrays, config)
    logits = [one.features @ one.states.mT / 0.07 for one in found]
    sets = arrays["patch_logits"].shape[1]  # all the same
    vectors.meet([one[:, None].expand(-1, sets, -1, -1) for one in logits], "patch_logits", arrays, config)
    vectors.meet([crane.pooled(one.features, one.patches) for one in found], "pooled", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    vectors.meet([stretched(one.patches, config) for one in scores], "map", arrays, config)
    vectors.meet([smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


@files("crane_plus")
def test_crane_plus(clip, file, batch):
    """What DINOv2 would say is in the file."""
    arrays, config = vectors.load(file)
    tokens = (1, 1, 12)
    kind = replace(objects.CRANEPLUS, title="Crane", make=partial(_with_guide, clip))
    method = object_prompts(clip, kind, config, ctx_pos=tokens, ctx_neg=tokens)
    assert isinstance(method, CranePlus)
    seen = torch.from_numpy(arrays["dino"]).flatten(2).mT.split(batch)
    found = [method.compare(*each) for each in zip(encoded(method, config, batch), seen, strict=True)]
    scores = [method.scores(one) for one in found]
    vectors.meet([one.whole for one in found], "global", arrays, config)
    vectors.meet(found[0].text[None], "text", arrays, config)
    steps = config["strides"]["patches"]
    kept = torch.cat([one.features for one in found])[
        :, :: steps[2], : 384 : steps[3]
    ]  # of each the first half is there
    vectors.meet(kept, "patches", {"patches": arrays["patches"].mean(axis=1)}, {})
    odds = arrays["patch_logits"][..., 1] - arrays["patch_logits"][..., 0]
    vectors.meet([one.odds.flatten(2) for one in found], "odds", {"odds": odds}, {}, 2 * vectors.TOLERANCE)
    vectors.meet([crane.pooled(one.features, one.patches) for one in found], "pooled", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    vectors.meet([one.patches for one in scores], "map", arrays, config)
    vectors.meet([smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


def test_in_a_picture_of_one_colour_each_patch_keeps_itself():
    weights = guidance(torch.ones(1, 3, 4))
    assert weights[0].tolist() == torch.eye(3).tolist()
    weights = guidance(torch.tensor([[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]]))
    assert weights[0, 2].tolist() == [0, 0, 1]
    assert weights[0, 0, 2] == 0
    assert weights.sum(dim=2).tolist()[0] == pytest.approx([1, 1, 1])


def _with_guide(clip: Clip, backbone: Clip, own: dict, settings: dict) -> tuple[CranePlus, dict]:
    context = torch.cat([own["ctx_pos"][0], own["ctx_neg"][0]])
    guide = replace_patch(clip.patch)
    return CranePlus(backbone, context=context.shape[1], guide=guide, **settings), {"context": context}


def replace_patch(patch: int) -> VisionOnly:
    """A guide that nobody asks, with patches as large as wanted."""
    trunk = tiny_clip.TinyGuide()
    trunk.stride = patch
    return VisionOnly("unused", trunk, 32, Preprocessing())


@files("glocalclip")
def test_glocal_clip(clip, file, batch):
    arrays, config = vectors.load(file)
    normal, own = (1, 1, config["n_ctx"]), (1, 1, config["ab_ctx"])
    shapes = {"ctx_global_pos": normal, "ctx_global_neg": own, "ctx_local_pos": normal, "ctx_local_neg": own}
    method = again(object_prompts(clip, objects.GLOCALCLIP, config, **shapes), clip)
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    sets = len(config["feats"])  # all the same
    vectors.meet([one.globals[:, -1] for one in features], "global", arrays, config)
    vectors.meet([one.values for one in features], "patches", arrays, config)
    vectors.meet(found[0].text[None], "text", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    vectors.meet([one.patches.flatten(1)[:, None].expand(-1, sets, -1) for one in scores], "patch_map", arrays, config)
    vectors.meet([sets * stretched(one.patches, config) for one in scores], "map", arrays, config)
    vectors.meet([sets * smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


@files("faprompt")
def test_fa_prompt(clip, file, batch):
    arrays, config = vectors.load(file)
    shapes = {"ctx_pos": (1, 1, 5), "ctx_neg": (1, config["prompts"], 2)}
    method = object_prompts(clip, objects.FAPROMPT, config, **shapes)
    if batch == 2:  # as inspecting reads it, with what it keeps
        method = again(method, clip)
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    vectors.meet([one.globals[:, -1] for one in features], "global", arrays, config)
    vectors.meet([one.values for one in features], "patches", arrays, config)
    vectors.meet([one.text[0].expand(batch, -1, -1) for one in found], "text1", arrays, config)
    vectors.meet([one.text[1] for one in found], "text2", arrays, config)
    vectors.meet([one.bias for one in found], "bias", arrays, config)
    vectors.meet([one.patches[0].flatten(1) for one in found], "patch_map1", arrays, config)
    vectors.meet([one.patches[1].flatten(1) for one in found], "patch_map2", arrays, config)
    vectors.meet([one.picture for one in scores], "score", arrays, config)
    vectors.meet([stretched(one.patches, config) for one in scores], "map", arrays, config)
    vectors.meet([smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


@files("vcpclip")
def test_vcp_clip(clip, file, batch):
    arrays, config = vectors.load(file)
    prefixes = {vcpclip.MAPS: "linear", vcpclip.CLASSES: "pre", vcpclip.ATTENTION: "post", vcpclip.FIRST: "model"}
    own: dict = {}
    for part, shapes in vcpclip.published_shapes(clip).items():
        own |= vectors.drawn(shapes, f"vcpclip.{prefixes[part]}.")
    method = vcpclip.vcpclip_from_published(clip, own, worst=config["worst"] / config["size"] ** 2).eval()
    assert method.settings()["positions"] == config["positions"]
    method = again(method, clip)
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    maps = [both_maps(one) for one in found]
    vectors.meet([one.image for one in features], "global", arrays, config)
    vectors.meet([one.class_tokens for one in found], "class_tokens", arrays, config)
    vectors.meet([one.text for one in found], "text", arrays, config)
    vectors.meet([one.attended for one in found], "post", arrays, config)
    vectors.meet([one.raw.flatten(3) for one in found], "raw_patch_logits", arrays, config)
    vectors.meet([one.new.flatten(3) for one in found], "new_patch_logits", arrays, config)
    vectors.meet([one[0] for one in maps], "map_raw", arrays, config)
    vectors.meet([one[1] for one in maps], "map_new", arrays, config)
    vectors.meet([one.patches for one in scores], "map", arrays, config)
    vectors.meet([smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)
    vectors.meet([2 * one.picture for one in scores], "score_raw", arrays, config)


@pytest.fixture(scope="module")
def bayes_tensors(clip) -> dict[str, torch.Tensor]:
    """What the recipe draws of the authors' tensors, for both files."""
    _, config = vectors.load("bayespfl")
    shapes = bayespfl.published_shapes(clip, config["bank"])
    temperatures = {name: torch.tensor(-math.log(config["temperature"])) for name, shape in shapes.items() if not shape}
    own = vectors.drawn({name: shape for name, shape in shapes.items() if shape}, "bayespfl.")
    for name, values in own.items():
        scale, _ = recipe.scale_for(name, tuple(values.shape))
        if name.startswith("prompt_"):
            values *= config["prompt_scale"] / scale
        elif name.startswith(("PFL_normal.amor", "PFL_abnormal.amor")):
            values *= 0.05 / scale
        elif "amor_" in name and name.endswith("weight"):
            values /= 2
    return own | temperatures


def bayes_pfl(clip: Clip, tensors: dict, config: dict, **settings: bool) -> bayespfl.BayesPfl:
    draws = [recipe.array(f"bayespfl.eps.{one}", (config["draws"], 768)) for one in ("context", "normal", "abnormal")]
    eps, worst = torch.from_numpy(np.stack(draws)), 2000 / config["size"] ** 2
    return bayespfl.bayespfl_from_published(
        clip, tensors, config["class_name"], eps=eps, worst=worst, **settings
    ).eval()


@files("bayespfl")
def test_bayes_pfl(clip, bayes_tensors, file, batch):
    arrays, config = vectors.load(file)
    method = bayes_pfl(clip, bayes_tensors, config)
    assert list(method.raw) == config["feats"]
    assert (method.settings()["positions"], method.settings()["activation"]) == (config["positions"], "gelu")
    if batch == 2:  # as inspecting reads it, with what it keeps
        method = type(method).restored(clip, method.settings(), method.tensors(), config["class_name"]).eval()
        method.precompute()
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    maps = [map_of(one) for one in found]
    vectors.meet([one.image for one in features], "global", arrays, config)
    vectors.meet([one.drawn[0].z for one in found], "z_context", arrays, config)
    vectors.meet(found[0].drawn[1].z[0], "z_normal", arrays, config)
    vectors.meet(found[0].drawn[2].z[0], "z_abnormal", arrays, config)
    vectors.meet([one.text.flatten(1, 2) for one in found], "text", arrays, config)
    fused = [one.image + method.fuse([one.raw[layer][:, 1:] for layer in method.raw]) for one in features]
    vectors.meet(fused, "fused", arrays, config)
    vectors.meet([one.picture.softmax(dim=1)[:, 1] for one in found], "pair_scores", arrays, config)
    vectors.meet([probability(one) for one in found], "score", arrays, config)
    vectors.meet(maps, "map", arrays, config)
    vectors.meet([smoothed(one, config) for one in maps], "smoothed", arrays, config)
    worst = [2 * method.scores(one).picture - probability(one) for one in found]
    vectors.meet(worst, "map_worst", arrays, config)
    if batch == 1:
        unmapped = bayes_pfl(clip, bayes_tensors, config, mapped=False)
        vectors.meet([probability(unmapped(one)) for one in features], "score_stage1", arrays, config)


@pytest.fixture(scope="module")
def ada_clip(clip) -> adaclip.AdaClip:
    """Both files are of one method."""
    _, config = vectors.load("adaclip")
    shapes = adaclip.published_shapes(clip, config["depth"], config["length"])
    own = vectors.drawn(shapes, "adaclip.")
    for name, values in own.items():
        if "static_prompts" in name:
            values *= config["static_scale"] / recipe.scale_for(name, tuple(values.shape))[0]
    method = adaclip.adaclip_from_published(clip, own, config["class_name"], clusters=config["clusters"]).eval()
    assert list(method.read) == config["feats"]
    assert (method.settings()["positions"], method.settings()["activation"]) == (config["positions"], "gelu")
    return type(method).restored(clip, method.settings(), method.tensors(), config["class_name"]).eval()


@files("adaclip")
def test_ada_clip(ada_clip, file, batch):
    arrays, config = vectors.load(file)
    method = ada_clip
    features = encoded(method, config, batch)
    found = [method(one) for one in features]
    scores = [method.scores(one) for one in found]
    vectors.meet([one.image for one in features], "plain_global", arrays, config)
    vectors.meet([ada.dynamic(method.vision_maps, one.image) for one in features], "visual_prompts", arrays, config)
    vectors.meet([ada.dynamic(method.text_maps, one.image) for one in features], "text_prompts", arrays, config)
    vectors.meet([one.whole for one in found], "cls", arrays, config)
    vectors.meet([one.text for one in found], "text", arrays, config)
    vectors.meet([one.logits.flatten(3) for one in found], "patch_logits", arrays, config, 1e-3)  # 100 times cosines
    chosen = torch.cat([ada.most_anomalous(one.logits.flatten(3), 5 * config["clusters"]) for one in found])
    assert [set(one) for one in chosen.tolist()] == [set(one) for one in arrays["chosen"].tolist()]
    order = torch.from_numpy(arrays["chosen"])
    taken = ada.gathered(torch.cat([one.patches for one in found]), order)
    clustered = ada.centre(taken, torch.from_numpy(arrays["labels"]).long(), config["clusters"])
    vectors.meet(clustered, "clustered", arrays, config)
    whole, text = (torch.cat([getattr(one, name) for one in found]) for name in ("whole", "text"))
    vectors.meet(ada.picture_logits(whole, clustered, text).softmax(dim=1)[:, 1], "score", arrays, config)
    vectors.meet([one.patches for one in scores], "map", arrays, config)
    vectors.meet([smoothed(one.patches, config) for one in scores], "smoothed", arrays, config)


def test_clusters_are_found_without_chance_and_without_one_that_is_empty():
    points = torch.tensor([[[0.0], [0.1], [5.0], [5.2], [9.0]], [[1.0], [1.0], [1.0], [1.0], [1.0]]])
    labels = ada.k_means(points, 3)
    assert labels[0].tolist() == [0, 0, 2, 2, 1]
    assert labels[1].tolist() == [0] * 5
    middle = ada.centre(torch.eye(3)[None, :, None], torch.tensor([[0, 0, 1]]), 3)
    assert middle[0].tolist() == pytest.approx(torch.tensor([0.25, 0.25, 0.5]).div(0.375**0.5).tolist())
    masked = ada.centre(torch.eye(3)[None, :, None], torch.tensor([[0, 0, 1]]), 3, torch.tensor([[1.0, 0.0, 0.0]]))
    assert masked[0].tolist() == pytest.approx([1, 0, 0])
