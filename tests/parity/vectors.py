"""What the authors' own code computed (the .npz files here), and the weights that `recipe` draws for it by their published names."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import torch

from edge_agent.backbones.clip.model import Clip
from edge_agent.backbones.clip.weights import assembled
from edge_agent.backbones.tips import model
from tests.parity import recipe

FOLDER = Path(__file__).parent
TOLERANCE = 1e-4  # absolute, on unit features and maps


def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of one file and its hyper-parameters."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    return arrays, ast.literal_eval(str(arrays.pop("config")))


def meet(
    ours: list[torch.Tensor] | torch.Tensor, name: str, arrays: dict, config: dict, tolerance: float = TOLERANCE
) -> None:
    """Hold what we computed, in batches or at once, to the array of that name: to what is kept of it, every `strides` number."""
    found = (torch.cat(ours) if isinstance(ours, list) else ours).numpy()
    strides = config.get("strides", {}).get(name, (1,) * found.ndim)
    kept = found[tuple(slice(None, None, step) for step in strides)]
    np.testing.assert_allclose(kept, arrays[name], atol=tolerance, rtol=0, err_msg=name)


def drawn(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors with the numbers that the recipe draws for published names; deep prompts are rounded to half precision."""
    arrays = recipe.state_dict(shapes, prefix)
    for name, shape in shapes.items():
        if name.startswith("compound_"):
            arrays[name] = recipe.array(prefix + name, shape, *recipe.scale_for(name, shape), fp16=True)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def tips_vision_arrays(config: dict) -> dict[str, np.ndarray]:
    """A published vision file of the size that `config` says."""
    width = config["dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + config["grid"] ** 2, width),
        "register_tokens": (1, 1, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
    }
    for block in (f"blocks.{index}." for index in range(config["depth"])):
        shapes |= _norm(block + "norm1", width) | _norm(block + "norm2", width)
        shapes |= _linear(block + "attn.qkv", width, 3 * width) | _linear(block + "attn.proj", width, width)
        shapes |= {block + "ls1.gamma": (width,), block + "ls2.gamma": (width,)}
        if config["ffn"] == "swiglu":
            hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
            shapes |= _linear(block + "mlp.w12", width, 2 * hidden) | _linear(block + "mlp.w3", hidden, width)
        else:
            shapes |= _linear(block + "mlp.fc1", width, 4 * width) | _linear(block + "mlp.fc2", 4 * width, width)
    return recipe.state_dict(shapes | _norm("norm", width), "tips.vision.")


def tips_text_arrays(config: dict) -> dict[str, np.ndarray]:
    """A published text file of the size that `config` says."""
    width, hidden = config["tdim"], config["tmlp"]
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (config["vocab"], width)}
    for block in (f"transformer.resblocks.{index}." for index in range(config["tdepth"])):
        shapes |= {block + "attn.in_proj_weight": (3 * width, width), block + "attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(block + "attn.out_proj", width, width)
        shapes |= _linear(block + "mlp.c_fc", width, hidden) | _linear(block + "mlp.c_proj", hidden, width)
        shapes |= _norm(block + "ln_1", width) | _norm(block + "ln_2", width)
    arrays = recipe.state_dict(shapes | _norm("ln_final", width), "tips.text.")
    return {**arrays, "temperature": np.float32(config["temperature"])}


def pictures(config: dict) -> list[np.ndarray]:
    """The (size, size, 3) uint8 RGB pictures the outputs belong to."""
    return [recipe.image(f"img{index}", config["size"], config["size"]) for index in range(config.get("batch", 2))]


def shots(config: dict) -> list[np.ndarray]:
    """The good pictures that were shown, where there were any."""
    return [recipe.image(name, config["size"], config["size"]) for name in config["shots"]]


def prompts(config: dict) -> torch.Tensor:
    """The learned prompts (2, 8, D), normal then anomalous."""
    return torch.from_numpy(np.stack([recipe.array(f"prompt{state}", (8, config["tdim"]), 0.02) for state in (0, 1)]))


def towers(config: dict) -> tuple[model.VisionTower, model.TextTower]:
    """Both towers with those weights, as the loader builds them."""
    arrays, text_arrays = tips_vision_arrays(config), tips_text_arrays(config)
    text_arrays.pop("temperature")
    shape = model.infer_vision_shape(arrays, Path("vision.npz"))
    vision = model.VisionTower(shape)
    vision.load_state_dict(model.vision_from_official(arrays, shape))
    text = model.TextTower(model.infer_text_shape(text_arrays, Path("text.npz")))
    text.load_state_dict({key: torch.from_numpy(value) for key, value in text_arrays.items()})
    return vision.eval(), text.eval()


def clip(config: dict) -> Clip:
    """The small CLIP of all files but those of TIPS, with those weights, as the loader builds it."""
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer

    architecture = {
        "embed_dim": config["embed_dim"],
        "quick_gelu": True,
        "vision_cfg": {
            "layers": config["vision_layers"],
            "width": config["vision_width"],
            "patch_size": config["vision_patch_size"],
            "image_size": config["image_resolution"],
        },
        "text_cfg": {
            "context_length": config["context_length"],
            "vocab_size": config["vocab_size"],
            "width": config["transformer_width"],
            "heads": config["transformer_heads"],
            "layers": config["transformer_layers"],
        },
    }
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in CLIP(**architecture).state_dict().items()}
    weights = {key: torch.from_numpy(np.asarray(value)) for key, value in recipe.state_dict(shapes, "clip.").items()}
    return (
        Clip(assembled(architecture, weights, "recipe"), SimpleTokenizer(), "clip:parity").eval().requires_grad_(False)
    )


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {name + ".weight": (outputs, inputs), name + ".bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {name + ".weight": (width,), name + ".bias": (width,)}
