"""CLIP by name: from files whole, damaged, foreign or dangerous, from caches and fetched folders, and never from the network."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest
import safetensors.torch
import torch
from huggingface_hub import constants

from edge_agent.backbones.clip import weights as clip_weights
from edge_agent.backbones.clip.model import Clip
from edge_agent.backbones.clip.names import (
    EXAMPLE,
    SAFETENSORS,
    architecture,
    parse_clip,
    pretrained,
    published,
)
from edge_agent.backbones.clip.weights import find_weights, load_clip
from edge_agent.backbones.weights.fetch import fetch
from edge_agent.backbones.weights.listing import list_models
from edge_agent.backbones.weights.store import PINS
from edge_agent.config.load import load_config
from edge_agent.diagnostics.doctor import _models
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader
from tests import tiny_clip
from tests.agent import station, write_config
from tests.weights_server import serving

SENTENCES = ["a photo of a broken part"]


@pytest.fixture(autouse=True)
def no_network_and_empty_caches(monkeypatch, tmp_path_factory):
    """Whoever connects to anything but this machine fails the test."""
    connect = socket.socket.connect

    def local_only(self, address):
        assert address[0] in ("127.0.0.1", "localhost"), f"connects to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setattr(clip_weights, "OPEN_CLIP_CACHE", tmp_path_factory.mktemp("open_clip"))
    tiny_clip.register()


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return tiny_clip.weights()


def stored(weights: object, path: Path) -> str:
    """The name of a tiny CLIP whose weights are now in that file."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path)
    return f"clip:{tiny_clip.MODEL}@{path}"


def text(clip: Clip) -> torch.Tensor:
    return clip.encode_text(SENTENCES)


def refusal(name: str) -> str:
    with pytest.raises(CheckpointError) as refused:
        load_clip(parse_clip(name))
    return str(refused.value)


# Whole files


