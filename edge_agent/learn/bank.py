"""Makes the bank of good parts that has learnt corrections from the one that has not; writes nothing.

Patches that were learnt stand behind those that the bank was made from, in the order of `corrections` in the header, which
says how many each brought: so each correction can be taken back by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_agent.core import Evaluation
from edge_agent.detectors.checkpoint import Checkpoint, decoded, encoded
from edge_agent.detectors.patchcore import BOOST, PatchCore
from edge_agent.errors import CheckpointError, PictureError
from edge_agent.inference.aligned import HEADER as ALIGNED
from edge_agent.inference.detector import PromptDetector
from edge_agent.journal.rows import LabelValue
from edge_agent.kernels.nearest import nearest
from edge_agent.learn.corrections import Corrections, KeptPicture
from edge_agent.learn.patches import (
    LEAST,
    MARGIN,
    SEEN_AGAIN,
    GrowingBank,
    Patches,
    defect_rows,
    distance_at,
    good_rows,
    patches_of,
    seen_again,
)

ROWS_OF = {LabelValue.GOOD.value: "bank", LabelValue.DEFECT.value: "defects"}  # which tensor a label's patches are in


def require_bank(checkpoint: Checkpoint, station: str) -> None:
    """Raise CheckpointError, with what can be done instead, where a station has no bank that could learn."""
    method = checkpoint.header["method"]
    if method != PatchCore.name:
        raise CheckpointError(
            f"station {station} looks with {method}, which cannot learn single corrections; a bank of good parts can: `trainer station`"
            " makes one, and `trainer calibrate` sets a new threshold"
        )
    if checkpoint.header.get(ALIGNED):
        raise CheckpointError(
            f"station {station} aligns its parts, and such a bank cannot learn single corrections: show it more good parts,"
            " `trainer station --add`, or make it anew without --align"
        )


class Learner:
    """Makes corrected banks for one station."""

    def __init__(
        self,
        detector: PromptDetector,
        parent: Checkpoint,
        threshold: float,
        *,
        keep: np.ndarray | None = None,
        in_squares: bool = True,
        decode: Callable[[KeptPicture], np.ndarray],
        of_bank: Callable[[np.ndarray], float] | None = None,
    ) -> None:
        """Take what the station looks with.

        Args:
            detector: reads one square with the parent.
            parent: the checkpoint that is corrected; see require_bank.
            threshold: of the station's scores, in [0, 1].
            keep: the station's mask, see core.Detector; default None.
            in_squares: whether elongated pictures are read in squares; default yes.
            decode: gives the pixels of a kept picture.
            of_bank: returns the score of the bank alone at which a picture reaches the threshold; default the threshold itself.
        """
        self._detector, self._parent = detector, parent
        self._keep, self._in_squares, self._decode = keep, in_squares, decode
        self._of_bank = of_bank or (lambda pixels: threshold)
        self._scale = float(parent.header["scale"])
        self._patch_scale = float(parent.header["patch_scale"])
        self.distance_at_threshold = distance_at(threshold, self._scale)

    def corrected(self, found: Corrections) -> tuple[Checkpoint, list[str]]:
        """Return the corrected bank, and a sentence for each correction that brought no patch.

        The same parent and corrections give the same bytes.
        """
        base = without(self._parent, found.withdrawn | {one.inspection.id for one in found.to_learn})
        tensors, bank = dict(base.tensors), GrowingBank(base.tensors["bank"])
        learnt: list[dict[str, Any]] = list(base.header["corrections"])
        nothing: list[str] = []
        # Good parts first: what is told of defects is compared with all that is good.
        for one in sorted(found.to_learn, key=lambda one: _label(one) == LabelValue.DEFECT.value):
            label = _label(one)
            rows = self._rows(one, bank)
            if label == LabelValue.DEFECT.value and not len(rows):
                nothing.append(
                    f"{one.name}: the place that is said to be defective looks like good parts to the bank: draw a box around the"
                    " defect, or take a finer picture"
                )
            tensors[ROWS_OF[label]] = torch.cat([tensors[ROWS_OF[label]], rows])
            if label == LabelValue.GOOD.value:
                bank.add(rows)
            box = one.label.box if one.label else None
            learnt.append(
                {
                    "inspection": one.inspection.id,
                    "label": label,
                    "box": list(box) if box else None,
                    "sha256": one.sha256,
                    "rows": len(rows),
                }
            )
        made = Checkpoint({**base.header, "corrections": learnt, "parent_sha256": self._parent.sha256}, tensors)
        return decoded(encoded(made), self._parent.path), nothing

    def blinded(self, after: Checkpoint) -> list[str]:
        """Return inspections whose learnt defect would be found by the parent and not by `after`, judged by its own patches.

        For those whose pictures are gone; the others can be read.
        """
        lost = []
        before = {key: self._farthest(rows, self._parent) for key, rows in _learnt_defects(self._parent)}
        for key, rows in _learnt_defects(after):
            if before.get(key, 0) >= self.distance_at_threshold > self._farthest(rows, after):
                lost.append(key)
        return lost

    def _farthest(self, rows: Tensor, checkpoint: Checkpoint) -> float:
        if not len(rows):
            return 0.0
        return BOOST * float(nearest(rows.float(), checkpoint.tensors["bank"].float()).max())

    def _rows(self, one: KeptPicture, bank: GrowingBank) -> Tensor:
        none = self._parent.tensors["bank"][:0].half()
        try:
            pixels = self._decode(one)
        except PictureError:  # it was there a moment ago
            return none
        patches = self._patches(pixels)
        if _label(one) == LabelValue.DEFECT.value:
            box = one.label.box if one.label else None
            boxes = [box] if box else [each.bbox for each in one.inspection.verdict.regions]
            return defect_rows(patches, bank, self._patch_scale, boxes)
        most = distance_at(self._of_bank(pixels), self._scale)
        was_ok = one.inspection.verdict.evaluation is Evaluation.OK
        if was_ok and patches.distance(bank.distances(patches.rows)) < most:
            return none  # and still is
        again = [self._patches(seen_again(pixels, number)) for number in range(1, SEEN_AGAIN + 1)]
        return good_rows([patches, *again], bank, max(MARGIN * most, LEAST * self._scale))

    def _patches(self, pixels: np.ndarray) -> Patches:
        return patches_of(self._detector, pixels, self._keep, self._in_squares)


def without(checkpoint: Checkpoint, inspections: Collection[str]) -> Checkpoint:
    """Return a bank without what it has learnt from some inspections."""
    corrections = list(checkpoint.header.get("corrections", ()))
    tensors = {}
    for name in ROWS_OF.values():
        own = [one for one in corrections if ROWS_OF[one["label"]] == name]
        tensor = checkpoint.tensors[name]
        base = len(tensor) - sum(int(one["rows"]) for one in own)
        kept = [torch.ones(base, dtype=torch.bool)]
        kept += [torch.full((int(one["rows"]),), one["inspection"] not in inspections) for one in own]
        tensors[name] = tensor[torch.cat(kept)]
    left = [one for one in corrections if one["inspection"] not in inspections]
    header = {**checkpoint.header, "corrections": left}
    return Checkpoint(header, {**checkpoint.tensors, **tensors}, checkpoint.sha256, checkpoint.path)


def _learnt_defects(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    own = [one for one in checkpoint.header.get("corrections", ()) if ROWS_OF[one["label"]] == "defects"]
    tensor = checkpoint.tensors["defects"]
    at = len(tensor) - sum(int(one["rows"]) for one in own)
    for one in own:
        yield str(one["inspection"]), tensor[at : at + int(one["rows"])]
        at += int(one["rows"])


def _label(one: KeptPicture) -> str:
    assert one.label is not None
    return one.label.value.value
