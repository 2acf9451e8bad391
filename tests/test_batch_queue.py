"""The batch queue, run here on the CPU: pictures up, readings down; and that nothing in it makes a GPU wait for the CPU."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.detectors.methods import lookup
from edge_agent.detectors.tipsomaly import LocalEvidence, Tipsomaly
from edge_agent.inference import batch_queue
from edge_agent.inference.batch_queue import BatchQueue, batch_sizes, grouped
from edge_agent.inference.cuda_graph import capture
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader, load_detector
from edge_agent.kernels import fused
from tests.tiny_clip import tiny_clip

LEVEL = 1 / 255


@pytest.fixture(scope="module")
def detector() -> PromptDetector:
    return Loader().detector()


@pytest.fixture
def queue(detector) -> BatchQueue:
    """As on a GPU, but without pinned memory and streams."""
    backbone = detector.method.backbone
    return BatchQueue(
        detector.predict,
        backbone.preprocessing,
        detector.info.image_size,
        detector.grid,
        torch.float32,
        detector.device,
    )


def picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_alike(ours, theirs, atol: float = 0.02):
    """The CPU resizes bytes and rounds twice on the queue, a GPU never: that much may differ, and no more."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.score == pytest.approx(other.score, abs=atol)
        assert one.heatmap.dtype == np.float32
        np.testing.assert_allclose(one.heatmap, other.heatmap, atol=5 * atol)


def test_pictures_of_many_sizes_come_back_in_their_order(detector, queue):
    images = [picture(0), picture(1), picture(2, 90, 70), picture(3, 224, 224), picture(4)]
    assert_alike(queue.start(images)(), detector.read(images))


def test_pictures_of_the_detectors_own_size_are_read_alike(detector, queue):
    images = [picture(seed, 224, 224) for seed in range(4)]  # nothing to resize, and a batch without padding
    for one, other in zip(queue.start(images)(), detector.read(images), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)  # a batch is shared out to cores in other pieces
        np.testing.assert_allclose(one.heatmap, other.heatmap, rtol=0, atol=1e-6)


def test_masks_go_along(detector, queue):
    keep = np.ones((64, 64), bool)
    keep[10:40] = False
    images, masks = [picture(1, 224, 224), picture(2, 224, 224)], [keep, None]
    assert_alike(queue.start(images, masks)(), detector.read(images, masks), atol=1e-5)
    assert_alike(queue.start(images)(), detector.read(images), atol=1e-5)  # and are not taken for later pictures


def test_batches_that_were_started_one_after_another_do_not_mix(detector, queue):
    batches = [
        [picture(10 * batch + seed, 224, 224) for seed in range(2)] for batch in range(2 * batch_queue.BUFFERS + 1)
    ]
    under_way = [queue.start(batch) for batch in batches]  # more than there are buffers
    found = [finish() for finish in reversed(under_way)]
    for batch, readings in zip(batches, reversed(found), strict=True):
        assert_alike(readings, detector.read(batch), atol=1e-5)
    assert under_way[0]()[0].score == found[-1][0].score  # asked again


def test_pictures_may_change_once_their_batch_has_started(queue):
    image = picture(5, 224, 224)
    (before,) = queue.start([image])()
    finish = queue.start([image])
    image[:] = 0
    assert finish()[0].score == before.score


def test_more_pictures_than_fit_a_batch_are_read_in_several(queue, monkeypatch):
    monkeypatch.setattr(batch_queue, "MAX_BATCH", 4)
    images = [picture(seed, 224, 224) for seed in range(9)]
    readings = queue.start(images)()
    assert [reading.score for reading in readings] == pytest.approx(
        [queue.start([image])()[0].score for image in images], abs=1e-5
    )


def test_no_pictures_are_no_readings(detector, queue):
    assert queue.start([])() == []


def test_a_batch_that_fails_does_not_block_the_next(detector, queue, monkeypatch):
    monkeypatch.setattr(
        queue, "_captured_for", lambda count, masked: (_ for _ in ()).throw(RuntimeError("out of memory"))
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        queue.start([picture(1)])
    monkeypatch.undo()
    assert_alike(queue.start([picture(1)])(), detector.read([picture(1)]))


def test_a_warm_detector_has_captured_a_graph_for_every_batch(queue):
    queue.warm_up(6)
    assert sorted(count for _, count, _ in queue._captured) == [1, 2, 4, 8]


def test_batches_are_padded_to_powers_of_two():
    assert [batch_sizes(most) for most in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 4], [1, 2, 4, 8]]
    shapes = [(2, 3, 3), (2, 3, 3), (4, 3, 3), (2, 3, 3)]
    assert [len(group) for group in grouped([np.zeros(shape, np.uint8) for shape in shapes])] == [2, 1, 1]