def test_weights_are_the_same_from_every_kind_of_file(weights, tmp_path):
    expected = text(tiny_clip.tiny_clip())
    kinds = {
        "plain.safetensors": weights,
        "plain.pt": weights,
        "training.pt": {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}},
        "numbers.bin": weights | {"context_length": torch.tensor(77), "logit_scale": weights["logit_scale"].view(1)},
    }
    for file, content in kinds.items():
        clip = load_clip(parse_clip(stored(content, tmp_path / file)))
        assert torch.equal(text(clip), expected), file
        assert clip.sha256 == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        assert clip.name == f"clip:{tiny_clip.MODEL}"
        assert not clip.training
        assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_half_precision_weights_are_read_as_full(weights, tmp_path):
    clip = load_clip(
        parse_clip(stored({key: value.half() for key, value in weights.items()}, tmp_path / "half.safetensors"))
    )
    assert {value.dtype for value in clip.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(text(clip), text(tiny_clip.tiny_clip()), atol=1e-2, rtol=0)


def test_a_folder_stands_for_the_weights_in_it(weights, tmp_path):
    stored(weights, tmp_path / SAFETENSORS)
    assert text(load_clip(parse_clip(f"clip:{tiny_clip.MODEL}@{tmp_path}"))).shape == (1, 24)
    (tmp_path / "empty").mkdir()
    assert SAFETENSORS in refusal(f"clip:{tiny_clip.MODEL}@{tmp_path / 'empty'}")


def test_the_agents_loader_loads_it_once(weights, tmp_path):
    name = stored(weights, tmp_path / "a.safetensors")
    loader = Loader()
    assert loader.backbone(name, "cpu") is loader.backbone(name, "cpu")
    with pytest.raises(CheckpointError, match="comes without prompts"):
        loader.detector(name)


# Files that will not do


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_a_truncated_file_is_not_whole(weights, tmp_path, kind, kept):
    name = stored(weights, path := tmp_path / f"a.{kind}")
    body = path.read_bytes()
    path.write_bytes(body[: kept if isinstance(kept, int) else int(kept * len(body))])
    assert str(path) in (said := refusal(name))
    assert "fetch or copy it again" in said or "damaged" in said


@pytest.mark.parametrize("kind", ["safetensors", "pt", "bin"])
def test_text_and_noise_are_no_weights(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    for body in (b"<html>404</html>", bytes(range(256)) * 9):
        path.write_bytes(body)
        assert str(path) in refusal(f"clip:{tiny_clip.MODEL}@{path}")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(weights, tmp_path):
    sprung = tmp_path / "sprung"
    for legacy in (False, True):
        path = tmp_path / f"trap{legacy}.pt"
        torch.save(weights | {"trap": Trap(sprung)}, path, _use_new_zipfile_serialization=not legacy)
        assert "nothing is unpickled here" in (said := refusal(f"clip:{tiny_clip.MODEL}@{path}"))
        assert SAFETENSORS in said
    assert not sprung.exists()


def test_a_torchscript_program_as_openai_published_is_not_run(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    said = refusal(f"clip:{tiny_clip.MODEL}@{path}")
    assert "TorchScript" in said
    assert "timm/vit_large_patch14_clip_336.openai" in said


def test_weights_in_the_layout_of_transformers_are_named_as_such(tmp_path):
    theirs = {"vision_model.embeddings.class_embedding": torch.zeros(3), "logit_scale": torch.zeros(())}
    assert "layout of transformers" in refusal(stored(theirs, tmp_path / "model.safetensors"))


def test_weights_of_another_model_say_where_they_differ(weights, tmp_path):
    smaller = weights | {"visual.positional_embedding": torch.zeros(10, 32)}
    said = refusal(stored(smaller, tmp_path / "a.safetensors"))
    assert "visual.positional_embedding is 10 x 32 there, 17 x 32 in that model" in said
    lacking = {key: value for key, value in weights.items() if key != "text_projection"}
    assert "text_projection is missing there" in refusal(stored(lacking, tmp_path / "b.safetensors"))
    more = weights | {"visual.extra": torch.zeros(3)}
    assert "visual.extra is 3 there, missing in that model" in refusal(stored(more, tmp_path / "c.safetensors"))
    assert "holds no weights" in refusal(stored([1, 2], tmp_path / "d.pt"))
    assert "no such file" in refusal(f"clip:{tiny_clip.MODEL}@{tmp_path / 'none.pt'}")


# Names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clip:ViT-L-14-337/openai", "did you mean ViT-L-14-336"),
        ("clip:vit-b-16/openai", "did you mean ViT-B-16"),
        ("clip:/openai", "'' is no CLIP that open_clip knows; it has ViT-B-16"),
        ("clip:ViT-L-14-336/opena", "'opena' is no pretrained tag of ViT-L-14-336; did you mean openai"),
        ("clip:ViT-L-14-336/x", "it has openai"),
        ("clip:ViT-L-14-336", "names no weights: write clip:ViT-L-14-336/openai or clip:ViT-L-14-336@FILE"),
        ("clip:ViT-S-16", "names no weights: write clip:ViT-S-16@FILE"),
        ("clip:ViT-L-14-336/openai@", "no path after the @"),
        ("clip:RN50/openai", "its vision tower is no ViT of CLIP's own"),
        ("clip:ViT-B-16-SigLIP/webli", "its vision tower is no ViT of CLIP's own"),
        ("clip:EVA02-L-14/merged2b_s4b_b131k", "its vision tower is no ViT of CLIP's own"),
        ("clip:coca_ViT-B-32/laion2b_s13b_b90k", "its vision tower reads no class token"),
        ("clip:ViT-L-14-CLIPA/datacomp1b", "its vision tower reads no class token"),
        ("clip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "its text tower is not CLIP's own"),
    ],
)
def test_a_name_that_will_not_do_is_answered_with_one_that_will(name, said):
    assert said in refusal(name)


def test_a_relative_path_is_taken_from_the_folder_of_the_config(tmp_path):
    name = parse_clip("clip:ViT-B-32@weights/a.pt", tmp_path)
    assert name.path == tmp_path / "weights" / "a.pt"
    assert parse_clip(str(name)) == name
    assert name.name == "clip:ViT-B-32"


def test_the_tag_says_the_activation_and_the_colours_and_without_one_the_model_says_the_activation(tmp_path):
    def quick(name: str) -> bool:
        return bool(architecture(parse_clip(name)).get("quick_gelu"))

    assert quick(EXAMPLE)
    assert quick("clip:ViT-B-32/laion400m_e32")
    assert quick(f"{EXAMPLE}@{tmp_path}")
    assert quick("clip:ViT-L-14-336-quickgelu@a.pt")
    assert not quick("clip:ViT-L-14-336@a.pt")
    assert not quick("clip:ViT-B-32/laion2b_s34b_b79k")
    assert pretrained(parse_clip("clip:ViT-L-14/laion2b_s32b_b82k"))["mean"] == (0.5, 0.5, 0.5)


def test_openais_weights_under_a_name_without_quickgelu_are_warned_of(weights, tmp_path, caplog):
    import open_clip

    gelu = "ViT-tiny-gelu-8"
    (tmp_path / f"{gelu}.json").write_text(json.dumps({**tiny_clip.CONFIG, "quick_gelu": False}))
    open_clip.add_model_config(tmp_path / f"{gelu}.json")
    stored(weights, tmp_path / "plain.safetensors")
    stored(weights | {"context_length": torch.tensor(77)}, tmp_path / "numbers.pt")
    (tmp_path / "vit.openai").mkdir()
    stored(weights, tmp_path / "vit.openai" / SAFETENSORS)
    load_clip(parse_clip(f"clip:{gelu}@{tmp_path / 'plain.safetensors'}"))
    load_clip(parse_clip(f"clip:{tiny_clip.MODEL}@{tmp_path / 'numbers.pt'}"))
    assert caplog.messages == []
    for place in ("numbers.pt", "vit.openai"):
        load_clip(parse_clip(f"clip:{gelu}@{tmp_path / place}"))
        assert "seems to hold OpenAI's weights" in caplog.messages[-1]
        assert f"name it clip:{gelu}-quickgelu@{tmp_path / place}" in caplog.messages[-1]


# Where a tag's weights lie


def test_weights_that_are_nowhere_are_missed_at_once_with_the_way_to_get_them(tmp_path):
    said = refusal(EXAMPLE)
    assert f"run `edge-agent models fetch {EXAMPLE}`" in said
    assert constants.HF_HUB_CACHE in said


def test_weights_in_the_cache_of_hugging_face_are_found_without_asking(tmp_path):
    repository = Path(constants.HF_HUB_CACHE, "models--timm--vit_large_patch14_clip_336.openai")
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_pytorch_model.bin").touch()
    assert find_weights(parse_clip(EXAMPLE)) == snapshot / "open_clip_pytorch_model.bin"
    (snapshot / SAFETENSORS).touch()
    assert find_weights(parse_clip(EXAMPLE)) == snapshot / SAFETENSORS


def test_what_open_clip_downloaded_itself_is_found_too():
    path = clip_weights.OPEN_CLIP_CACHE / "vit_b_16-laion400m_e32-55e67d44.pt"
    path.touch()
    assert find_weights(parse_clip("clip:ViT-B-16/laion400m_e32")) == path


def test_the_doctor_warns_of_weights_that_only_this_user_has_in_a_cache(tmp_path, monkeypatch):
    model = "clip:ViT-B-16/laion400m_e32"
    path = clip_weights.OPEN_CLIP_CACHE / "vit_b_16-laion400m_e32-55e67d44.pt"
    path.touch()
    config = load_config(write_config(tmp_path, station(detector={"model": model, "method": "winclip"})))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (found,) = _models(config)
    said = f"{model} is in your cache alone ({path}), where no service looks: sudo edge-agent models fetch {model}"
    assert (found.state, found.text) == ("warning", said)
    fetched = tmp_path / "data" / "models" / published(parse_clip(model)).folder
    fetched.mkdir(parents=True)
    (fetched / SAFETENSORS).touch()
    assert not [*_models(config)]
    (fetched / SAFETENSORS).unlink()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))  # the doctor of the service itself does not find it
    assert not [*_models(config)]


