"""Trunks of timm by name, fetched from where timm publishes them, as safetensors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.family import Family
from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.backbones.weights.store import fetch_remedy, intact, read_pins
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.trunks.dino import Dino
    from edge_agent.backbones.trunks.resnet import ResNet
    from edge_agent.backbones.vision_only import VisionOnly

WEIGHTS = "model.safetensors"
HUB = "https://huggingface.co/timm"


def _wide_resnet() -> ResNet:
    from edge_agent.backbones.trunks.resnet import ResNet

    return ResNet()


def _dino(width: int, depth: int, registers: int = 0) -> Callable[[], Dino]:
    def build() -> Dino:
        from edge_agent.backbones.trunks.dino import Dino

        return Dino(width, depth, registers=registers)

    return build


# Each with random weights; nothing is imported before.
TRUNKS: dict[str, Callable[[], ResNet | Dino]] = {
    "wide-resnet50": _wide_resnet,
    "dinov2-s14": _dino(384, 12),
    "dinov2-b14": _dino(768, 12),
    "dinov2-l14": _dino(1024, 24),
    "dinov2-b14-reg4": _dino(768, 12, registers=4),
}


def _published(
    name: str, repository: str, holder: str, image_size: int, patch: int, width: int, millions: float, sized: str
) -> Published:
    # Name, licence, size of pictures and parameters: timm 1.0.31's own catalogue (timm.get_pretrained_cfg). Their
    # digests are not known here: the first fetch pins what comes (see store.py), and every later one has to be the same.
    return Published(
        name=name,
        holder=holder,
        licence="Apache-2.0",
        image_size=image_size,
        patch=patch,
        width=width,
        vision_millions=millions,
        text_millions=0.0,
        files=(RemoteFile(WEIGHTS, f"{HUB}/{repository}/resolve/main/{WEIGHTS}", sized=sized),),
    )


class TrunkFamily(Family):
    """Trunks for a bank of good parts that have to be fetched first."""

    catalog: ClassVar[Mapping[str, Published]] = MappingProxyType(
        {
            known.name: known
            for known in (
                _published(
                    "wide-resnet50", "wide_resnet50_2.racm_in1k", "timm", 224, 8, 1024, 68.9, "layer3.5.bn3.weight"
                ),
                _published("dinov2-s14", "vit_small_patch14_dinov2.lvd142m", "Meta", 518, 14, 384, 22.1, "norm.weight"),
                _published("dinov2-b14", "vit_base_patch14_dinov2.lvd142m", "Meta", 518, 14, 768, 86.6, "norm.weight"),
                _published(
                    "dinov2-l14", "vit_large_patch14_dinov2.lvd142m", "Meta", 518, 14, 1024, 304.4, "norm.weight"
                ),
                _published(
                    "dinov2-b14-reg4", "vit_base_patch14_reg4_dinov2.lvd142m", "Meta", 518, 14, 768, 86.6, "norm.weight"
                ),
            )
        }
    )

    def installed_bytes(self, folder: Path) -> int | None:
        """See Family. Here are those whose file is there and pinned."""
        file = folder / WEIGHTS
        return file.stat().st_size if file.is_file() and WEIGHTS in read_pins(folder) else None

    def digest(self, name: str, folders: Sequence[Path]) -> str | None:
        """See Family."""
        return next((pin for folder in folders if (pin := read_pins(folder / name).get(WEIGHTS))), None)

    def load(self, name: str, folders: Sequence[Path]) -> VisionOnly:
        """See Family."""
        import safetensors
        import safetensors.torch

        places = [folder / name for folder in folders]
        place = next((one for one in places if self.installed_bytes(one) is not None), None)
        if place is None:
            unpinned = next((one for one in places if (one / WEIGHTS).is_file()), None)
            if unpinned:
                raise CheckpointError(
                    f"{unpinned / WEIGHTS} was put there by hand and is not pinned: to trust it as it is, run"
                    f" `edge-agent models fetch {name} --from {unpinned}`"
                )
            raise CheckpointError(f"{name} is not in {' or '.join(map(str, folders))}: {fetch_remedy(name)}")
        file = place / WEIGHTS
        if not intact(place, WEIGHTS):
            raise CheckpointError(f"{file} is damaged or was replaced: {fetch_remedy(name)}")
        trunk = TRUNKS[name]()
        try:
            trunk.load_published(safetensors.torch.load_file(file))
        except (KeyError, ValueError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{file} does not hold {name} ({error}): {fetch_remedy(name)}") from None
        return self._backbone(name, trunk, read_pins(place)[WEIGHTS])

    def random(self, name: str) -> VisionOnly:
        """See Family."""
        return self._backbone(name, TRUNKS[name](), "")

    def _backbone(self, name: str, trunk: ResNet | Dino, sha256: str) -> VisionOnly:
        from edge_agent.backbones.backbone import Preprocessing
        from edge_agent.backbones.vision_only import VisionOnly

        image_size = self.catalog[name].image_size
        assert image_size is not None
        imagenet = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        return VisionOnly(name, trunk, image_size, imagenet, sha256).eval().requires_grad_(False)
