"""Fused GPU kernels in Triton, each beside a reference in plain torch that gives the same anywhere; triton is optional.

A device uses the kernels only if they gave what their references gave in a check on it; where they did not, or cannot be
built, the references are used and the log says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import torch

log = logging.getLogger(__name__)


class Kernel:
    """A function in Triton's language, compiled when it is first launched: triton is not installed everywhere, and takes 80 MB.

    Its module's `tl` becomes triton.language then.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        return self.built[grid]

    @cached_property
    def built(self) -> Any:
        """The compiled function. Raises ImportError where triton is not installed."""
        self._function.__globals__["tl"] = import_module("triton.language")
        return import_module("triton").jit(self._function)


@cache
def usable(device: torch.device) -> bool:
    """Whether kernels run on this device and give what their references give. Checked once; not while a graph is captured."""
    if device.type != "cuda":
        return False
    from edge_agent.kernels.proof import differences

    try:
        wrong = [name for name, (found, allowed) in differences(device).items() if not found <= allowed]
    except Exception as error:  # of the compiler, the driver or an old card: the references work
        wrong = [f"{type(error).__name__}: {str(error)[:200]}"]
    if wrong:
        log.warning("%s: plain torch instead of our kernels, slower but the same (%s)", device, ", ".join(wrong))
    return not wrong
