"""A function of tensors of fixed shapes, captured once as a CUDA graph so that calling it again costs the CPU nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

WARM_UPS = 3  # calls before the capture, in which libraries choose algorithms and allocate workspaces

Outputs = tuple[Tensor, ...]


def capture(
    function: Callable[..., Outputs], inputs: Sequence[Tensor | None], pool: Any = None
) -> Callable[[], Outputs]:
    """Capture `function` of `inputs` as a CUDA graph.

    On a CPU, and where the capture fails (the log says why), the function itself is called each time.

    Args:
        function: tensors to tensors, without host synchronisation.
        inputs: what it is called with; the caller copies new values into them before each call.
        pool: graph memory that several graphs share, as they never run at once; None for memory of its own.

    Returns a function that computes `function` of the present values of `inputs`, and returns the same tensors each time.
    Call it on the thread that captured.
    """
    device = next(one for one in inputs if one is not None).device
    if device.type != "cuda":
        return lambda: function(*inputs)
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            function(*inputs)
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Only this thread's calls are captured: others may load models or pin memory meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            outputs = function(*inputs)
    except RuntimeError as error:
        log.warning("%s: reading without a CUDA graph, slower but the same (%s)", device, str(error).splitlines()[0])
        return lambda: function(*inputs)

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay
