"""A detector as one ONNX file: onnxruntime says what torch says, and the gate lets nothing through that says something else."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.model import Clip
from edge_agent.backbones.clip.weights import assembled
from edge_agent.backbones.efficientnet.family import EfficientNetFamily
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.model import TextShape, TextTower, Tips, VisionShape, VisionTower
from edge_agent.backbones.tips.random_weights import VOCABULARY
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.cli import main
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.clip.aprilgan import AprilGan
from edge_agent.detectors.patchcore import PatchCore, describe
from edge_agent.diagnostics.bench import fresh
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import decode
from edge_agent.onnx import export as onnx_export
from edge_agent.onnx import golden
from edge_agent.onnx.export import Graph, export, reference, resized
from edge_agent.onnx.run import OnnxFile
from tests.test_memory import checkpoint_of, shown
from tests.tiny_clip import CONFIG, register, tiny_clip, weights

pytestmark = pytest.mark.skipif(
    not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra [onnx] is not installed",
)

ALLOWED = 1e-3
TIGHT = 2e-5  # of random towers, which tell pictures and patches less apart than a fitted detector does
THRESHOLDS = {"threshold": 0.5, "map_threshold": 0.5}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded detector, as the command writes it."""
    path = tmp_path_factory.mktemp("onnx") / "detector.onnx"
    assert main(["export", "--onnx", str(path), "--class-name", "metal plate"]) == 0
    return path


@pytest.fixture(scope="module")
def detector() -> PromptDetector:
    return Loader().detector(class_name="metal plate", device="cpu", precision="fp32")


def tiny_tips(**more) -> Tips:
    """Random, with every part that a TIPS of ours may have."""
    torch.manual_seed(0)
    vision = VisionTower(VisionShape(64, 1, 128, 4, **more))
    text = TextTower(TextShape(64, 1, 128, VOCABULARY))
    torch.nn.init.normal_(text.token_embedding.weight, std=0.125)
    with torch.no_grad():
        for weight in vision.parameters():
            weight.mul_(3 if weight.ndim > 1 else 1)  # so that patches differ
    tokenizer = Tokenizer(EMBEDDED_FOLDER / "tokenizer.model")
    return Tips(vision, text, tokenizer, 0.02, "tips-tiny").eval().requires_grad_(False)


def small_clip() -> Clip:
    """As tiny_clip, and quicker to export."""
    from open_clip.tokenizer import SimpleTokenizer

    config = {
        **CONFIG,
        "vision_cfg": {**CONFIG["vision_cfg"], "layers": 1},
        "text_cfg": {**CONFIG["text_cfg"], "width": CONFIG["embed_dim"], "layers": 2},
    }
    model = assembled(config, weights(0, config), "made here")
    return Clip(model, SimpleTokenizer(), "clip:small").eval().requires_grad_(False)


def drawn(backbone: Backbone, method: str, size: int) -> PromptDetector:
    return PromptDetector(backbone, fresh(backbone, method, size), "object")


