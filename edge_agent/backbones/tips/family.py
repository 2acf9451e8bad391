"""Google's TIPS backbones by name (github.com/google-deepmind/tips, versions 1 and 2), fetched from their owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.family import Family
from edge_agent.backbones.tips.files import TEXT, TOKENIZER, VISION, find, lacking, pinned_digest, size_of
from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.tips.model import Tips

_BUCKET = "https://storage.googleapis.com/tips_data"


def _tips(name: str, version: str, stem: str, image_size: int, width: int, vision: float, text: float) -> Published:
    # The repository's README puts its software under Apache-2.0 and "all other materials", hence the weights, under
    # CC BY 4.0. Conversions at huggingface.co/google are tagged Apache-2.0; the stricter of the two is named here.
    folder = f"{_BUCKET}/{version}/checkpoints/pytorch"
    return Published(
        name=name,
        holder="Google DeepMind",
        licence="CC-BY-4.0",
        image_size=image_size,
        patch=14,
        width=width,
        vision_millions=vision,
        text_millions=text,
        files=(
            RemoteFile(VISION, f"{folder}/{stem}_vision.npz", sized="pos_embed"),
            RemoteFile(TEXT, f"{folder}/{stem}_text.npz", sized="token_embedding.weight"),
            RemoteFile(TOKENIZER, f"{_BUCKET}/v1_0/checkpoints/tokenizer.model"),  # one tokenizer serves both versions
        ),
    )


class TipsFamily(Family):
    """The official weights; of some sizes random ones can be made, too."""

    # Addresses, parameters and sizes of pictures: https://github.com/google-deepmind/tips, its README.md,
    # pytorch/checkpoints/download_checkpoints.sh and pytorch/run_image_encoder_inference.py.
    catalog: ClassVar[Mapping[str, Published]] = MappingProxyType(
        {
            backbone.name: backbone
            for backbone in (
                _tips("tips-s14", "v1_0", "tips_oss_s14_highres_distilled", 448, 384, 21.6, 33.6),
                _tips("tips-b14", "v1_0", "tips_oss_b14_highres_distilled", 448, 768, 85.7, 109.6),
                _tips("tips-l14", "v1_0", "tips_oss_l14_highres_distilled", 448, 1024, 303.2, 183.9),
                _tips(
                    "tips-so400m14", "v1_0", "tips_oss_so400m14_highres_largetext_distilled", 448, 1152, 412.4, 448.3
                ),
                _tips("tips-g14", "v1_0", "tips_oss_g14_highres", 448, 1536, 1100, 389.1),
                _tips("tips-g14-lowres", "v1_0", "tips_oss_g14_lowres", 224, 1536, 1100, 389.1),
                _tips("tips2-b14", "v2_0", "tips_v2_oss_b14", 448, 768, 85.7, 109.6),
                _tips("tips2-l14", "v2_0", "tips_v2_oss_l14", 448, 1024, 303.2, 183.9),
                _tips("tips2-so400m14", "v2_0", "tips_v2_oss_so14", 448, 1152, 412.4, 448.3),
                _tips("tips2-g14", "v2_0", "tips_v2_oss_g14", 448, 1536, 1100, 389.1),
            )
        }
    )

    def installed_bytes(self, folder: Path) -> int | None:
        """See Family. Here are those with all files there and pinned."""
        return None if lacking(folder) else size_of(folder)

    def digest(self, name: str, folders: Sequence[Path]) -> str | None:
        """See Family."""
        found = (pinned_digest(folder / name) for folder in folders)
        return next((digest for digest in found if digest), None)

    def load(self, name: str, folders: Sequence[Path]) -> Tips:
        """See Family."""
        from edge_agent.backbones.tips.model import load_tips_files

        return load_tips_files(find(name, folders))

    def random(self, name: str) -> Tips:
        """See Family."""
        from edge_agent.backbones.tips.random_weights import SHAPES, random_tips

        if name not in SHAPES:
            raise CheckpointError(
                f"{name}: no weights are here, and no shape to make random ones of: that is known of {', '.join(SHAPES)}"
            )
        return random_tips(name)
