"""Run a TensorRT engine over a golden set and write down what it answers, for `edge-agent export --check FILE --answers`.

    python3 golden_engine.py detector.engine detector.golden.npz answers.npz

Needs numpy and the tensorrt module of JetPack (TensorRT 10 or later), on the machine the engine was built on; neither
edge-agent nor torch.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import numpy as np
import tensorrt as trt

INPUT, OUTPUTS = "pictures", ("scores", "maps")
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


class Memory:
    """An array of this process and its place on the GPU."""

    def __init__(self, cuda: ctypes.CDLL, array: np.ndarray) -> None:
        self.cuda, self.array = cuda, np.ascontiguousarray(array)
        self.place = ctypes.c_void_p()
        _require(cuda.cudaMalloc(ctypes.byref(self.place), ctypes.c_size_t(array.nbytes)))

    def copy(self, direction: int) -> None:
        """To the GPU or back; waits for what runs on the default stream."""
        here = ctypes.c_void_p(self.array.ctypes.data)
        to, source = (self.place, here) if direction == TO_DEVICE else (here, self.place)
        _require(self.cuda.cudaMemcpy(to, source, ctypes.c_size_t(self.array.nbytes), direction))


def _require(code: int) -> None:
    if code:
        raise SystemExit(f"CUDA error {code}: see cudaError_t in NVIDIA's documentation")


def answers(engine_file: Path, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """pictures: (n, S, S, 3) uint8. Returns scores (n,) and maps (n, S, S), fp32."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(engine_file.read_bytes())
    if engine is None:
        raise SystemExit(f"{engine_file}: not an engine of this TensorRT ({trt.__version__}) and GPU: build it here")
    context = engine.create_execution_context()
    batch = max(engine.get_tensor_shape(INPUT)[0], 1)  # -1 where it was left open
    context.set_input_shape(INPUT, (batch, *pictures.shape[1:]))
    cuda = ctypes.CDLL("libcudart.so")
    memory = {INPUT: Memory(cuda, np.zeros((batch, *pictures.shape[1:]), np.uint8))}
    for name in OUTPUTS:
        dtype = trt.nptype(engine.get_tensor_dtype(name))
        memory[name] = Memory(cuda, np.zeros(tuple(context.get_tensor_shape(name)), dtype))
    for name, each in memory.items():
        context.set_tensor_address(name, each.place.value)
    found: dict[str, list[np.ndarray]] = {name: [] for name in OUTPUTS}
    for at in range(0, len(pictures), batch):
        some = pictures[at : at + batch]
        memory[INPUT].array[: len(some)] = some
        memory[INPUT].copy(TO_DEVICE)
        if not context.execute_async_v3(0):
            raise SystemExit(f"{engine_file}: did not run; TensorRT says why above")
        for name in OUTPUTS:
            memory[name].copy(TO_HOST)
            found[name].append(memory[name].array[: len(some)].astype(np.float32))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def main() -> None:
    """Write the answers as an .npz file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("golden", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with np.load(options.golden, allow_pickle=False) as golden:
        pictures = golden["pictures"]
    np.savez(options.out, **answers(options.engine, pictures))
    print(f"answers to {len(pictures)} pictures in {options.out}")


if __name__ == "__main__":
    main()
