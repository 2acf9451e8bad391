"""Pretraining of a small TIPS, the embedded model: the loop, which resumes to the same result when it is killed."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_agent.backbones.tips.files import TOKENIZER
from edge_agent.backbones.tips.model import Tips, load_tips_folder
from trainer.io.processes import Process, training_process
from trainer.io.run_state import read_state, write_state
from trainer.pretrain.batches import batches
from trainer.pretrain.losses import pretraining_losses
from trainer.pretrain.muon import Muon
from trainer.pretrain.pool import make_pool
from trainer.pretrain.recipe import Recipe, learning_rate
from trainer.pretrain.student import Student
from trainer.pretrain.teacher import Teacher, Trunk
from trainer.pretrain.validation import validate
from trainer.pretrain.vocabulary import make_tokenizer
from trainer.pretrain.weight_average import average_weights, require_alike

STATE = "pretraining"  # the key of a run's state, the same for any recipe, as a run may be continued with more steps


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is given beside its recipe: nothing unless said.

    start: folder of an embedded model to start from, its vocabulary included. teacher: arrays of a trunk, see teacher.py.
    materials: folder of photographed ones, see materials/folder.py. average_with: folders of models of the same descent, with
    whose weights the run's are averaged in the end, see weight_average.py.
    """

    start: Path | None = None
    teacher: Path | None = None
    materials: Path | None = None
    average_with: tuple[Path, ...] = ()


def pretrain(
    recipe: Recipe,
    folder: Path,
    workers: int = 1,
    log_every: int = 50,
    inputs: Inputs = Inputs(),
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Tips:
    """Train, on a GPU if there is one, and return the averaged model; resume if `folder` holds the state of such a run.

    Under torchrun each process takes its part of every batch, on its own GPU; the first one writes. Views are the same for
    any number of processes, and so are the losses, but for what is compared within a part.

    Args:
        recipe: decides the result.
        folder: of the run; made if it is not there.
        workers: processes that make views; default 1, 0 for none beside this one.
        log_every: steps between two rows of figures, which are added to log.jsonl; default 50.
        inputs: weights and pictures that the run uses; default none.
        report: called with every row; default nothing.

    Raises ConfigError or CheckpointError when the inputs do not fit the recipe or cannot be read.
    """
    with training_process(recipe.batch) as process:
        return _pretrain(process, recipe, folder, workers, log_every, inputs, report)


def _pretrain(
    process: Process,
    recipe: Recipe,
    folder: Path,
    workers: int,
    log_every: int,
    inputs: Inputs,
    report: Callable[[dict[str, float]], None],
) -> Tips:
    folder.mkdir(parents=True, exist_ok=True)
    with process.in_turn():  # the first process makes what the others then find
        pool = make_pool(folder / "pool", recipe.pool, recipe.image_size + 32, recipe.seed, materials=inputs.materials)
        if inputs.start is not None and not (folder / TOKENIZER).exists():
            shutil.copyfile(inputs.start / TOKENIZER, folder / TOKENIZER)
        tokenizer = make_tokenizer(folder / TOKENIZER, recipe.seed, recipe.vocabulary)
    torch.manual_seed(recipe.seed)
    student = Student(recipe, tokenizer, has_teacher=inputs.teacher is not None)
    others = [load_tips_folder(other, str(other)) for other in inputs.average_with]
    require_alike(student.tips(tokenizer, "this run"), others)
    teacher = None
    if inputs.start is not None or inputs.teacher is not None:
        few = next(batches(pool, replace(recipe, small_steps=0), 0, 128, 128)).x
        if inputs.start is not None:
            student.load_embedded(load_tips_folder(inputs.start, str(inputs.start)), few)
        if inputs.teacher is not None:
            teacher = Teacher.of(Trunk(inputs.teacher), few, recipe.teacher_width)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # of several, the one of this process
    student = student.to(device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(student).requires_grad_(False)
    optimizers = _optimizers(student, recipe)
    saved = folder / "state.pt"
    step = 0
    if state := read_state(saved, STATE):
        step = _restore(state, student, average, optimizers, teacher)
        if process.rank == 0:
            report({"resumed_at_step": step})
    validation = next(batches(pool, replace(recipe, seed=recipe.seed + 1, small_steps=0), 0, 256, 256))
    log = (folder / "log.jsonl").open("a")
    started, first = time.monotonic(), step
    student.train()
    for batch in batches(
        pool, recipe, step * recipe.batch, (recipe.steps - step) * recipe.batch, recipe.batch, workers, teacher, process
    ):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(recipe, step)
        parts = pretraining_losses(student, tokenizer, batch, np.random.default_rng([recipe.seed, 2, step]))
        loss = torch.stack(list(parts.values())).sum()
        student.zero_grad(set_to_none=True)
        loss.backward()
        process.average(student)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        _update_average(average, student, min(recipe.ema, (1 + step) / (10 + step)))
        step += 1
        if process.rank == 0 and (step % log_every == 0 or step == recipe.steps):
            row = {"step": step, "loss": loss.item(), **{name: part.item() for name, part in parts.items()}}
            row["views_per_s"] = (step - first) * recipe.batch / (time.monotonic() - started)
            if step % (6 * log_every) == 0 or step == recipe.steps:
                row |= validate(average.tips(tokenizer, "student"), validation)
            if step % (2 * log_every) == 0 or step == recipe.steps:
                write_state(saved, STATE, _state(step, student, average, optimizers, teacher))
            log.write(json.dumps(row) + "\n")
            log.flush()
            report(row)
    return average_weights(average.cpu().tips(tokenizer, "embedded"), others)


# The keys of the state are those of the first version, whose runs can thus be resumed.


def _state(
    step: int,
    student: Student,
    average: Student,
    optimizers: list[torch.optim.Optimizer],
    teacher: Teacher | None,
) -> dict[str, Any]:
    state: dict[str, Any] = {"pupil": student.state_dict(), "average": average.state_dict(), "step": step}
    state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
    if teacher is not None:
        state["taught"] = [teacher.mean, teacher.directions]
    return state


def _restore(
    state: dict[str, Any],
    student: Student,
    average: Student,
    optimizers: list[torch.optim.Optimizer],
    teacher: Teacher | None,
) -> int:
    """Load a saved state and return its step."""
    student.load_state_dict(state["pupil"])
    average.load_state_dict(state["average"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    if teacher is not None:
        teacher.mean, teacher.directions = state["taught"]
    return int(state["step"])


def _optimizers(student: Student, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Make Muon for the matrices of the vision tower's blocks, AdamW at the same rate for the rest; vectors do not decay."""
    matrices = [parameter for parameter in student.vision.vit.blocks.parameters() if parameter.ndim == 2]
    chosen = set(map(id, matrices))
    others = [parameter for parameter in student.parameters() if id(parameter) not in chosen]
    groups = [
        {"params": [parameter for parameter in others if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in others if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        Muon(matrices, recipe.rate, recipe.weight_decay),
        torch.optim.AdamW(groups, recipe.rate, (0.9, 0.98)),
    ]


def _update_average(average: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the student's; integers are copied."""
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), student.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)
