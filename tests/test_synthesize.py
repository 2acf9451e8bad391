"""Defects painted onto the user's own good pictures: on the part, as sharp as the picture, and as a set that is whole or not there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.io.pictures import decode
from tests.conftest import wait_until
from tests.forked import started
from trainer.cli import main
from trainer.data.foreground import foreground
from trainer.data.labelled_set import MANIFEST, PAGE
from trainer.data.painted_pictures import paint_picture, softness
from trainer.io.whole_folder import beside


def disc(side: int = 240, blur: float = 0.0, noise: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """A biscuit on a tray that is dark on one side and gleams on the other, and where it lies."""
    part = np.zeros((side, side), np.uint8)
    cv2.circle(part, (side // 2, side // 2), side // 4, 255, -1, cv2.LINE_AA)
    tray = np.full((side, side, 3), 60, np.uint8)
    tray[: side // 10] = (120, 130, 150)
    tray[side // 10 : side // 5, : side // 2] = 10
    pixels = np.where(part[..., None] > 127, np.uint8((205, 160, 100)), tray).astype(np.float32)
    if blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
    grain = np.random.default_rng(0).normal(0, noise, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8), part > 127


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("side", [64, 240, 1000])
def test_a_part_is_found_on_a_background_of_several_colours(side):
    pixels, part = disc(side)
    assert overlap(foreground(pixels), part) > 0.93


def test_a_shadow_is_no_part():
    pixels, part = disc()
    shade = np.roll(part, (14, 14), (0, 1)) & ~part
    pixels[shade] //= 2
    assert (foreground(pixels) & shade).sum() < 0.3 * shade.sum()


def test_where_nothing_stands_out_all_of_the_picture_is_part():
    even = np.full((90, 120, 3), 77, np.uint8)
    rough = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for pixels in (even, rough, np.repeat(rough[:, :1], 120, axis=1)):
        assert foreground(pixels).all()


def test_pictures_of_any_shape_have_a_foreground():
    for shape in ((16, 16), (16, 900), (700, 17)):
        assert foreground(np.full((*shape, 3), 9, np.uint8)).shape == shape


def test_softness_is_the_blur_of_the_edges():
    sharp, soft, softer = (softness(disc(blur=blur, noise=0)[0][..., 1]) for blur in (0.0, 2.0, 4.0))
    assert sharp < 1
    assert soft == pytest.approx(2, rel=0.25)
    assert softer == pytest.approx(4, rel=0.25)


def test_a_defect_is_no_sharper_than_a_soft_picture():
    """Blurred a little, what was painted loses little where the picture is soft, and more where it is sharp."""
    lost = {}
    for blur in (0.0, 4.0):
        pixels, _ = disc(side=400, blur=blur)
        shares = []
        for seed in range(12):
            changed, _, _ = paint_picture(np.random.default_rng(seed), pixels, pixels)
            change = changed.astype(np.float32) - pixels
            shares.append(1 - (cv2.GaussianBlur(change, (0, 0), 1.0) ** 2).sum() / (change**2).sum())
        lost[blur] = float(np.median(shares))
    assert lost[4.0] < 0.05
    assert lost[4.0] < 0.5 * lost[0.0]


def test_defects_are_painted_on_the_part_and_their_masks_hold_what_changed():
    on = off = 0
    for seed in range(40):
        pixels, part = disc(blur=4.0 * (seed % 2))
        changed, mask, _ = paint_picture(np.random.default_rng(seed), pixels, pixels)
        change = np.abs(changed.astype(int) - pixels).max(axis=2)
        assert changed.shape == pixels.shape
        assert changed.dtype == np.uint8
        assert mask.any()
        near = cv2.dilate(mask.view(np.uint8), np.ones((9, 9))) > 0
        assert (change[near] ** 2).sum() > 0.5 * (change**2).sum()
        on, off = on + int((mask & part).sum()), off + int((mask & ~part).sum())
    assert on > 3 * off


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven good pictures of two sizes, one in a subfolder, and a broken one."""
    folder: Path = tmp_path_factory.mktemp("photos") / "good"
    (folder / "more").mkdir(parents=True)
    for number in range(7):
        pixels = np.roll(disc(72 + 8 * (number % 2), noise=2)[0], 2 * number, axis=1)
        cv2.imwrite(str(folder / ("more" if number == 6 else "") / f"{number}.png"), pixels[..., ::-1])
    whole = (folder / "0.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    return folder


def command(good: Path, out: Path, *more: str) -> list[str]:
    return ["synthesize", "--good", str(good), "--out", str(out), "--count", "12", "--class-name", "metal plate", *more]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never written to."""
    out: Path = tmp_path_factory.mktemp("sets") / "plate"
    assert main(command(good, out, "--workers", "1")) == 0
    return out


def test_a_set_is_the_same_to_the_byte_however_many_threads_make_it(good, made, tmp_path):
    assert main(command(good, tmp_path / "again", "--workers", "3")) == 0
    assert contents(tmp_path / "again") == contents(made)
    assert main(command(good, tmp_path / "other", "--seed", "1")) == 0
    ours, theirs = (contents(one)[PAGE] for one in (made, tmp_path / "other"))
    assert ours != theirs


def test_a_set_is_the_good_pictures_and_painted_ones_with_masks_of_what_changed(good, made):
    said = json.loads((made / MANIFEST).read_text())
    held = {name: [one for one in said["pictures"] if name in one["picture"]] for name in ("/train/", "/test/")}
    assert len(held["/train/"]) == 3
    assert len(held["/test/"]) == 4 + 12
    assert not {one["made_of"] for one in held["/train/"]} & {one["made_of"] for one in held["/test/"]}
    assert {path.relative_to(made).as_posix() for path in made.rglob("*.png")} == set(said["files"])
    for one in said["pictures"]:
        pixels, before = decode(made / one["picture"]), decode(good / one["made_of"])
        assert one["picture"].startswith(f"metal_plate/{'train' if one in held['/train/'] else 'test'}/{one['kind']}/")
        if one["kind"] == "good":
            assert np.array_equal(pixels, before)
            continue
        stem = Path(one["picture"]).stem
        assert one["mask"] == f"metal_plate/ground_truth/{one['kind']}/{stem}_mask.png"
        mask = cv2.imread(str(made / one["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == pixels.shape[:2]
        assert set(np.unique(mask)) == {0, 255}
        change = np.abs(pixels.astype(int) - before).max(axis=2)
        assert change[mask > 0].max() >= 5


def test_the_page_shows_every_painted_picture_of_a_small_set(made):
    page = decode(made / PAGE)
    assert page.shape[1] > 1000
    marked = (page == (0, 255, 255)).all(axis=2)
    third = page.shape[1] // 3
    tops = np.flatnonzero(marked[:, :third].any(axis=1))
    assert marked[:, :third].any()
    assert marked[:, 2 * third :].any()
    assert np.ptp(tops) > 0.5 * page.shape[0]


def test_a_set_is_fitted_on_and_evaluated(made, tmp_path, capfd):
    out = tmp_path / "prompts.safetensors"
    fit = ["fit", "--data", str(made), "--out", str(out), "--image-size", "64", "--epochs", "1", "--force"]
    assert main(fit) == 0
    assert "fitted on 12 pictures" in capfd.readouterr().out
    assert main(["evaluate", "--data", str(made), "--checkpoint", str(out), "--category-names"]) == 0
    assert "metal_plate" in capfd.readouterr().out


def test_broken_pictures_are_named_and_counted(good, tmp_path, capfd):
    assert main(command(good, tmp_path / "set")) == 0
    told = capfd.readouterr()
    assert f"skipped {good / 'broken.png'}" in told.err
    assert "skipped 1 picture in all" in told.err
    assert "3 good pictures in train, 4 in test; 12 with a defect" in told.out


def test_where_no_good_picture_can_be_read_nothing_is_made(tmp_path, capfd):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "0.png").write_bytes(b"x" * 99)
    assert main(command(tmp_path / "good", tmp_path / "set")) == 1
    assert "none of the 1 good pictures can be read; the first" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_one_good_picture_is_enough(good, tmp_path):
    assert main(["synthesize", "--good", str(good / "more"), "--out", str(tmp_path / "set"), "--count", "3"]) == 0
    assert len(list((tmp_path / "set/object/test").rglob("*.png"))) == 4


def test_the_very_same_set_stays_and_another_takes_its_place(good, made, tmp_path, capfd):
    out = tmp_path / "set"
    out.mkdir()  # an empty folder is no obstacle
    assert main(command(good, out)) == 0
    first = (out / MANIFEST).stat().st_mtime_ns
    assert main(command(good, out)) == 0
    assert "was already in" in capfd.readouterr().out
    assert (out / MANIFEST).stat().st_mtime_ns == first
    (out / PAGE).unlink()
    assert main(command(good, out)) == 0
    assert contents(out) == contents(made)
    assert main(command(good, out, "--count", "2")) == 0
    assert len(list((out / "metal_plate" / "ground_truth").rglob("*.png"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes.txt", "holds a file that this command did not make, notes.txt"),
        (
            "metal_plate/train/good/mine.png",
            "holds a file that this command did not make, metal_plate/train/good/mine.png",
        ),
        ("metal_plate/train/good/000.png", "metal_plate/train/good/000.png was changed after it was made"),
    ],
)
def test_what_somebody_else_put_into_a_set_is_never_lost(good, tmp_path, capfd, name, said):
    out = tmp_path / "set"
    assert main(command(good, out)) == 0
    (out / name).write_bytes(b"mine")
    before = contents(out)
    assert main(command(good, out, "--seed", "1")) == 1
    told = capfd.readouterr().err
    assert said in told
    assert "name another --out" in told
    assert contents(out) == before


def test_a_folder_of_something_else_is_refused(good, tmp_path, capfd):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"sea")
    for out, said in (
        (tmp_path / "holiday", "holds a file that this command did not make, beach.jpg"),
        (tmp_path / "holiday" / "beach.jpg", "is a file"),
        (good / "set", "lies in"),
        (good.parent, "or the other way round"),
        (tmp_path / "nowhere" / "set", "no such folder"),
    ):
        assert main(command(good, out)) == 1
        assert said in capfd.readouterr().err
    assert contents(tmp_path) == {"holiday/beach.jpg": b"sea"}
    assert not (good / "set").exists()


def killed_midway(arguments: list[str], out: Path) -> None:
    """Run the command, and kill it once some pictures are painted."""
    process = started(Path(os.devnull), *arguments, program=main)
    unfinished = out.with_name(f".{out.name}.unfinished")
    wait_until(
        lambda: not process.is_alive() or len(list(unfinished.glob("*/ground_truth/*/*.png"))) > 3,
        "some pictures are painted",
    )
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_midway_there_is_no_set_or_the_old_one_and_the_next_run_makes_it_whole(good, made, tmp_path):
    out = tmp_path / "set"
    killed_midway(command(good, out, "--count", "500"), out)
    assert not out.exists()
    assert main(command(good, out)) == 0
    assert contents(out) == contents(made)
    killed_midway(command(good, out, "--count", "500"), out)
    assert contents(out) == contents(made)
    assert main(command(good, out, "--seed", "3")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_killed_between_putting_the_old_set_aside_and_the_new_one_in_its_place_the_old_one_comes_back(good, tmp_path):
    out = tmp_path / "set"
    assert main(command(good, out)) == 0
    first = (out / MANIFEST).stat().st_mtime_ns
    out.rename(tmp_path / ".set.replaced")
    assert main(command(good, out)) == 0
    assert (out / MANIFEST).stat().st_mtime_ns == first
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_two_at_once_do_not_mix(good, tmp_path, capfd):
    out = tmp_path / "set"
    with beside(out) as work:
        assert main(command(good, out)) == 1
        assert "another program is making it just now" in capfd.readouterr().err
        assert work.is_dir()
    assert main(command(good, out)) == 0


def test_a_disk_that_is_full_leaves_nothing_half_written(good, tmp_path):
    out = tmp_path / "set"
    ended = subprocess.run(
        [sys.executable, "-m", "trainer", *command(good, out)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert ended.returncode == 1
    assert "cannot be read or written (File too large): free space, or name another --out" in ended.stderr
    assert not list(tmp_path.iterdir())
