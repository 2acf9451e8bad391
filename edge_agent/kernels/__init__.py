"""What a GPU does in one pass each, in Triton, beside plain torch twins that do the same anywhere; triton itself is optional.

A device uses the kernels once they have met their twins on it; where they do not, or cannot be built, the twins serve and
the log says why.
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
    """A function in Triton's language, built when it is first launched: triton is not there everywhere, and takes 80 MB.

    The function finds triton.language in its module as `tl`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., object]:
        return self.built[grid]

    @cached_property
    def built(self) -> Any:
        """What triton makes of it. Raises ImportError where there is no triton."""
        self._function.__globals__["tl"] = import_module("triton.language")
        return import_module("triton").jit(self._function)


@cache
def usable(device: torch.device) -> bool:
    """Whether kernels run on this device and give what their twins give. Looks once; not while a graph is recorded."""
    if device.type != "cuda":
        return False
    from edge_agent.kernels.proof import differences

    try:
        wrong = [name for name, (found, allowed) in differences(device).items() if not found <= allowed]
    except Exception as error:  # whatever a compiler, a driver or an old card may answer: there is another way
        wrong = [f"{type(error).__name__}: {str(error)[:200]}"]
    if wrong:
        log.warning("%s: plain torch instead of our kernels, slower but as right (%s)", device, ", ".join(wrong))
    return not wrong