def test_a_fetch_from_a_folder_or_a_mirror_is_pinned_and_found(tmp_path):
    body = b"as if they were the weights"
    file = published(parse_clip(EXAMPLE)).files[0]
    assert (
        file.url
        == "https://huggingface.co/timm/vit_large_patch14_clip_336.openai/resolve/main/open_clip_model.safetensors"
    )
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / SAFETENSORS).write_bytes(body)
    models = tmp_path / "models"
    folder = fetch(EXAMPLE, into=models, source=stick)
    assert folder == models / "clip" / "ViT-L-14-336" / "openai"
    assert find_weights(parse_clip(EXAMPLE), [tmp_path, models]) == folder / SAFETENSORS
    assert [row.folder for row in list_models([models]) if row.name == EXAMPLE] == [folder]
    with serving(
        {f"clip/ViT-L-14-336/openai/{name}": (folder / name).read_bytes() for name in (SAFETENSORS, PINS)}
    ) as mirror:
        again = fetch(EXAMPLE, into=tmp_path / "others", source=mirror.url)
    assert (again / SAFETENSORS).read_bytes() == body
    (folder / SAFETENSORS).write_bytes(body[:-1])
    with pytest.raises(CheckpointError, match="damaged or was replaced"):
        load_clip(parse_clip(EXAMPLE), [models])


def test_what_nobody_publishes_cannot_be_fetched(tmp_path):
    for name in ("clip:ViT-S-16@a.safetensors", f"{EXAMPLE}@a.safetensors"):
        with pytest.raises(CheckpointError, match="nothing to fetch"):
            fetch(name, into=tmp_path)
