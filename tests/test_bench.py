"""What `edge-agent bench` tells is so: of the machine, of the work counted from shapes, and of weights that are not here."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu, gpu_parts
from edge_agent.backbones.random_weights import random_backbone
from edge_agent.backbones.tips.random_weights import SHAPES
from edge_agent.cli import main
from edge_agent.diagnostics import bench
from edge_agent.diagnostics.bench import assemble, flop, matrix_rate, measure
from edge_agent.errors import CheckpointError
from edge_agent.inference.detector import PromptDetector

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector() -> PromptDetector:
    return assemble(device="cpu")[0]


def blocks(tokens: int, width: int, depth: int) -> int:
    """Of a plain transformer, by hand: projections of 4 and an MLP of 8 squared widths a token, and attention's two products."""
    return depth * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


@pytest.mark.parametrize(("width", "depth"), [(192, 4), (256, 3)])
def test_work_is_counted_from_shapes_as_by_hand(width, depth, monkeypatch):
    monkeypatch.setitem(SHAPES, "tips-s14", (width, depth))
    (tower, _) = assemble("tips-s14", image_size=14 * 8, device="cpu")
    stem = 2 * 64 * (14 * 14 * 3) * width
    assert flop(tower) == pytest.approx(blocks(64 + 2, width, depth) + stem, rel=0.002)  # and four sentences' cosines


@pytest.mark.parametrize("method", ["vip2clip", "cops"])
def test_every_method_can_be_timed_with_fresh_prompts(method, monkeypatch):
    monkeypatch.setitem(SHAPES, "tips-s14", (64, 12))
    found, _ = assemble("tips-s14", method, image_size=28, device="cpu")
    assert found.info.name == f"{method}/tips-s14"
    assert flop(found) > blocks(4 + 2, 64, 12)
    figures = measure(found, 1, (60, 80), 0.0, 0.001, 0.05)
    assert figures.runs == bench.MIN_RUNS
    assert set(figures.stages_ms) == {"resize", "tower", "method", "map"}


def test_random_weights_stand_in_for_those_that_are_not_here_and_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found, weights = assemble("tips-s14", image_size=28, device="cpu")
    assert weights == "random weights"
    assert found.method.backbone.depth == 12
    assert assemble(device="cpu")[1] == "its own weights"


def test_the_same_seed_makes_the_same_backbone_and_leaves_the_generator_alone(monkeypatch):
    monkeypatch.setitem(SHAPES, "tips-s14", (64, 2))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = random_backbone("tips-s14"), random_backbone("tips-s14")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.vision.vit.pos_embed, other.vision.vit.pos_embed)


def test_backbones_of_unknown_shape_are_named():
    with pytest.raises(CheckpointError, match="tips-l41"):
        assemble("tips-l41", device="cpu")
    with pytest.raises(CheckpointError, match=r"multiples of 16: take 224, not 225"):
        assemble(image_size=225, device="cpu")


def test_the_rate_of_matrices_is_measured_and_not_assumed():
    assert 1e8 < matrix_rate(CPU, torch.float32, 256) < 1e14


def test_utilisation_is_work_done_over_work_possible(detector):
    figures = measure(detector, 2, (100, 120), 0.0, tflop=0.5, matrix_tflops=2.0)
    assert figures.utilisation == pytest.approx(0.25 * figures.pictures_per_s)
    assert figures.p50_ms <= figures.p99_ms
    assert figures.pictures_per_s == pytest.approx(2e3 / figures.p50_ms, rel=0.01)
    assert sum(figures.stages_ms.values()) < 5 * figures.p99_ms


def test_the_command_tells_a_program_all_of_it(capsys):
    assert main(["bench", "--batch", "1,2", "--seconds", "0", "--frame", "160x120", "--device", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["device"].startswith("cpu: ")
    assert told["detector"] == "tipsomaly/embedded"
    assert told["frame"] == "160x120"
    assert [batch["batch"] for batch in told["batches"]] == [1, 2]
    assert all(batch["pictures_per_s"] > 0 for batch in told["batches"])


def test_the_command_tells_a_person(capsys):
    assert main(["bench", "--batch", "1", "--seconds", "0", "--frame", "160x120", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "tipsomaly/embedded with its own weights at 224" in told
    assert "a plain matrix product here makes" in told


@pytest.mark.parametrize("wrong", [["--batch", "0"], ["--batch", "2,x"], ["--frame", "1920"], ["--frame", "ax3"]])
def test_what_makes_no_sense_is_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", *wrong])
    assert ended.value.code == 2
    assert "no whole number" in capsys.readouterr().err


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    """Of the whole measurement of a GPU, on the CPU and tiny."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_scaled_mm", "CPU"):
        pytest.skip("this torch multiplies no fp8 on a CPU")
    folder = tmp_path_factory.mktemp("results")
    assert gpu.main(["--tiny", "--device", "cpu", "--out", str(folder)]) == 0
    (path,) = folder.glob("gpu-tiny-*.json")
    return json.loads(path.read_text())


def test_every_part_of_the_measurement_of_a_gpu_runs(results):
    states = {name: found["state"] for name, found in results["parts"].items()}
    assert states.pop("kernels") == "left out"  # the interpreter is no GPU
    assert set(states.values()) == {"measured"}, results["parts"]
    assert {name.split(",")[0].split(" ")[0] for name in states} == {
        "tipsomaly", "vip2clip", "cops", "as", "half", "fp8", "cameras", "fit"
    }  # fmt: skip
    assert results["device"].startswith("no GPU") or torch.cuda.is_available()
    assert results["commit"]


def test_the_papers_manner_and_ours_find_the_same(results):
    assert results["parts"]["as published, embedded"]["largest_score_apart"] < 0.02


def test_half_precision_and_fp8_are_held_against_full_precision(results):
    for name in ("half precision, embedded", "fp8, embedded"):
        found = results["parts"][name]
        assert found["pictures"] == 4
        assert 0 < found["largest_score_apart"] < 0.1
        assert 0 <= found["verdicts_flipped"] <= 4


def test_every_frame_of_the_simulated_cameras_is_accounted_for(results):
    for name in ("cameras, journal", "cameras, no journal"):
        found = results["parts"][name]
        assert (
            0 <= found["taken"] - found["inspected"] - found["dropped"] <= found["cameras"]
        )  # taken as the line stopped
        assert found["inspected"] > 0


def test_a_part_that_fails_says_why_and_the_rest_is_measured(capsys):
    def broken() -> dict:
        raise RuntimeError("no kernel image is available")

    def elsewhere() -> dict:
        raise gpu_parts.NotHere("needs two of them")

    kept: list[int] = []
    wanted = [("one", broken), ("two", elsewhere), ("three", lambda: {"ratio": 2.5})]
    found = gpu.measured(wanted, lambda results: kept.append(len(results)))
    assert kept == [1, 2, 3]
    told = gpu.table(found)
    assert "failed: RuntimeError: no kernel image is available" in told
    assert "left out: needs two of them" in told
    assert "ratio 2.5" in told


def test_without_a_gpu_the_full_measurement_says_so_and_measures_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path)]) == 1
    assert "no usable GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_all_stages_are_told():
    found, _ = assemble(device="cuda")
    figures = measure(found, 2, (120, 160), 0.1, 0.0025, matrix_rate(found.device, found.dtype, 1024) / 1e12)
    assert set(figures.stages_ms) == {"up", "resize", "tower", "method", "map", "down"}