def noise(count: int, size: int) -> np.ndarray:
    """Pictures of noise with a darker square."""
    pictures = np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)
    pictures[:, : size // 2, : size // 2] //= 4
    return pictures


def assert_as_torch(file: OnnxFile, graph: Graph, pictures: np.ndarray) -> None:
    scores, maps = file.read_batch(pictures)
    wanted_scores, wanted_maps = reference(graph, pictures)
    assert np.ptp(wanted_maps) > 0.05  # where all patches are alike any graph passes
    assert scores.dtype == maps.dtype == np.float32
    assert np.abs(scores - wanted_scores).max() <= TIGHT
    assert np.abs(maps - wanted_maps).max() <= TIGHT


def test_the_embedded_detector_says_the_same_of_frames_as_where_it_came_from(exported, detector):
    frames = [decode(path) for path in sorted(golden.SAMPLES.glob("*.jpg"))[:4]]
    frames += list(np.random.default_rng(0).integers(0, 256, (2, 90, 130, 3), np.uint8))
    file = OnnxFile(exported)
    for batch in (1, 4):
        for at in range(0, len(frames), batch):
            some = frames[at : at + batch]
            scores, maps = file.read_batch(resized(detector, some))
            for score, heatmap, reading in zip(scores, maps, detector.read(some), strict=True):
                assert abs(score - reading.score) <= ALLOWED
                assert np.abs(heatmap - reading.heatmap).max() <= ALLOWED


def test_the_file_says_what_it_is_and_where_it_was_made_does_not_stand_in_it(exported, detector):
    import onnx

    model = onnx.load(exported)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["model_sha256"] == detector.info.model_sha256
    assert about["checkpoint_sha256"] == detector.info.checkpoint_sha256
    assert about["class_name"] == "metal plate"
    assert float(about["threshold"]) == detector.info.threshold
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["pictures", "scores", "maps"]
    assert str(Path(golden.__file__).parent).encode() not in exported.read_bytes()


def test_a_mask_another_size_and_all_parts_of_our_own_tips_are_in_the_graph():
    detector = drawn(tiny_tips(patch=8, stem=(8, 16, 24), compared=(0,), contrast=True), "tipsomaly", 48)
    detector.method.contrast = (0.2, 2.0)
    keep = np.ones((10, 10), bool)
    keep[:, 6:] = False
    graph = Graph(detector, keep)
    made = export(detector, graph, **THRESHOLDS, batch=4)
    file = OnnxFile(made.onnx)
    assert_as_torch(file, graph, noise(4, 48))
    scores, maps = file.read_batch(noise(4, 48))
    for score, heatmap, reading in zip(scores, maps, detector.read(noise(4, 48), [keep] * 4), strict=True):
        assert abs(score - reading.score) <= TIGHT
        assert np.abs(heatmap - reading.heatmap).max() <= TIGHT
    assert not maps[:, :, 32:].any()
    assert made.metadata["masked"] == "yes"


def test_clip_at_another_size_and_prompts_that_follow_the_picture_are_in_the_graph():
    detector = drawn(small_clip(), "cops", 48)
    graph = Graph(detector)
    with pytest.raises(EdgeAgentError, match="add --batch 1"):
        export(detector, graph, **THRESHOLDS)
    made = export(detector, graph, **THRESHOLDS, batch=2)
    file = OnnxFile(made.onnx)
    assert_as_torch(file, graph, noise(2, 48))
    scores, maps = file.read(noise(3, 48))  # one more than fits: the second batch is filled up
    np.testing.assert_allclose(scores, reference(graph, noise(3, 48))[0], atol=TIGHT)
    assert maps.shape == (3, 48, 48)
    assert "Resize" not in made.operators  # of positions: no other runtime has torch's


def test_a_method_whose_text_is_fixed_is_in_the_graph_with_its_memory():
    clip = small_clip()
    torch.manual_seed(0)
    detector = PromptDetector(clip, checkpoint_of(shown(AprilGan(clip), 0)), "object", image_size=48)
    graph = Graph(detector)
    file = OnnxFile(export(detector, graph, **THRESHOLDS).onnx)
    pictures = noise(3, 48)
    scores, maps = file.read_batch(pictures)
    wanted_scores, wanted_maps = reference(graph, pictures)
    assert np.ptp(wanted_maps) > 0.005
    assert np.abs(scores - wanted_scores).max() <= TIGHT
    assert np.abs(maps - wanted_maps).max() <= TIGHT


def test_a_second_backbone_is_in_the_graph():
    register()
    clip = tiny_clip(text_width=24)
    detector = PromptDetector(clip, fresh(clip, "craneplus", 48), "object", image_size=48)
    graph = Graph(detector)
    file = OnnxFile(export(detector, graph, **THRESHOLDS).onnx)
    pictures = noise(3, 48)
    scores, maps = file.read_batch(pictures)
    wanted_scores, wanted_maps = reference(graph, pictures)
    assert np.abs(scores - wanted_scores).max() <= TIGHT
    assert np.abs(maps - wanted_maps).max() <= TIGHT


def test_a_bank_of_good_parts_is_in_the_graph_with_every_row():
    backbone = EfficientNetFamily().load("efficientnet-lite0", [])
    pictures = noise(8, 64)
    with torch.inference_mode():
        rows = describe(backbone.encode_image(backbone.pictures(list(pictures), 64), (4, 6)), (4, 6)).flatten(0, 1)
    method = PatchCore(backbone, rows, (4, 6), scale=0.3, patch_scale=0.5)
    header = {"method": "patchcore", "backbone": backbone.name, "backbone_sha256": backbone.sha256, "image_size": 64}
    checkpoint = Checkpoint(header | THRESHOLDS | method.settings(), method.tensors())
    detector = PromptDetector(backbone, checkpoint, "object")
    graph = Graph(detector)
    file = OnnxFile(export(detector, graph, **THRESHOLDS).onnx)
    shown = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    assert_as_torch(file, graph, shown)
    scores, _ = file.read_batch(shown)
    for score, reading in zip(scores, detector.read(list(shown)), strict=True):
        assert abs(score - reading.score) <= ALLOWED  # cells are searched there


def test_a_detector_is_as_it_was_once_it_is_exported():
    detector = drawn(tiny_tips(patch=8), "tipsomaly", 48)
    before = detector.read([noise(1, 48)[0]])[0].score
    graph = Graph(detector)
    graph.method.backbone.fix_grid(detector.grid)  # again: they fit already
    assert detector.method.backbone.image_size == 32
    assert detector.read([noise(1, 48)[0]])[0].score == before
    assert reference(graph, noise(1, 48))[0][0] == pytest.approx(before, abs=1e-6)


def test_windows_are_no_part_of_an_export_and_that_is_said(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("stations: [{name: cam1, source: {folder: .}, detector: {windows: 3}}]\n")
    out = tmp_path / "x.onnx"
    assert main(["export", "--onnx", str(out), "--config", str(config)]) == 1
    assert "station cam1 reads windows, and a graph reads one picture: set windows: 1" in capsys.readouterr().err
    assert not out.exists()


def test_weights_that_no_one_file_holds_are_refused(detector, monkeypatch):
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 20_000_000)
    with pytest.raises(EdgeAgentError, match=r"embedded has 0\.0 GB of weights, and one ONNX file holds 2"):
        export(detector, Graph(detector), **THRESHOLDS)


def test_the_gate_lets_the_file_through_that_was_exported(exported, capsys):
    assert main(["export", "--check", str(exported)]) == 0
    assert capsys.readouterr().out.startswith("passed: ")


def test_the_gate_stops_a_file_whose_weights_changed(exported, tmp_path, capsys):
    import onnx

    model = onnx.load(exported)
    weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.05), weight.name))
    broken = tmp_path / "broken.onnx"
    onnx.save(model, broken)
    golden.golden_path(broken).write_bytes(golden.golden_path(exported).read_bytes())
    assert main(["export", "--check", str(broken)]) == 1
    assert capsys.readouterr().out.startswith("FAILED: ")


