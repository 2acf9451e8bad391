"""A function of tensors of fixed shapes, recorded once as a CUDA graph so that calling it again costs the CPU nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

WARM_UPS = 3  # calls before recording, in which libraries choose their ways and set up what they need

Outputs = tuple[Tensor, ...]


def record(
    function: Callable[..., Outputs], inputs: Sequence[Tensor | None], pool: Any = None
) -> Callable[[], Outputs]:
    """Returns what computes function(*inputs) of whatever is then in `inputs`; its outputs are the same tensors each time.

    To be called by the thread that recorded. pool: memory that several graphs share, as they never run at once. Off a GPU,
    and where recording fails (the log says why), it is the function itself.
    """
    device = next(one for one in inputs if one is not None).device
    if device.type != "cuda":
        return lambda: function(*inputs)
    before, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    aside.wait_stream(before)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            function(*inputs)
    before.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        # Only this thread's calls are recorded: others may load models or pin memory meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            outputs = function(*inputs)
    except RuntimeError as error:
        log.warning("%s: reading without a CUDA graph, slower but the same (%s)", device, str(error).splitlines()[0])
        return lambda: function(*inputs)

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay
