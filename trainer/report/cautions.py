"""What a reader of a report has to know before trusting its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluate.record import DetectorRecord, SkippedRecord
from trainer.report.tables import doubts

FEW_PICTURES = 30  # of a kind: below this a reader is warned


@dataclass(frozen=True, slots=True)
class Beaten:
    """A category in which the baseline has the higher image AUROC; both in percent."""

    category: str
    ours: float
    baseline: float


@dataclass(frozen=True, slots=True)
class Cautions:
    """Reasons to read the figures with care; false when there are none.

    baseline: name of the baseline. beaten: categories in which it does better. skipped: unreadable pictures with their
    category. few: categories with fewer than few_pictures good or defective pictures. without_masks: categories whose
    defects have no outlines. one_sided: categories with good or defective pictures only. vanished: number of masks
    without a pixel at map_size pixels a side. doubts: about pictures and masks, in sentences, with their category.
    """

    baseline: str = ""
    beaten: Sequence[Beaten] = ()
    skipped: Sequence[tuple[str, SkippedRecord]] = ()
    few: Sequence[str] = ()
    without_masks: Sequence[str] = ()
    one_sided: Sequence[str] = ()
    vanished: int = 0
    doubts: Sequence[tuple[str, str]] = ()
    map_size: int = 0
    few_pictures: int = FEW_PICTURES

    def __bool__(self) -> bool:
        reasons = (self.beaten, self.skipped, self.few, self.without_masks, self.one_sided, self.vanished, self.doubts)
        return any(map(bool, reasons))


def find_cautions(ours: DetectorRecord, base: DetectorRecord | None) -> Cautions:
    """Collect the cautions for a detector's record; base: the baseline's record, if it was measured."""
    categories = ours.categories
    return Cautions(
        baseline=base.detector if base else "",
        beaten=find_beaten(ours, base) if base else (),
        skipped=[(name, one) for name, category in categories.items() for one in category.skipped],
        few=[name for name, one in categories.items() if 0 < min(one.good, one.defective) < FEW_PICTURES],
        without_masks=[name for name, one in categories.items() if one.figures["pixel_auroc"].value is None],
        one_sided=[name for name, one in categories.items() if not one.good or not one.defective],
        vanished=sum(one.vanished for one in categories.values()),
        doubts=[(name, doubt) for name, one in categories.items() for doubt in doubts(one)],
        map_size=ours.size,
    )


def find_beaten(ours: DetectorRecord, base: DetectorRecord) -> list[Beaten]:
    """List the categories in which the baseline separates good from defective pictures better."""
    beaten = []
    for name, one in ours.categories.items():
        value, other = one.figures["image_auroc"].value, base.categories[name].figures["image_auroc"].value
        if value is not None and other is not None and other > value:
            beaten.append(Beaten(name, value, other))
    return beaten
