"""The sentences that Tipsomaly compares pictures with (its paper's fixed prompts), for any class name."""

from __future__ import annotations

NORMAL = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS = ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
)
STATES = (NORMAL, ANOMALOUS)  # the order of states everywhere: normal, anomalous


def sentences(class_name: str) -> tuple[list[str], list[str]]:
    """Return all sentences of the normal and of the anomalous state; "_" and "-" in the class name become spaces."""
    noun = class_name.replace("_", " ").replace("-", " ").strip() or "object"
    normal, anomalous = (
        [template.format(state.format(noun)) for state in states for template in TEMPLATES] for states in STATES
    )
    return normal, anomalous
