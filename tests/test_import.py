"""What authors publish becomes a checkpoint that reads as theirs does; files that are anything else are refused, and never run."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge_agent.backbones.clip.model import Clip
from edge_agent.backbones.clip.names import parse_clip
from edge_agent.backbones.clip.weights import load_clip
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.detectors.cops import Cops
from edge_agent.detectors.method import Method
from edge_agent.errors import CheckpointError
from edge_agent.importing.checkpoint import backbones_of_width, import_checkpoint, read_published
from edge_agent.importing.cops import CopsLayout, cops_from_published, published_shapes
from edge_agent.importing.published import prompts_file
from edge_agent.importing.tipsomaly import tipsomaly_from_published
from edge_agent.importing.vip2clip import END, PERCEPTION, vip2clip_from_published
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.kernels import scoring
from tests import tiny_clip
from tests.made import gradient
from tests.parity import vectors
from tests.test_cops_parity import published_prompts
from trainer.cli import main

PICTURES = [gradient(70, 90, seed) for seed in range(2)]
EVEN = "ViT-tiny-even-8"  # as CoPS needs it: tokens as long as features
SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def known_models(tmp_path_factory):
    import open_clip

    tiny_clip.register()
    config = tmp_path_factory.mktemp("models") / f"{EVEN}.json"
    config.write_text(str({**tiny_clip.CONFIG, "embed_dim": 16}).replace("'", '"').replace("True", "true"))
    open_clip.add_model_config(config)


@pytest.fixture(scope="module")
def clips(known_models, tmp_path_factory) -> dict[str, str]:
    """Names of two saved CLIPs, by the method that is to be tried on them."""
    from open_clip.model import CLIP

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(3)
    even = CLIP(**{**tiny_clip.CONFIG, "embed_dim": 16}).state_dict()
    torch.save({key: value + 0.02 * torch.randn_like(value) for key, value in even.items()}, folder / "even.pt")
    torch.save(tiny_clip.weights(), folder / "tiny.pt")
    return {
        "vip2clip": f"clip:{tiny_clip.MODEL}@{folder / 'tiny.pt'}",
        "tipsomaly": f"clip:{tiny_clip.MODEL}@{folder / 'tiny.pt'}",
        "cops": f"clip:{EVEN}@{folder / 'even.pt'}",
    }


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> OrderedDict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict((name, 0.3 * torch.randn(shape, generator=generator)) for name, shape in shapes.items())


def tipsomalys(width: int) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(value) for value in drawn({"n": (8, width), "a": (8, width)}).values()])


def vip2clips(clip: Clip) -> dict[str, OrderedDict[str, torch.Tensor]]:
    """All that the authors' two state dicts have, buffers too; both words are the same, as published."""
    D, W = clip.width, clip.text_width
    shapes = {
        "ctx_pos": (9, W),
        "ctx_neg": (9, W),
        "cls_ctx": (3, W),
        "prompt_temp_l1": (),
        "cls_prompter.bias": (1, D),
    }
    for adapter in (f"cls_prompter.fc.{index}" for index in range(3)):
        shapes |= {f"{adapter}.0.weight": (D // 2, D), f"{adapter}.0.bias": (D // 2,)}
        shapes |= {f"{adapter}.2.weight": (W, D // 2), f"{adapter}.2.bias": (W,)}
    ica = drawn(shapes)
    with torch.no_grad():
        word, end = clip.embed_words("damaged"), clip.embed_words(END)
    for state in ("pos", "neg"):
        ica[f"token_prefix_{state}"] = torch.zeros(1, 1, W)
        ica[f"token_middle_{state}"] = word[None].clone()
        ica[f"token_suffix_{state}"] = torch.cat([end[None], torch.zeros(1, 5, W)], dim=1)
        ica[f"tokenized_prompts_{state}"] = torch.ones(1, 77, dtype=torch.long)
    fgp = {}
    for name in PERCEPTION.values():
        fgp |= {f"{name}.weight": (D, D, 1), f"{name}.bias": (D,)}
    return {"prompt_learner": ica, "Zero_try": drawn(fgp, seed=1)}


def copss(clip: Clip) -> dict[str, OrderedDict[str, torch.Tensor]]:
    own = Cops(clip, fittable=False).named_parameters()
    shapes = published_shapes({name: tuple(value.shape) for name, value in own})
    return {"prompt_learner": drawn(shapes)}


def made(method: str, clips: dict[str, str]) -> tuple[object, Method]:
    """A file's content, and the method that the authors' numbers make by `from_published`."""
    clip = load_clip(parse_clip(clips[method]))
    if method == "tipsomaly":
        prompts = tipsomalys(clip.text_width)
        return prompts, tipsomaly_from_published(clip, list(prompts), "metal plate")
    if method == "vip2clip":
        content = vip2clips(clip)
        return content, vip2clip_from_published(clip, content["prompt_learner"], content["Zero_try"])
    content = copss(clip)
    return content, cops_from_published(clip, content["prompt_learner"], **CopsLayout.settings["mvtec"])


def told(arguments: list[str], capfd) -> str:
    """What the command says when it fails."""
    assert main(["import", *arguments]) == 1
    return capfd.readouterr().err


# Whole files


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("method", ["tipsomaly", "vip2clip", "cops"])
def test_an_imported_checkpoint_reads_as_the_authors_numbers_do(method, legacy, clips, tmp_path, capfd):
    content, expected = made(method, clips)
    source, out = tmp_path / "published.pth", tmp_path / "ours.safetensors"
    if legacy and method == "tipsomaly":
        content = {"learnable_prompts": list(content)}  # what torch saved so long ago brings a class's source along
    torch.save(content, source, _use_new_zipfile_serialization=not legacy)
    options = ["--method", method, "--from", str(source), "--out", str(out), "--backbone", clips[method]]
    options += ["--image-size", str(SIDE), "--class-name", "metal plate", "--trained-on", "mvtec"]
    assert main(["import", *options]) == 0
    said = capfd.readouterr()
    assert "not measured: calibrate" in said.out
    assert "only `trainer evaluate` tells" in said.err
    detector = Loader().detector(clips[method], out, class_name="metal plate")
    assert type(detector.method) is type(expected)
    readings = detector.read(PICTURES)
    with torch.inference_mode():
        clip = expected.eval().backbone
        x = clip.pictures(PICTURES, SIDE)
        scores = expected.scores(expected(clip.encode_image(x, expected.layers, values=expected.values)))
        maps = scoring.heatmaps(scores.patches, SIDE, expected.sigma, expected.upsampling)
    assert [reading.score for reading in readings] == pytest.approx(scores.picture.tolist(), abs=1e-6)
    np.testing.assert_allclose([reading.heatmap for reading in readings], maps.numpy(), atol=1e-5)
    assert readings[0].score != readings[1].score


def test_the_header_says_where_it_is_from_and_that_nobody_measured_its_thresholds(clips, tmp_path):
    content, _ = made("cops", clips)
    source, out = tmp_path / "epoch_10.pth", tmp_path / "ours.safetensors"
    torch.save(content, source)
    import_checkpoint(read_published(source, "cops"), load_clip(parse_clip(clips["cops"])), out, trained_on="visa")
    header = load_checkpoint(out).header
    assert header["imported_from"]["file"] == "epoch_10.pth"
    assert header["threshold"] == header["map_threshold"] == 0.5
    assert "not measured: calibrate" in header["advice"]
    assert "VisA" in header["fitted_on"]
    assert (header["pool"], header["alpha"], header["beta"]) == (5, 0.26, 0.9)
    assert header["image_size"] == 520  # the papers' 518, in whole patches of 8


def test_an_imported_checkpoint_meets_the_authors_own_numbers(tmp_path):
    arrays, config = vectors.load("cops_k3")
    clip = vectors.clip(config)
    source, out = tmp_path / "published.pth", tmp_path / "ours.safetensors"
    torch.save({"prompt_learner": published_prompts(clip)}, source)
    import_checkpoint(read_published(source, "cops"), clip, out, trained_on="mvtec", image_size=config["size"])
    method = PromptDetector(clip, load_checkpoint(out), "object").method
    with torch.inference_mode():
        x = clip.pictures(vectors.pictures(config), config["size"])
        found = method(clip.encode_image(x, values=1))
    # Their text features are of other draws of the VAE; all before them is the same.
    for ours, theirs in (
        (found.patches, "patches"),
        (found.prototypes[:, 0], "proto_n"),
        (found.prototypes[:, 1], "proto_a"),
    ):
        np.testing.assert_allclose(ours.numpy(), arrays[theirs], atol=vectors.TOLERANCE, rtol=0)


@pytest.mark.parametrize("content", [tipsomalys(256), {"learnable_prompts": tipsomalys(256)}])
def test_tipsomalys_prompts_come_in_a_list_or_in_a_dict(content, tmp_path):
    source, out = tmp_path / "learnable_params_2.pth", tmp_path / "ours.safetensors"
    torch.save(content, source)
    assert (
        main(["import", "--method", "tipsomaly", "--from", str(source), "--out", str(out), "--backbone", "embedded"])
        == 0
    )
    detector = Loader().detector(checkpoint=out)
    assert torch.equal(detector.method.prompt.detach(), torch.stack([one.detach() for one in tipsomalys(256)]))
    (reading,) = detector.read(PICTURES[:1])
    assert 0 <= reading.score <= 1


def test_what_is_allowed_while_importing_is_not_afterwards(tmp_path):
    source = tmp_path / "prompts.pth"
    torch.save(tipsomalys(256), source)
    read_published(source, "tipsomaly")
    assert nn.ParameterList not in torch.serialization.get_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(source, weights_only=True)


# Files that want code to be run


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def zipped(content: object, path: Path) -> None:
    torch.save(content, path)


def legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def protocol_4(content: object, path: Path) -> None:
    torch.save(content, path, pickle_protocol=4)


@pytest.mark.parametrize("save", [zipped, legacy, plain, protocol_4])
@pytest.mark.parametrize("method", ["tipsomaly", "vip2clip", "cops"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(save, method, tmp_path, capfd):
    canary = tmp_path / "canary"
    hidden = nn.ParameterList([nn.Parameter(torch.zeros(8, 4))])
    hidden.extra = Malicious(canary)
    contents = [Malicious(canary), {"prompt_learner": {"ctx_pos": Malicious(canary)}, "Zero_try": {}}, hidden]
    for content in contents:
        source = tmp_path / "published.pth"
        save(content, source)
        arguments = ["--method", method, "--from", str(source), "--out", str(tmp_path / "ours.safetensors")]
        said = told(arguments, capfd)
        assert "published.pth" in said
        assert "would call posix.system" in said or (content is hidden and save is not zipped)
        assert not canary.exists()
    journal_errors = pickle.dumps(Malicious(canary))
    pickle.loads(journal_errors)  # so much for the canary: it does sing  # noqa: S301
    assert canary.exists()
    assert not (tmp_path / "ours.safetensors").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "torch.load", "subprocess.Popen", "torch.hub.load", "numpy.load"])
def test_the_refused_name_is_said_with_the_remedy(name, tmp_path, capfd):
    module, function = name.rsplit(".", 1)
    source = tmp_path / "published.pth"
    source.write_bytes(b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"X\x01\x00\x00\x00x\x85R.")
    said = told(["--method", "cops", "--from", str(source), "--out", str(tmp_path / "x.safetensors")], capfd)
    assert f"would call {name.removeprefix('builtins.')}" in said
    assert "take the one that the authors publish" in said


@pytest.mark.parametrize("extra", [argparse.Namespace(lr=0.1), np.float64(0.3), Path("data")])
def test_settings_saved_beside_the_prompts_are_refused_with_how_to_save_without_and_without_suspicion(
    extra, tmp_path, capfd
):
    source = tmp_path / "published.pth"
    torch.save({"learnable_prompts": list(tipsomalys(8)), "args": extra}, source)
    said = told(["--method", "tipsomaly", "--from", str(source), "--out", str(tmp_path / "x.safetensors")], capfd)
    assert "published.pth: holds " in said
    assert "torch.save the dict of tensors alone" in said
    assert "trust" not in said


# Files that are damaged, of something else, or for something else


def test_prompts_of_anomalyclip_are_not_taken_for_those_of_cops(tmp_path):
    learned = {"ctx_pos": (1, 1, 12, 8), "ctx_neg": (1, 1, 12, 8), "compound_prompts_text.0": (4, 8)}
    learned["compound_prompt_projections.0.weight"] = (8, 8)
    source = tmp_path / "anomalyclip.pth"
    torch.save({"prompt_learner": drawn(learned)}, source)
    for method in ("tipsomaly", "cops"):
        with pytest.raises(CheckpointError, match=r"holds prompts of AnomalyCLIP, not of .*: say --method anomalyclip"):
            read_published(source, method)


def test_a_folder_or_the_settings_beside_the_prompts_stand_for_the_file(tmp_path, capfd):
    run, out = tmp_path / "run", tmp_path / "x.safetensors"
    run.mkdir()
    (run / "args.txt").write_text("epoch: 10")
    assert "run: has no .pth in it" in told(["--method", "tipsomaly", "--from", str(run), "--out", str(out)], capfd)
    torch.save(tipsomalys(1024), run / "epoch_10.pth")
    assert prompts_file(run) == prompts_file(run / "args.txt") == run / "epoch_10.pth"
    assert prompts_file(run / "epoch_9.pth") == run / "epoch_9.pth"
    torch.save(tipsomalys(1024), run / "epoch_11.pth")
    with pytest.raises(CheckpointError, match=r"2 files of prompts \(epoch_10\.pth, epoch_11\.pth\): name one"):
        prompts_file(run)


@pytest.mark.parametrize("legacy_format", [False, True])
def test_a_file_cut_anywhere_is_an_error_that_names_it(legacy_format, tmp_path):
    whole = io.BytesIO()
    torch.save({"learnable_prompts": list(tipsomalys(16))}, whole, _use_new_zipfile_serialization=not legacy_format)
    data, source = whole.getvalue(), tmp_path / "cut.pth"
    for length in [0, 1, 10, *range(50, len(data) - 8, 97)]:
        source.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pth"):
            read_published(source, "tipsomaly")


def test_bytes_that_were_changed_make_an_error_or_other_numbers_and_nothing_else(tmp_path):
    whole = io.BytesIO()
    torch.save({"learnable_prompts": list(tipsomalys(4))}, whole, _use_new_zipfile_serialization=False)
    data, source = whole.getvalue(), tmp_path / "changed.pth"
    draw = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        for place in draw.integers(0, len(data), 3):
            changed[place] = draw.integers(256)
        source.write_bytes(changed)
        try:
            read_published(source, "tipsomaly")
        except CheckpointError as error:
            assert "changed.pth" in str(error)  # noqa: PT017 - it may also be read


def pointer(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 19141911\n")


def tar(path: Path) -> None:
    with tarfile.open(path, "w"):
        pass


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (pointer, "git lfs pull"),
        (tar, "not a whole file of torch.save"),
        (lambda path: path.write_text("<!DOCTYPE html><html>"), "not a whole file of torch.save"),
        (lambda path: path.mkdir(), "has no .pth in it: name the file"),
        (lambda path: None, "No such file"),
        (lambda path: torch.save({"state_dict": {}, "epoch": 3}, path), "a dict of 'state_dict', 'epoch'"),
        (lambda path: torch.save(torch.zeros(3), path), "a Tensor"),
        (lambda path: torch.save({}, path), "an empty dict"),
        (lambda path: torch.save({"prompt_learner": [1]}, path), "no dict of tensors"),
        (lambda path: torch.save({"prompt_learner": {"ctx_pos": 1}}, path), "prompt_learner['ctx_pos'] is no ordinary"),
        (
            lambda path: torch.save({"prompt_learner": {"ctx_pos": torch.zeros(2, device="meta")}}, path),
            "prompt_learner['ctx_pos'] is no ordinary",
        ),
        (lambda path: torch.save({"prompt_learner": {}}, path), "ctx_pos is missing"),
    ],
)
def test_what_is_no_file_of_prompts_is_said_with_what_it_is(write, said, clips, tmp_path, capfd):
    source = tmp_path / "published.pth"
    write(source)
    arguments = ["--method", "cops", "--from", str(source), "--out", str(tmp_path / "x.safetensors")]
    complaint = told([*arguments, "--backbone", clips["cops"], "--trained-on", "visa"], capfd)
    assert said in complaint
    assert str(source) in complaint
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("method", ["tipsomaly", "vip2clip", "cops"])
@pytest.mark.parametrize("named", ["tipsomaly", "vip2clip", "cops"])
def test_prompts_of_another_method_are_told_by_its_name(method, named, clips, tmp_path):
    if method == named:
        return
    source = tmp_path / "published.pth"
    torch.save(made(method, clips)[0], source)
    with pytest.raises(CheckpointError, match=f"say --method {method}"):
        read_published(source, named)


def test_what_cops_was_trained_on_must_be_said(clips, tmp_path, capfd):
    source = tmp_path / "published.pth"
    torch.save(made("cops", clips)[0], source)
    arguments = ["--method", "cops", "--from", str(source), "--out", str(tmp_path / "x.safetensors")]
    assert "say --trained-on mvtec or visa" in told([*arguments, "--backbone", clips["cops"]], capfd)


@pytest.mark.parametrize(
    ("method", "width", "named"),
    [
        ("tipsomaly", 1024, "they would fit tips-l14, tips2-l14"),
        ("tipsomaly", 1152, "they would fit tips-so400m14, tips2-so400m14"),
        ("cops", 768, "they would fit clip:ViT-L-14-336/openai, clip:ViT-L-14/openai"),
        ("vip2clip", 768, "they would fit clip:ViT-L-14-336/openai"),
        ("vip2clip", 100, "no backbone known here"),
    ],
)
def test_prompts_of_another_width_say_which_backbone_they_would_fit(method, width, named, tmp_path, capfd):
    source = tmp_path / "published.pth"
    state = {"ctx_pos": torch.zeros(9, width)}
    contents = {
        "tipsomaly": {"learnable_prompts": tipsomalys(width)},
        "cops": {"prompt_learner": state},
        "vip2clip": {"prompt_learner": state, "Zero_try": {}},
    }
    torch.save(contents[method], source)
    arguments = ["--method", method, "--from", str(source), "--out", str(tmp_path / "x.safetensors")]
    said = told([*arguments, "--backbone", "embedded", "--trained-on", "visa"], capfd)
    assert f"tokens of {width} numbers, embedded takes 256" in said
    assert named in said


def test_the_authors_own_backbones_fit_their_files():
    assert backbones_of_width("tipsomaly", 1024)[0] == "tips-l14"
    assert backbones_of_width("vip2clip", 768)[0] == backbones_of_width("cops", 768)[0] == "clip:ViT-L-14-336/openai"


@pytest.mark.parametrize("method", ["vip2clip", "cops"])
def test_a_missing_key_is_named(method, clips, tmp_path, capfd):
    content, _ = made(method, clips)
    del content["prompt_learner"]["ctx_neg"]
    source = tmp_path / "published.pth"
    torch.save(content, source)
    arguments = ["--method", method, "--from", str(source), "--out", str(tmp_path / "x.safetensors")]
    said = told([*arguments, "--backbone", clips[method], "--trained-on", "visa"], capfd)
    assert "ctx_neg is missing" in said
    assert str(source) in said


def test_prompts_that_are_not_two_are_refused(tmp_path, capfd):
    source = tmp_path / "published.pth"
    torch.save(nn.ParameterList([nn.Parameter(torch.zeros(8, 256))] * 3), source)
    arguments = ["--method", "tipsomaly", "--from", str(source), "--out", str(tmp_path / "x.safetensors")]
    assert "where two of (8, 256) are wanted" in told([*arguments, "--backbone", "embedded"], capfd)


def test_numbers_that_are_not_finite_are_refused(tmp_path, capfd):
    source, out = tmp_path / "published.pth", tmp_path / "x.safetensors"
    torch.save(nn.ParameterList([nn.Parameter(torch.full((8, 256), torch.nan))] * 2), source)
    arguments = ["--method", "tipsomaly", "--from", str(source), "--out", str(out), "--backbone", "embedded"]
    assert "not finite" in told(arguments, capfd)
    assert not out.exists()


def test_the_authors_file_is_never_overwritten(tmp_path, capfd):
    source = tmp_path / "published.pth"
    torch.save(tipsomalys(256), source)
    before = source.read_bytes()
    arguments = ["--method", "tipsomaly", "--from", str(source), "--out", str(tmp_path / "." / "published.pth")]
    assert "name another --out" in told([*arguments, "--backbone", str(EMBEDDED_FOLDER)], capfd)
    assert source.read_bytes() == before


def test_a_parameter_list_with_its_source_code_in_it_is_refused(tmp_path):
    """As torch before 1.6 saved it."""
    torch.save(tipsomalys(16), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"Only persistent_load of storage is allowed"):
        read_published(tmp_path / "old.pth", "tipsomaly")


def test_a_parameter_list_whose_inside_is_made_up_is_an_error(tmp_path):
    """Its __setstate__ takes whatever a file says it holds."""
    for inside in (None, 3, ["x"], {"0": "x"}, {0: torch.zeros(8, 16)}):
        listed = nn.ParameterList()
        listed.__dict__["_parameters"] = inside
        torch.save(listed, tmp_path / "made_up.pth")
        with pytest.raises(CheckpointError, match=r"made_up\.pth"):
            read_published(tmp_path / "made_up.pth", "tipsomaly")


def test_a_tensor_that_claims_to_be_huge_is_an_error(clips, tmp_path):
    content, _ = made("cops", clips)
    content["prompt_learner"]["ctx_neg"] = torch.zeros(1).expand(1, 1, 1 << 40, 16)
    torch.save(content, tmp_path / "huge.pth")
    with pytest.raises(CheckpointError, match="ctx_neg is"):
        import_checkpoint(
            read_published(tmp_path / "huge.pth", "cops"),
            load_clip(parse_clip(clips["cops"])),
            tmp_path / "x",
            trained_on="visa",
        )
