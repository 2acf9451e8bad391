"""Each kernel gives what its plain torch twin gives: under Triton's interpreter where there is no GPU, and on a GPU.

The interpreter has to be chosen before triton is imported, so one test runs the others in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.kernels import bands, heatmap, nearest, pictures, scoring, similarity
from edge_agent.kernels.proof import usable

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TRITON = importlib.util.find_spec("triton") is not None
CLIP = Preprocessing("bicubic", True, (0.481, 0.458, 0.408), (0.269, 0.261, 0.276))
LEVEL = 1 / 255
CPU = torch.device("cpu")

needs_triton = pytest.mark.skipif(not TRITON, reason="needs triton")
interpreted = pytest.mark.skipif(not INTERPRETED, reason="run by the test that starts the interpreter")


def where(*arguments: object) -> list:
    """The same cases on the CPU, interpreted, and on a GPU."""
    gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
    return [
        pytest.param(*arguments, "cpu", marks=interpreted),
        pytest.param(*arguments, "cuda", marks=gpu),
    ]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is it")
def test_under_the_interpreter_all_kernels_equal_their_twins():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not gpu", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


SIZES = [
    ((2, 41, 60), 23),  # both axes shrink
    ((1, 10, 21), 25),  # both grow
    ((3, 28, 28), 28),  # nothing to do
    ((1, 97, 5), 14),  # one of each, and a block that the output does not fill
    ((1, 1, 1), 7),
]


@pytest.mark.parametrize(("preprocessing", "tolerance"), [(Preprocessing(), 1e-3), (CLIP, LEVEL / 0.261 + 2e-3)])
@pytest.mark.parametrize(("shape", "size", "device"), [one for case in SIZES for one in where(*case)])
def test_frames_become_the_pictures_of_plain_torch(shape, size, device, preprocessing, tolerance):
    frames = bytes_of(shape).to(device)
    ours, theirs = (torch.empty(shape[0], 3, size, size, dtype=torch.float16, device=device) for _ in range(2))
    pictures.kernel(frames, preprocessing, ours)
    pictures.reference(frames, preprocessing, theirs)
    assert apart(ours, theirs) <= tolerance  # bicubic: a half of a level may be rounded either way
    assert (ours != theirs).float().mean() < 0.01


@pytest.mark.parametrize("device", [one for case in [()] for one in where(*case)])
def test_a_window_of_a_larger_frame_needs_no_copy(device):
    frames = bytes_of((2, 80, 70)).to(device)[:, 7:60:2, 3:66]
    assert not frames.is_contiguous()
    ours, theirs = (torch.empty(2, 3, 21, 21, device=device) for _ in range(2))
    pictures.kernel(frames, Preprocessing(), ours)
    pictures.reference(frames.contiguous(), Preprocessing(), theirs)
    assert apart(ours, theirs) < 1e-5


FEATURES = [
    ((2, 37, 96), torch.float16, 2),
    ((1, 8, 256), torch.float32, 1),  # whole blocks
    ((3, 9, 257), torch.bfloat16, 3),  # tails of one
    ((2, 1, 3), torch.float32, 1),
]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(("shape", "dtype", "rows", "device"), [one for case in FEATURES for one in where(*case)])
def test_patches_are_compared_as_in_plain_torch(shape, dtype, rows, device, kept):
    features, states = (30 * normal(*shape)).to(device, dtype), unit(normal(rows, 2, shape[2])).to(device)
    keep = (normal(*shape[:2]) > 0).to(device) if kept else None
    ours, theirs = (way(features, states, 0.07, keep) for way in (similarity.kernel, similarity.reference))
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert apart(one, other) < 1e-5


BANKS = [
    ((37, 96), 70, torch.float16),
    ((64, 32), 64, torch.float32),  # whole tiles
    ((1, 3), 1, torch.float32),
]


@pytest.mark.parametrize(("shape", "rows", "dtype", "device"), [one for case in BANKS for one in where(*case)])
def test_the_nearest_row_of_a_bank_lies_as_far_as_in_plain_torch(shape, rows, dtype, device):
    patches, bank = (unit(normal(*one)).to(device, dtype) for one in (shape, (rows, shape[1])))
    ours, theirs = nearest.kernel(patches, bank), nearest.reference(patches, bank)
    assert ours.shape == theirs.shape
    assert apart(ours, theirs) < 1e-3


@pytest.mark.parametrize("device", [one for case in [()] for one in where(*case)])
def test_patches_may_lie_apart_and_may_be_nothing(device):
    features = normal(2, 40, 64).half().to(device).transpose(0, 1)[::3, :, :50]  # 14 rows of 2
    features[3, 1] = 0  # no length at all
    states = unit(normal(1, 2, 50)).to(device)
    ours, theirs = (way(features, states, 0.07) for way in (similarity.kernel, similarity.reference))
    assert apart(ours.probability, theirs.probability) < 1e-5
    assert float(ours.probability[3, 1]) == 0.5


@pytest.mark.parametrize("device", [one for case in [()] for one in where(*case)])
def test_where_no_patch_counts_the_highest_is_nothing(device):
    features, states = normal(2, 5, 8).to(device), unit(normal(1, 2, 8)).to(device)
    keep = torch.tensor([[False] * 5, [True] * 5], device=device)
    peak = similarity.kernel(features, states, 0.07, keep).peak
    assert float(peak[0]) == 0 < float(peak[1])


MAPS = [
    ((2, 5, 5), 70, 4.0, "bilinear"),
    ((1, 5, 9), 45, 8.0, "bilinear"),
    ((2, 3, 3), 42, 4.0, "nearest"),
    ((1, 5, 3), 44, 8.0, "nearest"),
    ((1, 2, 2), 14, 8.0, "bilinear"),
    ((1, 4, 4), 40, 0.0, "bilinear"),  # no blur
    ((1, 3, 3), 12, 300.0, "bilinear"),  # a blur wider than the map
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("shape", "size", "sigma", "kind", "device"), [one for case in MAPS for one in where(*case)])
def test_maps_are_those_of_plain_torch(shape, size, sigma, kind, device, dtype):
    patches = torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(device)
    ours, theirs = (way(patches, size, sigma, kind, dtype) for way in (heatmap.kernel, heatmap.reference))
    assert ours.dtype == dtype
    assert apart(ours, theirs) < (1e-5 if dtype == torch.float32 else 1e-3)


def test_the_twins_are_the_present_path():
    frames = np.random.default_rng(0).integers(0, 256, (2, 61, 90, 3), np.uint8)
    out = torch.empty(2, 3, 28, 28)
    pictures.reference(torch.from_numpy(frames), Preprocessing(), out)
    assert apart(out, pictures_to_tensor(list(frames), 28, CPU)) <= LEVEL  # the CPU resizes bytes, and rounds twice
    features, states = normal(2, 9, 16), unit(normal(2, 16))
    found = similarity.reference(features, states.unsqueeze(0), 0.07).probability
    torch.testing.assert_close(found, scoring.anomalous_probability(features, states, 0.07))


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("length", "size"), [(50, 21), (21, 50), (9, 9), (1, 5), (5, 1)])
def test_a_band_is_the_whole_map(length, size, kind):
    found = bands.resampling(length, size, kind, CPU)
    line = torch.rand(1, 1, length, 4, generator=torch.Generator().manual_seed(2))
    reach = found.first.long().unsqueeze(1) + torch.arange(found.taps)
    assert int(reach.max()) < length
    resized = torch.nn.functional.interpolate(line, size=(size, 4), mode=kind, antialias=True, align_corners=False)
    ours = (line[0, 0, reach] * found.weights.T.unsqueeze(2)).sum(dim=1)
    torch.testing.assert_close(ours, resized[0, 0], atol=1e-5, rtol=0)


def test_a_machine_without_a_gpu_takes_the_twins():
    assert not usable(CPU)


@pytest.mark.skipif(INTERPRETED, reason="has a process of its own")
def test_a_machine_without_triton_takes_the_twins():
    code = (
        "import sys; sys.modules['triton'] = None; import torch\n"
        "from edge_agent.kernels import fused\n"
        "assert not fused.usable(torch.device('cuda'))\n"
        "print(fused.compare(torch.ones(1, 2, 4), torch.eye(4)[None, :2], 0.07).probability.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[[0.5, 0.5]]", done.stderr
    assert "plain torch instead of our kernels" in done.stderr


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", [75, 87])  # Turing, where fp16 begins to pay; Jetson Orin
def test_the_kernels_compile_for_cards_that_are_not_here(capability, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    bands_of = {"first_y": "*i32", "weights_y": "*fp32", "first_x": "*i32", "weights_x": "*fp32"}
    cases = [
        (pictures._kernel, {"frames": "*u8", "out": "*fp16", **bands_of}, {"LEVELS": True, "BLOCK": pictures.BLOCK}),
        (
            nearest._kernel,
            {"patches": "*fp16", "bank": "*fp16", "found": "*fp32"},
            {"QUERIES": nearest.QUERIES, "ROWS": nearest.ROWS, "NUMBERS": nearest.NUMBERS},
        ),
        (
            similarity._kernel,
            {"features": "*fp16", "states": "*fp32", "keep": "*u8", "made": "*fp32", "peak": "*fp32"},
            {"KEEP": True, "PATCHES": similarity.PATCHES, "NUMBERS": similarity.NUMBERS},
        ),
        (heatmap._kernel, {"patches": "*fp32", "out": "*fp16", **bands_of}, {"BLOCK": heatmap.BLOCK}),
    ]
    for kernel, pointers, constants in cases:
        floats = dict.fromkeys(
            (name for name in kernel.built.arg_names if name[:5] in ("scale", "shift", "sharp", "eps")), "fp32"
        )
        signature = {name: "constexpr" if name in constants else {**pointers, **floats}.get(name, "i32")
                     for name in kernel.built.arg_names}  # fmt: skip
        made = compile(ASTSource(kernel.built, signature, constants), target=GPUTarget("cuda", capability, 32))
        assert made.asm["cubin"]


def bytes_of(shape: tuple[int, int, int]) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(shape)))


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())
