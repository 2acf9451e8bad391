"""A kernel in Triton's language, which is compiled only when it is first launched."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any


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
