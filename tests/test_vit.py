"""The transformer is timm's, without timm."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from edge_agent.backbones.vit import Vit


@pytest.mark.parametrize("swiglu", [False, True])
def test_it_computes_and_calls_its_parameters_what_timm_does(swiglu):
    from timm.layers import Mlp, SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    ours = Vit(128, 3, 2, 96, 4, swiglu)
    theirs = VisionTransformer(
        img_size=56,
        patch_size=14,
        embed_dim=128,
        depth=3,
        num_heads=2,
        mlp_ratio=(192 if swiglu else 96) / 128,
        mlp_layer=SwiGLUPacked if swiglu else Mlp,
        act_layer=torch.nn.SiLU if swiglu else torch.nn.GELU,
        init_values=1.0,
        reg_tokens=1,
        no_embed_class=True,
        num_classes=0,
        global_pool="",
    )
    theirs.patch_embed = torch.nn.Identity()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 16, 128)
    with torch.inference_mode():
        tokens = torch.cat([ours.cls_token.expand(2, -1, -1), ours.reg_token.expand(2, -1, -1), x + ours.pos_embed], 1)
        for block in ours.layers():
            tokens = block(tokens)
        torch.testing.assert_close(ours.norm(tokens), theirs.forward_features(x), atol=1e-4, rtol=0)


def test_what_watches_the_line_imports_nothing_but_torch_of_what_is_slow():
    script = (
        "from edge_agent import build, journal; from edge_agent.inference.load import load_detector; load_detector()\n"
        "import sys; print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    slow = {"timm", "torchvision", "open_clip", "sentencepiece", "torch._dynamo", "sympy", "scipy", "alembic"}
    assert not slow.intersection(said)
    assert "torch" in said