def test_the_detector_starts_and_warms_up_without_a_gpu_too(detector):
    detector.warm_up(4)
    finish = detector.start([picture(6)])
    assert finish()[0].score == detector.read([picture(6)])[0].score


def test_weights_that_are_halved_once_read_as_those_that_are_cast_each_time(detector):
    cast = PromptDetector(Loader().backbone(), load_checkpoint(EMBEDDED_CHECKPOINT), "object", dtype=torch.bfloat16)
    halved = Loader().detector(precision="bf16")
    tower = halved.method.backbone.vision
    assert {weight.dtype for weight in tower.parameters()} == {torch.bfloat16, torch.float32}
    (one,), (other,) = cast.read([picture(7)]), halved.read([picture(7)])
    assert one.score == other.score
    np.testing.assert_array_equal(one.heatmap, other.heatmap)


class _Elsewhere(TorchDispatchMode):
    """Notes operations on tensors that are not on the GPU: a graph cannot capture those, and they make it wait."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, out)) if isinstance(one, Tensor)]
        if any(one.device.type != "cuda" for one in tensors):
            self.noted.add(str(func))
        return out


def on_a_gpu_that_is_not_there(module: nn.Module, fake: FakeTensorMode) -> None:
    """The module's weights become ones without numbers, of the same shapes, that say they are on a GPU."""
    for part in module.modules():
        for weights in (part._parameters, part._buffers):
            for name, value in weights.items():
                if value is not None:
                    with fake:
                        ghost = torch.empty(value.shape, dtype=value.dtype, device="cuda:0")
                    weights[name] = nn.Parameter(ghost, False) if weights is part._parameters else ghost


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="the fake tensors of torch 2.6 ask for a driver")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("backbone", "method"),
    [("tips", "tipsomaly"), ("tips", "vip2clip"), ("tips", "cops"), ("clip", "tipsomaly"), ("clip", "vip2clip")],
)
def test_all_that_is_captured_is_on_the_gpu(detector, backbone, method, masked, monkeypatch):
    monkeypatch.setattr(fused, "usable", lambda device: False)
    tower = copy.deepcopy(detector.method.backbone if backbone == "tips" else tiny_clip())
    tower.encode_text(["loaded by now"])
    own = lookup(method).fresh(tower, "object").eval()
    if isinstance(own, Tipsomaly):  # with all that a fitted one may use
        own.evidence, own.consistency, own.contrast = LocalEvidence((0.02, 0.2), odds=True), (6.0, -1.0), (0.2, 2.0)
    with torch.no_grad():
        own.precompute()
    fake = FakeTensorMode()
    on_a_gpu_that_is_not_there(tower, fake)
    on_a_gpu_that_is_not_there(own, fake)
    ours = copy.copy(detector)
    ours.method, ours.device, ours._encode = own, torch.device("cuda:0"), own.encode
    size = tower.image_size
    ours.info = replace(ours.info, image_size=size)
    with fake, torch.no_grad(), _Elsewhere() as elsewhere:
        kept = [torch.ones(2, side, side, dtype=torch.bool, device="cuda:0") for side in (size // tower.patch, size)]
        scores, maps = ours.predict(torch.empty(2, 3, size, size, device="cuda:0"), *(kept if masked else ()))
    assert scores.shape == (2,)
    assert maps.shape == (2, size, size)
    assert elsewhere.noted == set()


def test_what_could_not_be_captured_would_be_noticed():
    with FakeTensorMode(), _Elsewhere() as elsewhere:
        x = torch.ones(3, device="cuda:0")
        x + torch.tensor([1, 2, 3], device=x.device)
        torch.arange(3).to(x.device)
    assert {"aten.arange.default", "aten._to_copy.default"} <= elsewhere.noted


def test_without_a_gpu_a_captured_function_is_the_function_itself():
    x = torch.ones(2)
    run = capture(lambda x, y: (2 * x,), (x, None))
    x.fill_(3)
    assert run()[0].tolist() == [6, 6]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_reads_through_graphs_what_the_cpu_reads(caplog):
    theirs, ours = load_detector(device="cpu"), load_detector(device="cuda")
    ours.warm_up(4)
    keep = np.ones((64, 64), bool)
    keep[10:40] = False
    images, masks = [picture(1), picture(2, 90, 70), picture(3)], [keep, None, None]
    under_way = [ours.start(images), ours.start(images, masks), ours.start(images[:1])]
    for finish, expected in zip(
        under_way, (theirs.read(images), theirs.read(images, masks), theirs.read(images[:1])), strict=True
    ):
        assert_alike(finish(), expected, atol=0.03)
    assert not caplog.records  # neither kernels nor graphs were given up
