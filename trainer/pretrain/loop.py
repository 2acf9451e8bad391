"""Pretraining of a small TIPS from pictures drawn by program, photographed materials in them if there are any: the embedded model.

Losses: image-caption contrast (the first class token with short captions, the second with descriptions that say where),
state of the picture, state of each patch and kind of each defect, all against the text tower's sentences; and, where there is
a teacher, what it says a patch looks like. Left out: self-distillation and masked patches.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edge_agent.backbones.appearance import Appearance
from edge_agent.backbones.tips import ConvStem, TextShape, TextTower, Tips, VisionShape, VisionTower, load_tips_folder
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.backbones.weights.catalog import TOKENIZER
from edge_agent.detectors import prompts
from edge_agent.errors import CheckpointError
from edge_agent.kernels import scoring
from trainer import synthesis
from trainer.evaluate.metrics import auroc
from trainer.io.processes import ALONE, Process, joined
from trainer.io.run_state import read_state, write_state
from trainer.pretrain.muon import Muon
from trainer.pretrain.pool import KINDS, Pool, make_pool, view
from trainer.pretrain.teacher import Teacher, Trunk
from trainer.pretrain.vocabulary import train_vocabulary
from trainer.pretrain.weight_average import averaged, require_alike

STATE = "pretraining"  # of any recipe, as a run may be prolonged


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the result of a pretraining. Pictures: good ones in the pool, each use spoils one afresh."""

    seed: int = 0
    image_size: int = 224
    width: int = 256
    depth: int = 6
    stem: tuple[int, ...] = (32, 64, 128, 256)
    compared: tuple[int, ...] = (0, 4)  # blocks before which patches are compared with their own picture's
    contrast: bool = True  # each patch is told its local contrast
    text_depth: int = 3
    vocabulary: int = 1500
    pool: int = 12_000
    batch: int = 32
    small_size: int = 160  # side in pixels of the first views, which cost half as much
    small_steps: int = 1500
    steps: int = 1900
    decay_steps: int = 600  # the last steps, over which the rate falls to nothing
    warmup_steps: int = 150
    rate: float = 1e-3
    weight_decay: float = 0.05
    p_defect: float = 0.6
    ema: float = 0.998
    taught_width: int = 128  # figures a patch that a teacher, if there is one, is imitated in
    taught_by: int = 4  # blocks after which the patches should know them


