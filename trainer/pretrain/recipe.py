"""Everything that decides the result of a pretraining, and its learning rate over the steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a pretraining. Its pictures are good ones from a pool; every use cuts one anew and may paint a defect on it.

    seed: decides every random number. image_size: side in pixels of the views. width, depth, stem: of the vision tower.
    compared: blocks before which patches are compared with those of their own picture. contrast: whether each patch gets
    its local contrast. text_depth, vocabulary: of the text tower. pool: number of good pictures. batch: views a step.
    small_size, small_steps: side in pixels of the first views, which cost half as much, and for how many steps. steps: in
    all. decay_steps: the last ones, over which the rate falls to 0. warmup_steps: the first ones, over which it rises.
    rate: the highest learning rate. p_defect: probability of a defect. ema: decay of the averaged weights.
    teacher_width: numbers a patch in which a teacher, if there is one, is imitated. teacher_block: number of blocks after
    which the patches have to tell them.
    """

    seed: int = 0
    image_size: int = 224
    width: int = 256
    depth: int = 6
    stem: tuple[int, ...] = (32, 64, 128, 256)
    compared: tuple[int, ...] = (0, 4)
    contrast: bool = True
    text_depth: int = 3
    vocabulary: int = 1500
    pool: int = 12_000
    batch: int = 32
    small_size: int = 160
    small_steps: int = 1500
    steps: int = 1900
    decay_steps: int = 600
    warmup_steps: int = 150
    rate: float = 1e-3
    weight_decay: float = 0.05
    p_defect: float = 0.6
    ema: float = 0.998
    teacher_width: int = 128
    teacher_block: int = 4


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate at a step, from 0: linear warm-up, then constant, then linear to 0.

    It is constant before it falls, so that a run can be continued with more steps.
    """
    rising = (step + 1) / recipe.warmup_steps
    falling = (recipe.steps - step) / max(recipe.decay_steps, 1)
    return recipe.rate * min(1.0, rising, falling)
