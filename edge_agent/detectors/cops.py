"""CoPS (arXiv 2508.03447): prompts made for each picture from prototypes of its patches and samples of a VAE.

Follows the authors' published code where it differs from the paper. The samples are fixed here, though, so that a picture's
scores are the same at every reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone, ImageFeatures
from edge_agent.detectors.cops_parts import STD, Encoder, Extractor, decoder, distances, pooled, scaled
from edge_agent.detectors.method import Method, Scores
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring
from edge_agent.kernels.fused import compare

CONTEXT, STATE, CLASS = 6, 6, 2  # tokens of a prompt, in this order; one prototype is added to each of the state's
DEEP_TOKENS = 4  # at each of DEEP_BLOCKS text blocks, from the second on
DRAWS = 10
DEEP_BLOCKS = 8  # text blocks with prompts of their own, as published
TEMPERATURE = 0.07  # as published, not the backbone's own
PROMPTS_PER_RUN = 256  # of the text tower: some 200 MB with CLIP's ViT-L


@dataclass(frozen=True, slots=True)
class VaeOutput:
    """The VAE's output in training, each (B, D).

    target: the global features, to be reconstructed. mean, log_variance: of the code that was sampled. decoded: the decoded
    code, which biases the prompts.
    """

    target: Tensor
    mean: Tensor
    log_variance: Tensor
    decoded: Tensor


@dataclass(frozen=True, slots=True)
class CopsOutput:
    """What `forward` returns. The order of states is normal, anomalous.

    patches: (B, N, D), pooled, not normalised. prototypes: (B, 2, 6, D). text: (B, 2, D) unit. picture: (B, 2), logits.
    probability: (B, h, w) of anomalous, before it is weighted. distances: (B, 2, h, w) in [0, 2], to the nearest prototype.
    vae: in training only.
    """

    patches: Tensor
    prototypes: Tensor
    text: Tensor
    picture: Tensor
    probability: Tensor
    distances: Tensor
    vae: VaeOutput | None = None


class Cops(Method):
    """See the module. The defaults are those that the authors use, with weights fitted on VisA, for all data sets but VisA."""

    name = "cops"
    sigma = 4.0
    upsampling = "nearest"
    fixed_batch = True
    values = 1

    def __init__(
        self,
        backbone: Backbone,
        *,
        pool: int = 5,
        alpha: float = 0.26,
        beta: float = 0.9,
        seed: int | None = 0,
        draws: Tensor | None = None,
        fittable: bool = True,
    ) -> None:
        """Create the method with random parameters.

        Args:
            backbone: the frozen backbone.
            pool: side of the patches' pooling, odd.
            alpha: in [0, 1], weight of the distance to normal prototypes against the nearness to anomalous ones.
            beta: in [0, 1], weight of the whole picture against its worst patch.
            seed: of the fixed samples, where they are not given.
            draws: the fixed samples, (10, D).
            fittable: with the VAE's encoder, which only fitting needs.

        Raises CheckpointError for numbers out of range, and for a backbone whose tokens are not as long as its features.
        """
        super().__init__(backbone)
        width = backbone.width
        if width != backbone.text_width:
            raise CheckpointError(
                f"{backbone.name}: CoPS adds features of {width} numbers to tokens of {backbone.text_width}: take a backbone"
                " where they are as long as each other, such as CLIP's ViT-L/14 or any TIPS"
            )
        if pool < 1 or pool % 2 == 0 or not 0 <= alpha <= 1 or not 0 <= beta <= 1:
            raise CheckpointError(
                f"CoPS with pool {pool}, alpha {alpha}, beta {beta}: pool must be odd, alpha and beta in 0..1"
            )
        self.pool, self.alpha, self.beta, self.seed = pool, alpha, beta, seed
        deep = min(DEEP_BLOCKS, backbone.text_depth - 1)
        self.context = nn.Parameter(STD * torch.randn(2, CONTEXT + STATE + CLASS, width))
        self.deep = nn.Parameter(STD * torch.randn(deep, DEEP_TOKENS, width))
        self.queries = nn.Parameter(STD * torch.randn(2, STATE, width))
        self.extractor = Extractor(width)
        self.encoder = Encoder(width) if fittable else None
        self.decoder = decoder(width)
        self.draws: Tensor
        self.stop: Tensor
        self.biases: Tensor | None
        self.register_buffer("draws", samples(seed or 0, width) if draws is None else draws.float())
        with torch.no_grad():
            self.register_buffer("stop", backbone.embed_words("."), persistent=False)
        self.register_buffer("biases", None, persistent=False)
        self.to(backbone.device)

    @classmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> Cops:
        """See methods.restore. The class name is not used: prompts are made from the picture."""
        method = cls(
            backbone,
            pool=int(header["pool"]),
            alpha=float(header["alpha"]),
            beta=float(header["beta"]),
            seed=header["draws_seed"],
            draws=tensors["draws"],
            fittable=any(key.startswith("encoder.") for key in tensors),
        )
        method.load_state_dict(tensors)
        return method

    def tensors(self) -> dict[str, Tensor]:
        """See Method."""
        return self.state_dict()

    def settings(self) -> dict[str, Any]:
        """See Method. draws_seed: null where the samples were given."""
        return {"pool": self.pool, "alpha": self.alpha, "beta": self.beta, "draws_seed": self.seed}

    def precompute(self) -> None:
        """See Method. The samples do not depend on the picture: they are decoded once."""
        self.biases = self.decoder(self.draws)

    def train(self, mode: bool = True) -> Cops:
        """Discard what `precompute` computed when fitting starts."""
        if mode:
            self.biases = None
        return super().train(mode)

    def forward(self, features: ImageFeatures) -> CopsOutput:
        """See Method. In training one code is sampled for each picture, from torch's global generator, by the encoder's distribution.

        Computes in fp32, but the text tower's matrix products in the features' precision.
        """
        assert features.values is not None, "encode_image(values=1)"
        with torch.autocast(features.values.device.type, enabled=False):
            whole = features.globals[:, -1].float()  # (B, D)
            patches = pooled(features.values.float(), features.grid, self.pool)
            prototypes = self.extractor(self.queries, patches)
            vae = self._reconstruct(whole) if self.training else None
            text = self._text(prototypes.detach(), self._biases(vae), features.values.dtype)  # (B, 2, D)
            return CopsOutput(
                patches,
                prototypes,
                text,
                (text @ scoring.unit(whole).unsqueeze(2)).squeeze(2) / TEMPERATURE,
                compare(patches, text, TEMPERATURE).probability.unflatten(1, features.grid),
                distances(patches, prototypes).unflatten(2, features.grid),
                vae,
            )

    def scores(self, output: CopsOutput, keep: Tensor | None = None) -> Scores:
        """See Method. A patch's probability is weighted by its distances, scaled to the picture's minimum and maximum."""
        from_normal, from_anomalous = scaled(output.distances, keep).unbind(dim=1)
        patches = output.probability * (self.alpha * from_normal + (1 - self.alpha) * (1 - from_anomalous))
        if keep is not None:
            patches = patches.masked_fill(~keep, 0)
        picture = output.picture.softmax(dim=1)[:, 1]
        return Scores(self.beta * picture + (1 - self.beta) * patches.amax(dim=(1, 2)), patches)

    def _reconstruct(self, whole: Tensor) -> VaeOutput:
        if self.encoder is None:
            raise CheckpointError(
                "these CoPS prompts came without the VAE's encoder, as the authors publish them: they inspect but cannot be"
                " fitted further; fit afresh"
            )
        mean, log_variance = self.encoder(whole)
        noise = torch.randn(mean.shape).to(mean)  # sampled on the CPU: the same on every device
        return VaeOutput(whole, mean, log_variance, self.decoder(mean + (log_variance / 2).exp() * noise))

    def _biases(self, vae: VaeOutput | None) -> Tensor:
        """Return the biases (1 or B, K, W): those of the fixed samples, or in training each picture's own."""
        if vae is not None:
            return vae.decoded.unsqueeze(1)
        biases = self.decoder(self.draws) if self.biases is None else self.biases
        return biases.unsqueeze(0)

    def _text(self, prototypes: Tensor, biases: Tensor, dtype: torch.dtype) -> Tensor:
        """Encode the prompts that prototypes and biases make, and average over the biases: unit features (B, 2, D).

        The normal prompt gets the anomalous prototypes and the other way round: so it is in the published code and weights.

        Args:
            prototypes: (B, 2, 6, D).
            biases: (1 or B, K, W).
            dtype: of the text tower's matrix products.
        """
        B, K = prototypes.shape[0], biases.shape[1]
        context, state, own = self.context.split([CONTEXT, STATE, CLASS], dim=1)  # each (2, n, W)
        parts = (  # each (B or 1, 2, K or 1, n, W)
            context.unsqueeze(1).unsqueeze(0),
            (state + prototypes.flip(1)).unsqueeze(2),
            own.unsqueeze(1) + biases[:, None, :, None],
            self.stop.expand(1, 1, 1, -1, -1),
        )
        prompts = torch.cat([part.expand(B, 2, K, -1, -1) for part in parts], dim=3).flatten(0, 2)  # (B * 2 * K, L, W)
        with torch.autocast(prompts.device.type, dtype, enabled=dtype != torch.float32):
            features = [self.backbone.encode_prompts(some, self.deep) for some in prompts.split(PROMPTS_PER_RUN)]
        return scoring.unit(scoring.unit(torch.cat(features)).unflatten(0, (B, 2, K)).mean(dim=2))


def samples(seed: int, width: int) -> Tensor:
    """Return (10, width) from a standard normal distribution, the same for a seed on every machine."""
    return torch.randn(DRAWS, width, generator=torch.Generator().manual_seed(seed))