class TrainedStem(nn.Module):
    """ConvStem with batch norms, which `folded` merges into its convolutions."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stem = ConvStem(widths, width)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for after in widths)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.stem.convs, self.norms, strict=True):
            y = F.relu(norm(conv(x)))
            x = x + y if conv.stride == (1, 1) else y
        return self.stem.proj(x)

    def folded(self) -> ConvStem:
        """The same function, in evaluation mode, without norms."""
        stem = copy.deepcopy(self.stem)
        for conv, norm in zip(stem.convs, self.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            fused = torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
            conv.weight, conv.bias = fused.weight, fused.bias
        return stem


class Pupil(nn.Module):
    """Both towers and the temperature, as they are trained."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, *, taught: bool = False) -> None:
        """taught: by a teacher, so that the vision tower also has figures of what a patch looks like."""
        super().__init__()
        self.taught_by = min(recipe.taught_by, recipe.depth)
        patch = ConvStem.patch(recipe.stem)
        shape = VisionShape(
            recipe.width,
            recipe.depth,
            4 * recipe.width,
            recipe.image_size // patch,
            patch,
            False,
            recipe.stem,
            tuple(block for block in recipe.compared if block < recipe.depth),
            recipe.contrast,
            (self.taught_by, recipe.taught_width) if taught else None,
        )
        self.vision = VisionTower(shape)
        nn.init.normal_(self.vision.vit.cls_token, std=0.02)  # unlike each other from the start
        nn.init.normal_(self.vision.vit.reg_token, std=0.02)
        for name, weight in self.vision.named_parameters():
            if name.startswith(("comparisons.", "contrast.")) and name.endswith("out.weight"):
                nn.init.zeros_(weight)  # it adds the same to every patch until it has learnt what to add
        self.vision.stem = TrainedStem(recipe.stem, recipe.width)
        self.text = TextTower(TextShape(recipe.width, recipe.text_depth, 4 * recipe.width, len(tokenizer)))
        nn.init.normal_(self.text.token_embedding.weight, std=recipe.width**-0.5)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.07)))

    @torch.no_grad()
    def start_from(self, tips: Tips, x: Tensor) -> None:
        """Take over the weights of an embedded model: the same function, but for the first class token, which is drawn anew.

        x: (B, 3, H, W), pictures by which the stem's norms are set to change nothing. What it lacks stays as drawn.
        """
        assert tips.text is not None
        wanted = self.state_dict()
        given = {f"vision.{key}": value for key, value in tips.vision.state_dict().items()}
        given = {key.replace(".stem.", ".stem.stem."): value for key, value in given.items()}
        given |= {f"text.{key}": value for key, value in tips.text.state_dict().items()}
        given["log_temperature"] = torch.tensor(math.log(tips.temperature))
        if not self.vision.appearance:
            given = {key: value for key, value in given.items() if not key.startswith("vision.appearance.")}
        token = self.vision.vit.cls_token.clone()
        unlike = [key for key in given if key not in wanted or wanted[key].shape != given[key].shape]
        if unlike:
            raise CheckpointError(
                f"{tips.name} is built otherwise than this recipe ({unlike[0]}): take one that is alike"
            )
        self.load_state_dict(given, strict=False)
        own = self.vision.vit.cls_token
        own.add_(token * own.std() / token.std())
        stem = self.vision.stem
        assert isinstance(stem, TrainedStem)
        for conv, norm in zip(stem.stem.convs, stem.norms, strict=True):
            y = conv(x)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            variance, mean = torch.var_mean(y, dim=(0, 2, 3), correction=0)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.bias.copy_(mean)
            norm.weight.copy_((variance + norm.eps).sqrt())
            y = F.relu(y)
            x = x + y if conv.stride == (1, 1) else y

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp().clamp(0.01, 1.0)

    def tips(self, tokenizer: Tokenizer, name: str) -> Tips:
        """What the agent loads: norms folded, frozen."""
        pupil = copy.deepcopy(self).eval()
        assert isinstance(pupil.vision.stem, TrainedStem)
        pupil.vision.stem = pupil.vision.stem.folded()
        return (
            Tips(pupil.vision, pupil.text, tokenizer, float(self.temperature.detach()), name)
            .eval()
            .requires_grad_(False)
        )


