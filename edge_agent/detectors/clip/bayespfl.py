"""Bayes-PFL (arXiv 2503.10080): prompts drawn from distributions, one of the picture and one of each state, and many of them.

Unlike the published code nothing is scaled by other pictures of a test set, and what is drawn is the same for every picture and
every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Activation, Backbone, ImageFeatures, Positions
from edge_agent.detectors.clip.aprilgan import pixels_kept
from edge_agent.detectors.clip.bayespfl_parts import STD, Drawn, Flows, Fuse, Gaussian, Residual, draw
from edge_agent.detectors.clip.method import TEMPERATURE, ClipMethod, run_as
from edge_agent.detectors.clip.vcpclip import WORST
from edge_agent.detectors.method import Scores, spread
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring

BANK = 3  # prompts of each state, as published
CONTEXT, STATE = 5, 5  # tokens
DRAWS = 10  # of each prompt
LAYERS = 4
FIRST = {"normal": 0.5, "anomalous": -0.5}  # mean of tokens of a state before fitting
PROMPTS_PER_RUN = 120  # of the text tower
SPOKEN = {  # of VisA, as the authors' code has them
    **dict.fromkeys(("macaroni1", "macaroni2"), "macaroni"),
    **dict.fromkeys(("pcb1", "pcb2", "pcb3", "pcb4"), "printed circuit board"),
    "chewinggum": "chewing gum",
}


@dataclass(frozen=True, slots=True)
class BayesPflOutput:
    """What `forward` returns, for P prompts of each state; states are normal, then anomalous.

    text: (B, 2, P, D) unit, draw by draw and within a draw prompt by prompt of the bank. picture: (B, 2, P) logits. odds:
    (B, K, P, h, w), logits of anomalous against normal in K blocks. whole: (B, D), the picture's feature that was compared. drawn: of
    the picture, of the normal and of the anomalous state. side: of the pictures in pixels.
    """

    text: Tensor
    picture: Tensor
    odds: Tensor
    whole: Tensor
    drawn: tuple[Drawn, Drawn, Drawn]
    side: int


class BayesPfl(ClipMethod):
    """See the module. worst: share of a map's pixels that make half of the picture's score."""

    name = "bayespfl"
    sigma = 8.0
    fixed_batch = True
    eps: Tensor

    def __init__(
        self,
        backbone: Backbone,
        class_name: str = "object",
        *,
        bank: int = BANK,
        draws: int = DRAWS,
        layers: Sequence[int] | None = None,
        worst: float = WORST,
        mapped: bool = True,
        activation: Activation | None = None,
        positions: Positions = "bilinear",
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen CLIP.
            class_name: what is in the pictures, in a word or two.
            bank: prompts of each state.
            draws: how often each is drawn.
            layers: blocks, counted from 1; default four, evenly spaced.
            worst: see the class.
            mapped: compare the picture's feature after adding the patches' and a linear map; else as the tower gives it.
            activation, positions: see ClipMethod.

        Raises CheckpointError for a backbone that it cannot read.
        """
        super().__init__(backbone, activation=activation, positions=positions)
        self.raw = tuple(dict.fromkeys(spread(LAYERS, backbone.depth))) if layers is None else tuple(layers)
        width, tower = backbone.width, backbone.tower_width
        if not self.raw or not all(1 <= layer <= backbone.depth for layer in self.raw):
            raise CheckpointError(f"Bayes-PFL with layers {self.raw}: {backbone.name} has layers 1 to {backbone.depth}")
        if width != backbone.text_width:
            raise CheckpointError(
                f"{backbone.name}: Bayes-PFL adds numbers made of features of {width} to tokens of {backbone.text_width}: take a"
                " backbone where they are as long as each other, such as CLIP's ViT-L/14"
            )
        self.worst, self.mapped = worst, mapped
        self.context = nn.Parameter(STD * torch.randn(bank, CONTEXT, width))
        self.state = nn.ParameterDict(
            {name: nn.Parameter(mean + STD * torch.randn(bank, STATE, width)) for name, mean in FIRST.items()}
        )
        hidden = tower // 2
        self.context_gaussian, self.state_gaussian = Gaussian(width, hidden), Gaussian(width, hidden)
        self.context_flows = Flows(width, conditioned=True)
        self.state_flows = nn.ModuleDict({name: Flows(width, conditioned=False) for name in FIRST})
        self.state_input = nn.ParameterDict({name: nn.Parameter(torch.randn(1, width)) for name in FIRST})
        self.residual = Residual(tower, width, len(self.raw))
        self.fuse = Fuse(tower, width, len(self.raw))
        self.text_map, self.picture_map = nn.Linear(width, width), nn.Linear(width, width)
        self.logs = nn.Parameter(
            torch.full((2,), TEMPERATURE).log().neg()
        )  # of 1 / temperature: of patches and pictures
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.register_buffer("eps", samples(draws, width))  # (3, R, D): of the picture, of both states
        noun = SPOKEN.get(class_name, class_name).replace("_", " ").replace("-", " ").strip().lower() or "object"
        with torch.no_grad():
            self.register_buffer("words", backbone.embed_words(noun), persistent=False)
        self.words: Tensor
        self.states: tuple[Drawn, Drawn] | None = None
        self.to(backbone.device)

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> BayesPfl:
        """See Method."""
        return cls(backbone, class_name)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> BayesPfl:
        """See methods.restore."""
        method = cls(
            backbone,
            class_name,
            bank=len(tensors["context"]),
            draws=tensors["eps"].shape[1],
            layers=[int(one) for one in header["layers"]],
            worst=float(header["worst"]),
            mapped=bool(header["mapped"]),
            **run_as(header),
        )
        method.load_state_dict(tensors)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict()

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return super().settings() | {"layers": list(self.raw), "worst": self.worst, "mapped": self.mapped}

    def precompute(self) -> None:
        """See Method. What is drawn of the states does not depend on the picture."""
        self.states = self.draw_states(self.eps)

    def train(self, mode: bool = True) -> BayesPfl:
        """Discard what `precompute` computed when fitting starts."""
        if mode:
            self.states = None
        return super().train(mode)

    def draw_states(self, eps: Tensor) -> tuple[Drawn, Drawn]:
        """Draw of both states, normal then anomalous. eps: (3, R, D)."""
        drawn = []
        for name, own in zip(FIRST, eps[1:], strict=True):
            flows = self.state_flows[name]
            assert isinstance(flows, Flows)
            drawn.append(draw(self.state_gaussian, flows, self.state_input[name], own[None]))
        normal, anomalous = drawn
        return normal, anomalous

    def forward(self, features: ImageFeatures) -> BayesPflOutput:
        """See Method. In training everything is drawn once, anew, from torch's global generator. Computes in fp32."""
        with torch.autocast(self.context.device.type, enabled=False):
            whole = features.image.float()
            raw = [features.raw[layer][:, 1:].float() for layer in self.raw]
            if self.training:
                B, D = whole.shape
                noise = torch.randn(B + 2, 1, D).to(whole)  # sampled on the CPU: the same on every device
                own, states = noise[:B], self.draw_states(torch.cat([noise[:1], noise[B:]]))
            else:
                own, states = self.eps[:1], self.states or self.draw_states(self.eps)
            drawn = draw(self.context_gaussian, self.context_flows, whole, own)
            text = self._text(drawn.z, states)  # (B, 2, P, D)
            both = text.flatten(1, 2)
            compared = scoring.unit(self.picture_map(whole + self.fuse(raw)) if self.mapped else whole)
            patch, picture = self.logs.exp()
            seen = (scoring.unit(self.text_map(both)) @ compared.unsqueeze(2)).squeeze(2) * picture
            attended, patches = self.residual(both, raw)
            logits = (attended @ patches.mT * patch).unflatten(2, (2, -1))  # (B, K, 2, P, N)
            odds = logits[:, :, 1] - logits[:, :, 0]
        return BayesPflOutput(
            text,
            seen.unflatten(1, (2, -1)),
            odds.unflatten(3, features.grid),
            compared,
            (drawn, *states),
            features.grid[0] * self.backbone.patch,
        )

    def scores(self, output: BayesPflOutput, keep: Tensor | None = None) -> Scores:
        """See Method. Patches are pixels; the score is the mean of the probability and of the map's worst pixels."""
        patches = map_of(output)
        if keep is not None:
            patches = patches.masked_fill(~pixels_kept(keep, output.side), 0)
        most = max(1, round(self.worst * output.side**2))
        worst = patches.flatten(1).topk(most, dim=1, sorted=False).values.mean(dim=1)
        return Scores((probability(output) + worst) / 2, patches)

    def _text(self, own: Tensor, states: tuple[Drawn, Drawn]) -> Tensor:
        """Encode all prompts of every picture: (B, 2, P, D) unit. own: (B, R, D), what was drawn of the pictures."""
        B, R = own.shape[:2]
        context = self.context + own[:, :, None, None]  # (B, R, bank, n, D)
        bank = len(self.context)
        words = self.words.expand(B, R, bank, -1, -1)
        features = []
        for name, drawn in zip(FIRST, states, strict=True):  # a ParameterDict sorts its names
            state = (self.state[name] + drawn.z[0, :, None, None]).expand(B, -1, -1, -1, -1)
            prompts = torch.cat([context, state, words], dim=3).flatten(0, 2)
            features.append(torch.cat([self.backbone.encode_prompts(some) for some in prompts.split(PROMPTS_PER_RUN)]))
        return scoring.unit(torch.stack(features, dim=1).unflatten(0, (B, R * bank)).transpose(1, 2))


def probability(output: BayesPflOutput) -> Tensor:
    """Return the pictures' probability of anomalous (B,), the mean over all prompts."""
    return output.picture.softmax(dim=1)[:, 1].mean(dim=1)


def map_of(output: BayesPflOutput) -> Tensor:
    """Return the map (B, side, side) in [0, 1], the mean over all blocks and prompts; one block at a time, as they are many."""
    blocks = [torch.sigmoid(scoring.resize_aligned(one, output.side)).mean(dim=1) for one in output.odds.unbind(dim=1)]
    return torch.stack(blocks).mean(dim=0)


def samples(draws: int, width: int) -> Tensor:
    """Return (3, draws, width) from a standard normal distribution, the same on every machine."""
    return torch.randn(3, draws, width, generator=torch.Generator().manual_seed(0))
