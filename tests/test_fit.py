"""Fitting: features kept are features computed, what is cut off resumes to the same bits, processes together do what one does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.model import Tips
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.detectors.methods import METHODS, lookup
from edge_agent.detectors.tipsomaly import NO_CONTRAST
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.load import Loader, load_detector
from tests import tiny_clip
from tests.conftest import wait_until
from tests.forked import started
from tests.made import unprivileged_folder
from trainer import synthesis
from trainer.cli import main
from trainer.commands.output import ProgressLines
from trainer.fit.checkpoint import FitProgress, FitRequest, FitResult, fit_checkpoint
from trainer.fit.comparison import reference_checkpoint
from trainer.fit.defaults import default_epochs
from trainer.fit.feature_cache import OPTIONAL, CachedFeatures, cache_features
from trainer.fit.features import EncodeSettings, FreshFeatures, LabelledPicture
from trainer.fit.loop import Plan, fit
from trainer.fit.pictures import TooFewError, from_data, from_good
from trainer.fit.recipes import RECIPES, warm_cosine
from trainer.fit.tipsomaly_settings import CONTRAST, choose_settings

SIDE = 96  # pixels: 6 x 6 patches of the embedded model
APART = [
    name for name in RECIPES if not METHODS[name].on_clip or name in ("afclip", "crane")
]  # what differs in its features


@pytest.fixture(scope="module")
def tips() -> Tips:
    backbone = Loader().backbone()
    assert isinstance(backbone, Tips)
    return backbone


@pytest.fixture(scope="module")
def shown() -> list[LabelledPicture]:
    """Procedural pictures of three sizes, half of them with a defect."""
    drawn = [synthesis.sample(np.random.default_rng([1, number]), 80 + 8 * (number % 3)) for number in range(20)]
    return [LabelledPicture(one.pixels, one.mask) for one in drawn]


@pytest.fixture(scope="module")
def folder(shown: list[LabelledPicture], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in MVTec layout, and one broken picture more."""
    root: Path = tmp_path_factory.mktemp("set") / "plate"
    for number, one in enumerate(shown):
        kind = "dent" if one.mask.any() else "good"
        for place, array in (
            (f"test/{kind}", one.pixels[..., ::-1]),
            (f"ground_truth/{kind}", one.mask * np.uint8(255)),
        ):
            (root / place).mkdir(parents=True, exist_ok=True)
            suffix = "_mask" if place.startswith("ground") else ""
            cv2.imwrite(str(root / place / f"{number:02}{suffix}.png"), array)
    whole = (root / "test/good").glob("*.png").__next__().read_bytes()
    (root / "test/good/broken.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    """The name of a small CLIP in a file."""
    return tiny_clip.saved(tmp_path_factory.mktemp("clip"), tiny_clip.EVEN)


@pytest.fixture
def backbone(name: str, tips: Tips, small: str) -> Backbone:
    """What a method is fitted on here."""
    return Loader().backbone(small) if METHODS[name].on_clip else tips


def view_of(name: str, backbone: Backbone) -> EncodeSettings:
    method = lookup(name).fresh(backbone, "object")
    side = 6 * backbone.patch
    return EncodeSettings.of(method, side, SIDE)


@pytest.mark.parametrize("name", APART)
def test_kept_features_are_the_fresh_ones_in_half_precision(backbone, shown, name):
    view = view_of(name, backbone)
    chosen = torch.tensor([3, 0, 17])
    kept, fresh = (
        cache_features(backbone, shown, len(shown), view).batch(chosen),
        FreshFeatures(backbone, shown, view).batch(chosen),
    )
    method = lookup(name).fresh(backbone, "object").eval()
    with torch.no_grad():
        ours, theirs = (method.scores(method(one.features)) for one in (kept, fresh))
    torch.testing.assert_close(ours.picture, theirs.picture, atol=5e-3, rtol=0)
    torch.testing.assert_close(ours.patches, theirs.patches, atol=2e-2, rtol=0)
    torch.testing.assert_close(kept.masks, fresh.masks, atol=0, rtol=0)
    torch.testing.assert_close(kept.bad, fresh.bad, atol=0, rtol=0)


def test_features_on_disk_are_those_in_memory_and_are_reused_only_by_their_own_fit(tips, shown, tmp_path):
    view = view_of("tipsomaly", tips)
    chosen = torch.arange(len(shown))
    memory = cache_features(tips, shown, len(shown), view).batch(chosen)
    cache_features(tips, shown, 30, view, folder=tmp_path, key="mine")
    again = cache_features(tips, iter(()), 30, view, folder=tmp_path, key="mine")  # asks for no picture
    assert isinstance(again, CachedFeatures)
    torch.testing.assert_close(again.batch(chosen).features.patches, memory.features.patches, atol=0, rtol=0)
    with pytest.raises(EdgeAgentError, match="no picture is left"):
        cache_features(tips, iter(()), 30, view, folder=tmp_path, key="another's")


@pytest.mark.parametrize("name", RECIPES)
def test_fitting_lowers_the_loss(backbone, shown, name):
    features = cache_features(backbone, shown, len(shown), view_of(name, backbone))
    torch.manual_seed(0)
    method = lookup(name).fresh(backbone, "object")
    published = RECIPES[name]  # faster here, for want of steps
    recipe = replace(published, rates={prefix: 20 * rate for prefix, rate in published.rates.items()})
    seen: list[float] = []
    fit(method, features, Plan(recipe, 8, 10), report=lambda step, losses: seen.append(losses["loss"]))
    assert np.mean(seen[-2:]) < 0.99 * np.mean(seen[:2])


def test_a_warm_cosine_goes_up_from_0_over_a_tenth_of_the_steps_and_down_to_0():
    assert [warm_cosine(done) for done in (0, 0.05, 0.1, 0.55, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize("name", APART)
def test_a_fit_that_was_cut_off_resumes_to_the_same_bits(backbone, shown, name, tmp_path):
    features = cache_features(backbone, shown, len(shown), view_of(name, backbone))
    plan = Plan(RECIPES[name], 2, 8, every_s=0)

    class Cut(Exception):
        pass

    def cut(step: int, losses: object) -> None:
        if step == 4:
            raise Cut

    fitted = []
    for attempts in (1, 2):
        torch.manual_seed(0)
        method = lookup(name).fresh(backbone, "object")
        state = tmp_path / f"{attempts}.pt"
        if attempts == 2:
            with pytest.raises(Cut):
                fit(method, features, plan, state=state, key="k", report=cut)
            torch.manual_seed(5)  # nothing of before counts
            method = lookup(name).fresh(backbone, "object")
        fit(method, features, plan, state=state, key="k")
        fitted.append(method.state_dict())
    for key, value in fitted[0].items():
        torch.testing.assert_close(fitted[1][key], value, atol=0, rtol=0, msg=key)


def test_a_fit_resumed_from_features_on_disk_tells_again_what_it_skipped(tips, folder, tmp_path):
    request = FitRequest("tipsomaly", epochs=1, image_size=SIDE, memory_gb=0)
    pictures, out = from_data(folder), tmp_path / "prompts.safetensors"

    class Cut(Exception):
        pass

    def cut(step: int, total: int, losses: object) -> None:
        raise Cut

    with pytest.raises(Cut):
        fit_checkpoint(request, tips, pictures, out, FitProgress(step=cut))

    def read(skipped: object) -> Iterator[LabelledPicture]:
        yield pytest.fail("reads pictures whose features it has")

    unread = replace(pictures, read=read)
    fitted = fit_checkpoint(request, tips, unread, out)
    assert [one.path.name for one in fitted.skipped] == ["broken.png"]
    assert "cut off" in fitted.skipped[0].reason
    assert fitted.pictures == 20


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("test/good", r"plate: has no good pictures, and fitting needs some: add them, as CATEGORY/test/good"),
        ("test/dent", "plate: has no defective pictures with masks, and fitting needs some: .* --good"),
        ("ground_truth", "plate: has no defective pictures with masks"),
    ],
)
def test_a_set_of_one_kind_is_refused_before_a_picture_is_read(folder, gone, said, tmp_path):
    shutil.copytree(folder, tmp_path / "plate")
    shutil.rmtree(tmp_path / "plate" / gone)
    with pytest.raises(EdgeAgentError, match=said):
        from_data(tmp_path / "plate")


def test_where_all_pictures_of_one_kind_are_broken_no_step_is_taken(tips, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "plate")
    for path in (tmp_path / "plate" / "test" / "good").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    request, out = FitRequest("tipsomaly", epochs=1, image_size=SIDE), tmp_path / "prompts.safetensors"
    steps: list[int] = []
    with pytest.raises(EdgeAgentError, match="has no good pictures"):
        fit_checkpoint(
            request, tips, from_data(tmp_path / "plate"), out, FitProgress(step=lambda step, *_: steps.append(step))
        )
    assert steps == []
    assert [path.name for path in tmp_path.iterdir()] == ["plate"]


def test_a_defect_thinner_than_what_masks_are_looked_at_with_counts_all_the_same(tips):
    pixels, mask = np.zeros((500, 500, 3), np.uint8), np.zeros((500, 500), bool)
    scratched = mask.copy()
    scratched[211:213, 100:102] = True
    kept = cache_features(
        tips, [LabelledPicture(pixels, mask), LabelledPicture(pixels, scratched)], 2, EncodeSettings(SIDE, SIDE)
    )
    assert kept.bad.tolist() == [False, True]
    assert kept.batch(torch.tensor([0, 1])).bad.tolist() == [0, 1]
    (marked,) = kept.batch(torch.tensor([1])).masks.nonzero()[:, 1:].tolist()
    assert marked == [212 * SIDE // 500, 100 * SIDE // 500]


def test_a_map_holds_contrast_only_where_the_backbone_looks_at_it(tips, shown):
    view = view_of("tipsomaly", tips)
    kept = cache_features(tips, shown, len(shown), view)
    blind = CachedFeatures(
        {name: array for name, array in kept._arrays.items() if name not in OPTIONAL}, view, tips.device
    )
    for features, contrast in ((kept, CONTRAST), (blind, NO_CONTRAST)):
        method = lookup("tipsomaly").fresh(tips, "object")
        choose_settings(method, features)
        assert method.contrast == contrast
        batch = features.batch(torch.arange(2))
        finer = 4 if contrast[0] else 1
        scores = method.scores(method(batch.features))
        assert scores.patches.shape[1:] == tuple(finer * side for side in batch.features.grid)


def test_the_state_of_another_fit_is_refused(tips, shown, tmp_path):
    features = cache_features(tips, shown, len(shown), view_of("tipsomaly", tips))
    method = lookup("tipsomaly").fresh(tips, "object")
    fit(method, features, Plan(RECIPES["tipsomaly"], 1, 8), state=tmp_path / "state.pt", key="one")
    with pytest.raises(EdgeAgentError, match=r"state\.pt belongs to a run with other settings"):
        fit(method, features, Plan(RECIPES["tipsomaly"], 1, 8), state=tmp_path / "state.pt", key="other")
    (tmp_path / "state.pt").write_bytes(b"x" * 100)
    with pytest.raises(EdgeAgentError, match="not the state of a run, or damaged"):
        fit(method, features, Plan(RECIPES["tipsomaly"], 1, 8), state=tmp_path / "state.pt", key="one")


def test_fewer_pictures_get_more_epochs_so_that_there_are_as_many_steps_as_published():
    assert default_epochs(2, 8, 1725) == 2
    assert default_epochs(2, 8, 100_000) == 2
    assert default_epochs(2, 8, 80) * 10 >= 2 * 1725 // 8


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return ["fit", "--data", str(folder), "--out", str(out), "--image-size", str(SIDE), "--force", *more]


@pytest.mark.parametrize("name", APART)
def test_what_is_fitted_inspects(folder, small, name, tmp_path, capfd):
    model, side = (small, 48) if METHODS[name].on_clip else ("embedded", SIDE)
    out = tmp_path / "prompts.safetensors"
    assert (
        main(command(folder, out, "--method", name, "--epochs", "1", "--backbone", model, "--image-size", str(side)))
        == 0
    )
    told = capfd.readouterr()
    # With no prompts of its own to compare with, nothing is kept apart.
    assert ("fitted on 20 pictures, 3 steps" if model == small else "fitted on 15 pictures, 2 steps") in told.out
    (skipped,) = [line for line in told.err.splitlines() if "broken.png" in line]
    assert re.fullmatch(r"skipped [^:]*/broken\.png: cut off or damaged, .*", skipped)
    assert "skipped 1 picture in all" in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompts.safetensors"]
    detector = load_detector(model, out)
    assert detector.info.name == f"{name}/{model.split('@')[0]}"
    (reading,) = detector.read([np.zeros((50, 60, 3), np.uint8)])
    assert 0 <= reading.score <= 1
    assert reading.heatmap.shape == (side, side)
    assert 0 <= detector.info.threshold <= 1


def test_a_fit_killed_again_and_again_ends_in_the_same_checkpoint(folder, tmp_path):
    more = ("--epochs", "5", "--memory-gb", "0")
    whole = tmp_path / "whole.safetensors"
    assert main(command(folder, whole, *more)) == 0
    out = tmp_path / "killed.safetensors"
    fitting = command(folder, out, *more, "--save-every", "0")
    state = tmp_path / ".killed.safetensors.fit" / "state.pt"
    for _ in range(2):  # each time a little further on
        process = started(tmp_path / "log", *fitting, program=main)
        before = state.stat().st_mtime_ns if state.exists() else 0
        wait_until(
            lambda: not process.is_alive() or (state.exists() and state.stat().st_mtime_ns != before),  # noqa: B023
            "it saves how far it has come",
        )
        process.kill()
        process.join()
    assert not out.exists()
    assert main(fitting) == 0
    ours, theirs = (safetensors.torch.load_file(path) for path in (out, whole))
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=0, rtol=0, msg=key)


def test_two_processes_fit_what_one_fits(folder, tmp_path):
    more = ("--epochs", "2")
    assert main(command(folder, tmp_path / "one.safetensors", *more)) == 0
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainer"]
    ended = subprocess.run(
        [*run, *command(folder, tmp_path / "two.safetensors", *more)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("skipped 1 picture in all") == 1
    one, two = (safetensors.torch.load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two["prompt"], one["prompt"], atol=1e-4, rtol=0)


def test_good_pictures_alone_are_enough(shown, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    for number, one in enumerate(one for one in shown if not one.mask.any()):
        cv2.imwrite(str(good / f"{number}.png"), one.pixels)
    out = tmp_path / "prompts.safetensors"
    assert (
        main(
            [
                "fit",
                "--good",
                str(good),
                "--count",
                "12",
                "--out",
                str(out),
                "--image-size",
                "64",
                "--epochs",
                "1",
                "--force",
            ]
        )
        == 0
    )
    assert "made of" in safetensors.safe_open(out, "pt").metadata()["header"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image-size", "100"], "no multiple of embedded's patch of 16"),
        (["--data", "/nowhere"], "/nowhere"),
        (["--out", "/nowhere/x.safetensors"], "no such folder"),
        (["--backbone", "tips-x14"], "did you mean"),
    ],
)
def test_what_cannot_be_fitted_is_said_with_the_remedy(folder, arguments, said, tmp_path, capfd):
    assert main([*command(folder, tmp_path / "x.safetensors"), *arguments]) == 1
    assert said in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said_before_the_work(folder, capfd):
    with unprivileged_folder() as locked:
        locked.chmod(0o500)
        try:
            assert main(command(folder, locked / "x.safetensors")) == 1
        finally:
            locked.chmod(0o700)
    assert "x.safetensors cannot be written there (Permission denied)" in capfd.readouterr().err


# What was there before


def test_a_fit_that_is_worse_than_the_models_own_prompts_is_not_written_without_force(folder, tmp_path, capfd):
    out = tmp_path / "prompts.safetensors"
    few = ["fit", "--data", str(folder), "--out", str(out), "--image-size", "64", "--epochs", "1", "--seed", "3"]
    code = main(few)
    told = capfd.readouterr()
    assert "that were kept apart from the fit; before: " in told.out
    before, after = (re.search(rf"{name} AUROC +([\d.]+) +([\d.]+)", told.out).groups() for name in ("image", "pixel"))
    is_worse = float(before[1]) + float(after[1]) < float(before[0]) + float(after[0])
    assert (code, out.exists()) == ((1, False) if is_worse else (0, True))
    assert ("not written, as the fitted prompts are worse" in told.err) is is_worse


def test_a_worse_fit_keeps_its_state_and_force_writes_it_at_once(tips, folder, tmp_path):
    out, request = tmp_path / "prompts.safetensors", FitRequest("tipsomaly", epochs=1, image_size=64, save_every_s=1e9)
    pictures = from_data(folder, keep_apart=True)
    assert pictures.check is not None
    reference = load_checkpoint(EMBEDDED_FOLDER / "tipsomaly.safetensors")

    def fitted(better: float, force: bool = False) -> tuple[FitResult, list[int]]:
        steps: list[int] = []
        progress = FitProgress(step=lambda step, *_: steps.append(step))
        with pytest.MonkeyPatch.context() as patched:
            figures = iter([{"image_auroc": 90.0}, {"image_auroc": 90.0 + better}])
            patched.setattr("trainer.fit.comparison.figures_of", lambda *_: next(figures))
            return fit_checkpoint(request, tips, pictures, out, progress, reference=reference, force=force), steps

    worse, steps = fitted(-1)
    assert steps == [1, 2]
    assert not worse.written
    assert not out.exists()
    forced, steps = fitted(-1, force=True)
    assert steps == []  # it goes on from the state of the end
    assert forced.written
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert fitted(+1)[0].written


def test_pictures_kept_apart_are_of_both_kinds_and_not_fitted_on(folder, shown, tmp_path):
    whole, split = from_data(folder), from_data(folder, keep_apart=True)
    assert split.check is not None
    assert split.count + split.check.count == whole.count
    fitted, apart = list(split.read([])), list(split.check.read([]))
    assert {bool(one.mask.any()) for one in apart} == {True, False}
    assert not {one.pixels.tobytes() for one in fitted} & {one.pixels.tobytes() for one in apart}
    for number, one in enumerate(one for one in shown if not one.mask.any()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), one.pixels)
    good = from_good(tmp_path, 10, 0, keep_apart=True)
    assert good.check is not None
    assert good.check.count == 10
    for path in sorted(tmp_path.iterdir())[1:]:
        path.unlink()
    with pytest.raises(TooFewError, match="1 good picture is too few to keep one apart"):
        from_good(tmp_path, 10, 0, keep_apart=True)


def test_what_a_fit_replaces_is_the_checkpoint_there_or_the_models_own(tips, tmp_path):
    own = reference_checkpoint(tmp_path / "none.safetensors", "embedded", tips)
    assert own is not None
    assert own.path == EMBEDDED_FOLDER / "tipsomaly.safetensors"
    other = tmp_path / "other.safetensors"
    save_checkpoint(Checkpoint({**own.header, "backbone_sha256": "0" * 64}, own.tensors), other)
    found = reference_checkpoint(other, "embedded", tips)
    assert found is not None
    assert found.path == own.path
    save_checkpoint(Checkpoint(own.header, own.tensors), other)
    found = reference_checkpoint(other, "embedded", tips)
    assert found is not None
    assert found.path == other


# What is said on the way


def test_without_a_terminal_a_line_every_30_seconds_says_what_is_done_and_left(capsys):
    now = iter([0.0, 10.0, 29.0, 31.0, 40.0, 62.0])
    with ProgressLines(1000, "fitting", "step", clock=lambda: next(now)) as lines:
        lines.set_postfix_str("loss 0.500", refresh=False)
        for _ in range(5):
            lines.update(100)
    assert capsys.readouterr().err.splitlines() == [
        "fitting: 300 of 1000 steps done, about 72 s left (loss 0.500)",
        "fitting: 500 of 1000 steps done, about 62 s left (loss 0.500)",
    ]


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(folder, tmp_path, capfd, monkeypatch):
    out = tmp_path / "prompts.safetensors"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    fit = [*command(folder, out), "--epochs", "2", "--save-every", "0"]
    monkeypatch.setattr("trainer.fit.loop.write_state", interrupted)
    assert main(fit) == 130
    assert "trainer: interrupted: nothing is kept yet: give the same command" in capfd.readouterr().err
    (tmp_path / ".prompts.safetensors.fit").mkdir()
    assert main(fit) == 130
    assert "keeps the state of the last 0 s or so: give the same command to go on" in capfd.readouterr().err
    monkeypatch.setattr("trainer.evaluate.run.evaluate", interrupted)
    assert main(["evaluate", "--data", str(folder)]) == 130
    assert "nothing was written: give the same command to start again" in capfd.readouterr().err
