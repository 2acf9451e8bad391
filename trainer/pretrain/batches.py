"""Batches of training views: pictures, labels and captions, the n-th view the same in every run and process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer import synthesis
from trainer.io.processes import SINGLE, Process
from trainer.pretrain.pool import Pool
from trainer.pretrain.recipe import Recipe
from trainer.pretrain.teacher import Teacher
from trainer.pretrain.views import make_view

Row = tuple[np.ndarray, np.ndarray, str, str, str]  # pixels, labels, noun, caption, description


class ViewDataset(Dataset):
    """Views of a recipe's stream by number; the n-th is the same whenever and wherever it is made.

    Of several processes each holds its own part of every batch; a single one holds all views.
    """

    def __init__(self, pool: Pool, recipe: Recipe, start: int, count: int, process: Process = SINGLE) -> None:
        """Hold views start .. start + count of the stream.

        Args:
            pool: the good pictures.
            recipe: its seed, sizes and probability of a defect decide what the views are.
            start: number of the first view, from 0.
            count: views of all processes together.
            process: which part of each batch to hold; default all.
        """
        self.pool, self.recipe, self.start, self.process = pool, recipe, start, process
        self.count = count // process.count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Row:
        cv2.setNumThreads(0)
        part = self.recipe.batch // self.process.count
        number = self.start + (index // part) * self.recipe.batch + self.process.rank * part + index % part
        rng = np.random.default_rng([self.recipe.seed, 1, number])
        small = number < self.recipe.small_steps * self.recipe.batch
        size = self.recipe.small_size if small else self.recipe.image_size
        view = make_view(self.pool, rng, size, self.recipe.p_defect)
        caption = synthesis.caption(rng, view.noun, view.kind)
        description = synthesis.description(rng, view.noun, view.kind, view.labels > 0)
        return view.pixels, view.labels, view.noun, caption, description


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of views.

    x: (B, 3, H, W) in [0, 1]. labels: (B, H, W) uint8, see TrainingView. nouns, captions, descriptions: one a picture.
    targets: (B, N, K), what the teacher says of each patch; None without a teacher.
    """

    x: Tensor
    labels: Tensor
    nouns: tuple[str, ...]
    captions: tuple[str, ...]
    descriptions: tuple[str, ...]
    targets: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(B, H, W) float: 1 where there is any defect, else 0."""
        return (self.labels > 0).float()


def batches(
    pool: Pool,
    recipe: Recipe,
    start: int,
    count: int,
    size: int,
    workers: int = 0,
    teacher: Teacher | None = None,
    process: Process = SINGLE,
) -> Iterator[Batch]:
    """Yield views start .. start + count of the recipe's stream in batches; a last one that is not full is left out.

    Args:
        pool: the good pictures.
        recipe: see ViewDataset.
        start: number of the first view, from 0.
        count: views of all processes together.
        size: views in a batch of all processes together.
        workers: processes that make views; default 0, this one.
        teacher: asked for its targets by the workers; default none.
        process: which part of each batch to make; default all.
    """
    yield from DataLoader(
        ViewDataset(pool, recipe, start, count, process),
        size // process.count,
        num_workers=workers,
        collate_fn=partial(_collate, teacher=teacher),
        drop_last=True,
        prefetch_factor=4 if workers else None,
    )


def _collate(rows: list[Row], teacher: Teacher | None) -> Batch:
    pixels, labels, nouns, captions, descriptions = zip(*rows, strict=True)
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    targets = None if teacher is None else teacher(x)
    return Batch(x, torch.from_numpy(np.stack(labels)), nouns, captions, descriptions, targets)
