"""The kinds of defect: how each is painted, named and placed."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.synthesis.defects import content, form, lines, surface
from trainer.synthesis.defects.site import Painter


@dataclass(frozen=True)
class Defect:
    """How a kind of defect is painted, named and placed.

    weight: how often it is chosen, relative to the other kinds. longest: its largest extent, as a share of the picture's
    shorter side. edge: probability that it lies on the product's outline. strays: whether it may leave the product.
    swaps: whether it replaces texture by texture, so that a plain difference of pixels says little about its visibility.
    thin: whether it is made of lines or dots, whose gaps do not belong to it.
    """

    paint: Painter
    adjective: str
    noun: str
    weight: float = 1.0
    longest: float = 0.34
    edge: float = 0.0
    strays: bool = False
    swaps: bool = False
    thin: bool = False


DEFECTS: dict[str, Defect] = {
    "scratch": Defect(lines.scratch, "scratched", "scratch", 1.3, 0.8, thin=True),
    "crack": Defect(lines.crack, "cracked", "crack", 1.4, 1.0, 0.15, thin=True),
    "broken": Defect(lines.broken, "broken", "break", 1.0, 0.9, 0.35),
    "hole": Defect(form.hole, "punctured", "hole", 1.1),
    "dent": Defect(form.dent, "dented", "dent", 1.0),
    "contamination": Defect(surface.contamination, "contaminated", "contamination", 1.4, 0.34, 0.0, True),
    "streak": Defect(lines.streak, "streaked", "streak", 0.9, 1.1),
    "stain": Defect(surface.stain, "stained", "stain", 1.4, 0.45),
    "spots": Defect(surface.spots, "spotted", "spots", 0.8, 0.5, thin=True),
    "patchwork": Defect(content.patchwork, "flawed", "foreign patch", 1.3, swaps=True),
    "smear": Defect(surface.smear, "smeared", "smear", 0.8, swaps=True),
    "warp": Defect(form.warp, "deformed", "deformation", 0.8, swaps=True),
    "missing piece": Defect(form.missing, "incomplete", "missing piece", 1.1, 0.6, 0.6),
    "chip": Defect(form.chip, "chipped", "chipped edge", 0.9, 0.25, 0.7),
    "discolouration": Defect(surface.discolouration, "discoloured", "discolouration", 1.2, 0.45),
    "wear": Defect(surface.wear, "worn", "rough patch", 1.0, 0.4, 0.2),
    "thread": Defect(lines.thread, "dirty", "thread", 0.8, 0.5, 0.0, True, thin=True),
    "misprint": Defect(content.misprint, "misprinted", "print error", 0.7, thin=True),
    "extra part": Defect(content.extra, "cluttered", "foreign object", 0.8, 0.3, 0.0, True),
    "missing part": Defect(content.absent, "incomplete", "missing part", 0.7, swaps=True),
    "misplaced part": Defect(content.misplaced, "misassembled", "misplaced part", 0.7, swaps=True),
}