def test_the_gate_takes_the_answers_of_another_runtime(exported, tmp_path, capsys):
    kept = golden.load(golden.golden_path(exported))
    told = tmp_path / "answers.json"
    command = ["export", "--check", str(exported), "--answers", str(told)]
    told.write_text(json.dumps({"scores": kept.scores.tolist()}))
    assert main(command) == 0
    assert "maps not given" in capsys.readouterr().out
    away = np.where(kept.scores < kept.threshold, -0.004, 0.004)  # so that no verdict flips
    told.write_text(json.dumps({"scores": (kept.scores + away).tolist()}))
    assert main(command) == 1
    assert main([*command, "--tolerance", "0.005"]) == 0
    arrays = tmp_path / "answers.npz"
    maps = kept.maps.copy()
    maps[3, 10, 10] += 0.5
    np.savez(arrays, scores=kept.scores, maps=maps)
    capsys.readouterr()
    assert main(["export", "--check", str(exported), "--answers", str(arrays)]) == 1
    assert f"maps by 0.5 ({kept.names[3]})" in capsys.readouterr().out


def made_up(scores: list[float]) -> golden.Golden:
    names = [f"picture {number}" for number in range(len(scores))]
    pictures, maps = np.zeros((len(scores), 2, 2, 3), np.uint8), np.zeros((len(scores), 2, 2), np.float32)
    return golden.golden_set({"threshold": "0.5"}, names, pictures, np.array(scores, np.float32), maps)


def test_a_verdict_that_flips_fails_however_small_the_difference():
    kept = made_up([0.1, 0.498])
    found = golden.compare(kept, np.array([0.1, 0.501], np.float32), kept.maps, 5e-3)
    assert (found.passed, found.flipped) == (False, ("picture 1",))
    assert golden.compare(kept, np.array([0.1, 0.499], np.float32), kept.maps, 5e-3).passed


def test_a_picture_that_rounding_alone_could_flip_is_not_in_the_set():
    assert made_up([0.1, 0.4999999, 0.7]).names == ["picture 0", "picture 2"]


@pytest.mark.parametrize("where", ["scores", "maps"])
def test_a_number_that_is_none_fails(where):
    kept = made_up([0.1, 0.7])
    answers = {"scores": kept.scores.copy(), "maps": kept.maps.copy()}
    answers[where][1] = np.nan
    assert not golden.compare(kept, answers["scores"], answers["maps"], 1.0).passed


def test_answers_of_too_few_pictures_are_no_answers():
    kept = made_up([0.1, 0.7])
    with pytest.raises(EdgeAgentError, match="run all of its pictures"):
        golden.compare(kept, kept.scores[:1], None)


def test_a_golden_set_of_another_export_is_told(exported):
    kept = golden.load(golden.golden_path(exported))
    with pytest.raises(EdgeAgentError, match="class_name is 'bolt'"):
        golden.require_same_export(kept, {**kept.metadata, "class_name": "bolt"}, "other.onnx")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"PK damaged", "npz"), (b"", "npz")],
    ids=["none", "damaged", "empty"],
)
def test_a_golden_set_that_is_none_is_named_with_a_remedy(tmp_path, content, said, capsys):
    if content is not None:
        (tmp_path / "x.golden.npz").write_bytes(content)
    assert main(["export", "--check", str(tmp_path / "x.onnx")]) == 1
    told = capsys.readouterr().err
    assert "x.golden.npz" in told
    assert said in told


def test_a_file_that_is_no_onnx_is_named(exported, tmp_path, capsys):
    golden.golden_path(tmp_path / "x.onnx").write_bytes(golden.golden_path(exported).read_bytes())
    (tmp_path / "x.onnx").write_bytes(b"no such thing")
    assert main(["export", "--check", str(tmp_path / "x.onnx")]) == 1
    assert "x.onnx: not an ONNX file" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert main(["export", "--onnx", str(tmp_path / "x.onnx")]) == 1
    assert "pip install 'edge-agent[onnx]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_table_still_needs_a_file(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--since", "2026-11-20"])
    assert ended.value.code == 2
    assert "--out" in capsys.readouterr().err