class Views(Dataset):
    """Views by number: the n-th is the same whenever and by whomever it is made.

    Of each batch of the recipe a process of several takes its own part; alone it takes all, in whatever batches.
    """

    def __init__(self, pool: Pool, recipe: Recipe, start: int, count: int, own: Process = ALONE) -> None:
        self.pool, self.recipe, self.start, self.own = pool, recipe, start, own
        self.count = count // own.of

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, str, str, str]:
        cv2.setNumThreads(0)
        part = self.recipe.batch // self.own.of
        number = self.start + (index // part) * self.recipe.batch + self.own.rank * part + index % part
        rng = np.random.default_rng([self.recipe.seed, 1, number])
        small = number < self.recipe.small_steps * self.recipe.batch
        shown = view(self.pool, rng, self.recipe.small_size if small else self.recipe.image_size, self.recipe.p_defect)
        caption = synthesis.caption(rng, shown.noun, shown.kind)
        description = synthesis.description(rng, shown.noun, shown.kind, shown.labels > 0)
        return shown.pixels, shown.labels, shown.noun, caption, description


@dataclass(frozen=True, slots=True)
class Batch:
    """x: (B, 3, H, W) in [0, 1]. labels: (B, H, W) uint8, a view's. taught: (B, N, K), what the teacher says, if there is one.

    The rest: one string a picture.
    """

    x: Tensor
    labels: Tensor
    nouns: tuple[str, ...]
    captions: tuple[str, ...]
    descriptions: tuple[str, ...]
    taught: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(B, H, W) in {0, 1}, float: 1 where there is any defect."""
        return (self.labels > 0).float()


def collate(rows: list[tuple[np.ndarray, np.ndarray, str, str, str]], teacher: Teacher | None = None) -> Batch:
    """Rows of `Views` to a batch; the teacher is asked here, in the process that makes the pictures."""
    pixels, labels, nouns, captions, descriptions = zip(*rows, strict=True)
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    taught = None if teacher is None else teacher(x)
    return Batch(x, torch.from_numpy(np.stack(labels)), nouns, captions, descriptions, taught)


def losses(pupil: Pupil, tokenizer: Tokenizer, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
    """The parts of the loss by name, already weighted."""
    device = pupil.log_temperature.device
    # Only the towers in half precision, and only on a GPU: many CPUs are slower with it.
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    with half:
        features = pupil.vision(batch.x.to(device), (pupil.taught_by,))
    temperature = pupil.temperature
    mask = batch.mask.to(device)
    bad = mask.amax(dim=(1, 2))  # (B,) 1 where the picture holds a defect

    nouns = [
        "object",
        *(batch.nouns[index] for index in rng.choice(len(batch.nouns), min(3, len(batch.nouns)), replace=False)),
    ]
    groups: list[list[str]] = [group for noun in nouns for group in prompts.sentences(noun)]
    groups = [list(rng.choice(group, 10 if index < 2 else 4, replace=False)) for index, group in enumerate(groups)]
    kind_sentences = [synthesis.caption(rng, "object", kind, named=True) for kind in KINDS]
    sentences = [
        *batch.captions,
        *batch.descriptions,
        *kind_sentences,
        *(sentence for group in groups for sentence in group),
    ]
    ids, paddings = tokenizer(sentences)
    with half:
        text = pupil.text(ids.to(device), paddings.to(device))
    text = scoring.unit(text)  # (T, D)
    count = len(batch.captions)
    caption_text, description_text, kind_text, state_text = text.split(
        [count, count, len(KINDS), sum(map(len, groups))]
    )
    means = [scoring.unit(part.mean(dim=0)) for part in state_text.split([len(group) for group in groups])]
    pairs = torch.stack(means).unflatten(0, (len(nouns), 2))  # (nouns, 2, D)

    # The picture and its words, a kind of words for each class token; equal words are all right answers.
    contrast = picture = torch.zeros((), device=device)
    told = ((batch.captions, caption_text), (batch.descriptions, description_text))
    for token, (words, words_text) in zip(features.globals.unbind(dim=1), told, strict=True):
        same = torch.tensor([[a == b for b in words] for a in words], dtype=torch.float32, device=device)
        target = same / same.sum(dim=1, keepdim=True)
        logits = scoring.unit(token) @ words_text.T / temperature
        contrast = contrast + (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        odds = scoring.unit(token) @ (pairs[:, 1] - pairs[:, 0]).T / temperature  # (B, nouns)
        picture = picture + F.binary_cross_entropy_with_logits(odds, bad.unsqueeze(1).expand_as(odds))

    # Each patch and the state of what it shows. A few changed pixels make a patch anomalous: small defects count.
    patch = pupil.vision.shape.patch
    covered = F.avg_pool2d(mask.unsqueeze(1), patch).squeeze(1)  # (B, h, w) fraction
    patch_target = (covered / 0.06).clamp(max=1)
    patches = scoring.unit(features.patches)
    odds = (patches @ (pairs[0, 1] - pairs[0, 0]) / temperature).unflatten(1, features.grid)  # (B, h, w)
    weight = 1 + 2 * patch_target
    state = (F.binary_cross_entropy_with_logits(odds, patch_target, reduction="none") * weight).mean()

    # The map as it will be looked at: stretched, against the mask itself (focal and Dice, as Tipsomaly fits).
    side = 4 * features.grid[0]
    fine = F.interpolate(mask.unsqueeze(1), size=(side, side), mode="area").squeeze(1)
    shown = scoring.stretch(torch.sigmoid(odds), side)
    overlap = 1 - (2 * (shown * fine).sum(dim=(1, 2)) + 1) / ((shown + fine).sum(dim=(1, 2)) + 1)

    # Anomalous patches and the words for their defect.
    labels = F.max_pool2d(batch.labels.to(device).float().unsqueeze(1), patch).squeeze(1)  # (B, h, w)
    chosen = (covered > 0.05).flatten(1)  # (B, N)
    what = torch.zeros((), device=device)
    if chosen.any():
        logits = patches[chosen] @ kind_text.T / temperature
        missed = F.cross_entropy(logits, labels.flatten(1)[chosen].long() - 1, reduction="none")
        share = (chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1))[chosen]  # each picture counts alike
        what = (missed * share).sum() / share.sum()
    parts = {
        "contrast": 0.1 * contrast,
        "picture": 0.5 * picture,
        "patch": 2 * state,
        "dice": 0.5 * overlap.mean(),
        "kind": what,
    }
    if batch.taught is not None:
        appearance = pupil.vision.appearance[str(pupil.taught_by)]
        assert isinstance(appearance, Appearance)
        unlike = appearance.figures(features.layers[pupil.taught_by].float()) - batch.taught.to(device)
        parts["taught"] = unlike.square().sum(dim=2).mean()  # 1 for who says the same of every patch
    return parts


def rate_at(recipe: Recipe, step: int) -> float:
    """Learning rate: linear warm-up, then constant, then linear to nothing (so that a run can be prolonged before it falls)."""
    rising = (step + 1) / recipe.warmup_steps
    falling = (recipe.steps - step) / max(recipe.decay_steps, 1)
    return recipe.rate * min(1.0, rising, falling)


@dataclass(frozen=True, slots=True)
class Given:
    """What a run is given beside its recipe: nothing unless said.

    start: folder of an embedded model to begin with, its vocabulary included. teacher: a trunk's arrays (see teacher.py).
    materials: folder of photographed ones (see materials.py). average_with: folders of models of the same descent,
    with whose weights the run's are averaged in the end (see soup.py).
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
    given: Given = Given(),
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Tips:
    """Train, resuming from `folder` if it holds the state of such a run, and return the averaged model. On a GPU if there is one.

    Under torchrun each process takes its part of every batch, on its own GPU; the first one writes. Views, and but for what
    is compared within a part the losses, are the same for any number of processes. Raises ConfigError, CheckpointError.

    Every log_every steps a row of figures is added to log.jsonl and given to `report`.
    """
    with joined(recipe.batch) as process:
        return _pretrain(process, recipe, folder, workers, log_every, given, report)


def _pretrain(
    process: Process,
    recipe: Recipe,
    folder: Path,
    workers: int,
    log_every: int,
    given: Given,
    report: Callable[[dict[str, float]], None],
) -> Tips:
    folder.mkdir(parents=True, exist_ok=True)
    with process.in_turn():  # the first one makes what the others then find
        pool = make_pool(folder / "pool", recipe.pool, recipe.image_size + 32, recipe.seed, materials=given.materials)
        if given.start is not None and not (folder / TOKENIZER).exists():
            shutil.copyfile(given.start / TOKENIZER, folder / TOKENIZER)
        tokenizer = _tokenizer(recipe, folder)
    torch.manual_seed(recipe.seed)
    pupil = Pupil(recipe, tokenizer, taught=given.teacher is not None)
    others = [load_tips_folder(other, str(other)) for other in given.average_with]
    require_alike(pupil.tips(tokenizer, "this run"), others)
    asked = None
    if given.start is not None or given.teacher is not None:
        few = next(batches(pool, replace(recipe, small_steps=0), 0, 128, 128)).x
        if given.start is not None:
            pupil.start_from(load_tips_folder(given.start, str(given.start)), few)
        if given.teacher is not None:
            asked = Teacher.of(Trunk(given.teacher), few, recipe.taught_width)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # of several, the one that is this process's
    pupil = pupil.to(device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(pupil).requires_grad_(False)
    optimizers = _optimizers(pupil, recipe)
    saved = folder / "state.pt"
    step = 0
    if state := read_state(saved, STATE):
        pupil.load_state_dict(state["pupil"])
        average.load_state_dict(state["average"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step = state["step"]
        if asked is not None:
            asked.mean, asked.directions = state["taught"]
        if process.rank == 0:
            report({"resumed_at_step": step})
    validation = next(batches(pool, replace(recipe, seed=recipe.seed + 1, small_steps=0), 0, 256, 256))
    log = (folder / "log.jsonl").open("a")
    begun, first = time.monotonic(), step
    pupil.train()
    for batch in batches(
        pool, recipe, step * recipe.batch, (recipe.steps - step) * recipe.batch, recipe.batch, workers, asked, process
    ):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate_at(recipe, step)
        parts = losses(pupil, tokenizer, batch, np.random.default_rng([recipe.seed, 2, step]))
        loss = torch.stack(list(parts.values())).sum()
        pupil.zero_grad(set_to_none=True)
        loss.backward()
        process.average(pupil)
        torch.nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        _follow(average, pupil, min(recipe.ema, (1 + step) / (10 + step)))
        step += 1
        if process.rank == 0 and (step % log_every == 0 or step == recipe.steps):
            row = {"step": step, "loss": loss.item(), **{name: part.item() for name, part in parts.items()}}
            row["views_per_s"] = (step - first) * recipe.batch / (time.monotonic() - begun)
            if step % (6 * log_every) == 0 or step == recipe.steps:
                row |= validate(average.tips(tokenizer, "pupil"), validation)
            if step % (2 * log_every) == 0 or step == recipe.steps:
                now: dict[str, Any] = {"pupil": pupil.state_dict(), "average": average.state_dict(), "step": step}
                now["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
                if asked is not None:
                    now["taught"] = [asked.mean, asked.directions]
                write_state(saved, STATE, now)
            log.write(json.dumps(row) + "\n")
            log.flush()
            report(row)
    return averaged(average.cpu().tips(tokenizer, "embedded"), others)


@torch.inference_mode()
def validate(tips: Tips, batch: Batch) -> dict[str, float]:
    """Image and pixel AUROC in percent on synthetic pictures, with the fixed prompts for "object"."""
    pair = torch.stack([scoring.state_feature(tips.encode_text(state)) for state in prompts.sentences("object")])
    maps, images = [], []
    for x in batch.x.split(64):
        features = tips.encode_image(x.to(tips.device))
        patches = scoring.anomalous_probability(features.patches, pair, tips.temperature).unflatten(1, features.grid)
        tokens = scoring.anomalous_probability(features.globals, pair, tips.temperature)
        maps.append(scoring.stretch(patches, 56))
        images.append((tokens[:, 1] + patches.amax(dim=(1, 2))) / 2)
    masks = F.interpolate(batch.mask.unsqueeze(1), size=(56, 56), mode="area").squeeze(1) > 0.3
    return {
        "image_auroc": auroc(batch.mask.amax(dim=(1, 2)).numpy() > 0, torch.cat(images).cpu().numpy()),
        "pixel_auroc": auroc(masks.numpy().ravel(), torch.cat(maps).cpu().numpy().ravel()),
    }


def batches(
    pool: Pool,
    recipe: Recipe,
    start: int,
    count: int,
    size: int,
    workers: int = 0,
    teacher: Teacher | None = None,
    process: Process = ALONE,
) -> Iterator[Batch]:
    """Views start .. start + count of the recipe's stream in batches of `size`; a last one that is not full is left out.

    process: which part of each batch to make.
    """
    yield from DataLoader(
        Views(pool, recipe, start, count, process),
        size // process.of,
        num_workers=workers,
        collate_fn=partial(collate, teacher=teacher),
        drop_last=True,
        prefetch_factor=4 if workers else None,
    )


def _optimizers(pupil: Pupil, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the vision tower's blocks, AdamW at the same rate for all else; no decay of vectors."""
    matrices = [parameter for parameter in pupil.vision.vit.blocks.parameters() if parameter.ndim == 2]
    chosen = set(map(id, matrices))
    others = [parameter for parameter in pupil.parameters() if id(parameter) not in chosen]
    groups = [
        {"params": [parameter for parameter in others if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in others if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        Muon(matrices, recipe.rate, recipe.weight_decay),
        torch.optim.AdamW(groups, recipe.rate, (0.9, 0.98)),
    ]


def _tokenizer(recipe: Recipe, folder: Path) -> Tokenizer:
    path = folder / TOKENIZER
    if not path.exists():
        rng = np.random.default_rng([recipe.seed, 3])
        kinds = [None, *KINDS]
        captions = [
            synthesis.caption(rng, noun, kinds[rng.integers(len(kinds))])
            for noun in synthesis.NOUNS
            for _ in range(200)
        ]
        spot = np.zeros((3, 3), bool)
        for noun in synthesis.NOUNS:
            for _ in range(50):
                spot[:] = False
                spot[tuple(rng.integers(3, size=2))] = True
                captions.append(synthesis.description(rng, noun, kinds[rng.integers(len(kinds))], spot))
        path.write_bytes(train_vocabulary(captions, ["object", *synthesis.NOUNS], recipe.vocabulary))
    return Tokenizer(path)


def _follow(average: nn.Module, pupil: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), pupil.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)
