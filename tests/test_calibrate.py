"""A threshold from good pictures: what it promises is kept, what it cannot promise it refuses, and the agent goes by it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent import cli as agent
from edge_agent.config.describe import describe
from edge_agent.config.load import load_config
from edge_agent.core import DetectorInfo, Reading
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.inference.load import load_detector
from edge_agent.io.pictures import decode
from edge_agent.line.calibration import QUANTILES, brightness, read_calibration
from edge_agent.line.contrast import contrast
from edge_agent.line.judge import Rules, judge, regions
from tests.agent import write_config
from tests.detectors import SynchronousDetector
from trainer.calibrate.calibration import make_calibration, write_calibration
from trainer.calibrate.conformal import false_alarm_interval, is_tied, just_above, pictures_needed, threshold_rank
from trainer.calibrate.missed import DefectiveScores, missed, painted_scores
from trainer.calibrate.readings import Readings, read_pictures
from trainer.calibrate.setup import ReadingSetup
from trainer.cli import main
from trainer.synthesis import sample

FIFTH = Fraction("0.2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine good pictures of parts, no two alike."""
    folder = tmp_path_factory.mktemp("parts")
    for number in range(9):
        pixels = sample(np.random.default_rng([5, number]), 96, 0.0).pixels
        cv2.imwrite(str(folder / f"{number}.png"), pixels[..., ::-1])
    return folder


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> Path:
    """The same, to do with as one likes."""
    return Path(shutil.copytree(made, tmp_path / "parts"))


class Scored(SynchronousDetector):
    """A detector whose score is the picture's first sample, in 255ths, and whose map peaks at its second."""

    info = DetectorInfo("scored", "a" * 64, "b" * 64, 224, "cpu", None, None)
    reference = None  # it aligns nothing

    def __init__(self) -> None:
        self.pictures = 0

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        self.pictures += len(images)
        return [
            Reading(float(np.float32(image[0, 0, 0] / 255)), np.full((4, 4), image[0, 0, 1] / 255, np.float32))
            for image in images
        ]


def scored(folder: Path, scores: Sequence[int], peaks: Sequence[int] | None = None) -> list[Path]:
    """Pictures that differ, of these scores and peaks, in 255ths."""
    for number, (score, peak) in enumerate(zip(scores, peaks or scores, strict=True)):
        pixels = np.full((16, 16, 3), (score, peak, 0), np.uint8)
        pixels[1, 1, 2], pixels[1, 2, 2] = number // 256, number % 256
        cv2.imwrite(str(folder / f"{number}.png"), pixels[..., ::-1])
    return [folder / f"{number}.png" for number in range(len(scores))]


def seen(scores: np.ndarray, peaks: np.ndarray | None = None) -> Readings:
    scores = scores.astype(np.float32)
    return Readings(len(scores), scores, scores if peaks is None else peaks.astype(np.float32), scores, scores, (), ())


# What is promised


@pytest.mark.parametrize("rate", ["0.05", "0.02", "0.005"])
def test_the_promised_rate_and_interval_hold_over_a_thousand_calibrations(rate: str) -> None:
    n, m = 199, threshold_rank(199, Fraction(rate))
    uniform = np.random.default_rng(0).random((1000, n), np.float32)
    # Of uniform scores, the share at or above a threshold is 1 - threshold.
    rates = np.array([1 - just_above(scores, m) for scores in uniform])
    spread = np.sqrt(m * (n + 1 - m) / (n + 2)) / (n + 1)  # of Beta(m, n + 1 - m)
    assert abs(rates.mean() - m / (n + 1)) < 4 * spread / np.sqrt(1000)
    low, high = false_alarm_interval(n, m)
    within = ((low <= rates) & (rates <= high)).mean()
    assert abs(within - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)


@pytest.mark.parametrize("levels", [2, 7, 100])
def test_tied_scores_only_lower_the_rate(levels: int) -> None:
    n, rate = 199, Fraction("0.05")
    m = threshold_rank(n, rate)
    values = (np.linspace(0, 1, levels) * 0.9).astype(np.float32)
    chances = np.arange(levels, 0, -1.0)
    chances /= chances.sum()
    draws = np.random.default_rng(1).choice(levels, (1000, n), p=chances)
    thresholds = [just_above(values[draw], m) for draw in draws]
    rates = np.array([chances[values >= threshold].sum() for threshold in thresholds])
    assert rates.mean() <= m / (n + 1)
    assert (rates <= false_alarm_interval(n, m)[1]).mean() >= 0.975 - 4 * np.sqrt(0.975 * 0.025 / 1000)


@pytest.mark.parametrize(
    ("rate", "pictures"), [("0.001", 999), ("0.01", 99), ("0.2", 4), ("0.3", 3), ("1/3", 2), ("0.5", 1), ("0.9", 1)]
)
def test_just_so_many_pictures_are_needed_and_one_less_is_too_few(rate: str, pictures: int) -> None:
    assert pictures_needed(Fraction(rate)) == pictures
    assert threshold_rank(pictures, Fraction(rate)) == 1
    assert threshold_rank(pictures - 1, Fraction(rate)) == 0


@pytest.mark.parametrize("share", [0.95, 0.5])
def test_the_interval_is_that_of_the_beta_distribution_with_as_much_left_out_on_either_side(share: float) -> None:
    n, left_out = 40, (1 - share) / 2
    low, high = false_alarm_interval(n, 1, share)  # above the highest score: the chance of x or less is 1 - (1 - x)^n
    assert low == pytest.approx(1 - (1 - left_out) ** (1 / n))
    assert high == pytest.approx(1 - left_out ** (1 / n))
    assert false_alarm_interval(n, n, share) == pytest.approx((1 - high, 1 - low))
    assert false_alarm_interval(n, 1) == false_alarm_interval(n, 1, 0.95)


def test_rates_are_counted_as_they_are_written_not_as_floats() -> None:
    for n in range(9, 20000, 10):
        assert threshold_rank(n, Fraction("0.1")) == (n + 1) // 10
    assert int(30 * (1 - 0.9)) == 2  # what floats make of 3
    assert threshold_rank(29, 1 - Fraction("0.9")) == 3


def test_the_score_that_decides_is_still_ok_and_the_next_one_is_not() -> None:
    scores = np.random.default_rng(2).random(500).astype(np.float32)
    for m in (1, 3, 20):
        threshold = just_above(scores, m)
        highest = np.sort(scores)[-m]
        assert np.float32(threshold) == threshold
        assert [float(highest) >= threshold, float(np.nextafter(highest, np.float32(2))) >= threshold] == [False, True]
        assert (scores >= threshold).sum() == m - 1


def test_scores_finer_than_float32_stay_below_their_threshold() -> None:
    for score in np.random.default_rng(3).random(1000):
        assert score < just_above(np.array([score]), 1)


def test_a_map_that_decides_lights_up_nowhere() -> None:
    for peak in np.random.default_rng(4).random(300).astype(np.float32):
        heatmap = np.zeros((8, 8), np.float32)
        heatmap[3, 4] = peak
        assert regions(heatmap, just_above(np.array([peak]), 1), (64, 64)) == ()
        assert len(regions(heatmap, float(peak), (64, 64))) == 1


def test_the_calibration_says_what_it_rests_on(tmp_path: Path) -> None:
    paths = scored(tmp_path, range(10, 110), range(109, 9, -1))
    setup = ReadingSetup(Scored(), "steel plate", ignore=(((0.0, 0.0), (0.5, 0.0), (0.5, 0.5)),))
    rate = Fraction("0.05")
    one = make_calibration(setup, read_pictures(setup, paths, pictures_needed(rate)), rate)
    fifth = np.float32(105 / 255)  # five of 101 may be above; four of these are
    assert one.threshold == one.map_threshold == float(np.nextafter(fifth, np.float32(1)))
    assert (one.good_pictures, one.false_alarm_rate, one.class_name) == (100, 0.05, "steel plate")
    assert (one.model_sha256, one.checkpoint_sha256) == ("a" * 64, "b" * 64)
    assert one.false_alarm_interval == false_alarm_interval(100, 5)
    assert one.score_quantiles is not None
    assert QUANTILES == (0, 1, 5, 25, 50, 75, 95, 99, 100)  # files that stations have name them
    assert list(one.score_quantiles) == [str(level) for level in QUANTILES]
    assert one.score_quantiles["0"] == pytest.approx(10 / 255)
    assert one.score_quantiles["100"] == pytest.approx(109 / 255)
    assert one.brightness_quantiles is not None
    assert one.brightness_quantiles["50"] == pytest.approx(np.median([brightness(decode(path)) for path in paths]))
    assert one.lowest_contrast == pytest.approx(min(contrast(decode(path)) for path in paths))
    assert re.fullmatch(rf"c-{one.created:%Y%m%d}-[0-9a-f]{{6}}", one.id)
    write_calibration(one, tmp_path / "made.json")
    assert read_calibration(tmp_path / "made.json") == one
    assert make_calibration(setup, read_pictures(setup, paths, pictures_needed(rate)), rate).id != one.id


# What is refused, and what does not count


def test_copies_count_once_and_broken_pictures_are_named(parts: Path, tmp_path: Path, capfd) -> None:
    shutil.copy(parts / "3.png", parts / "again.png")
    cv2.imwrite(str(parts / "recoded.bmp"), cv2.imread(str(parts / "4.png")))  # other bytes, the same pixels
    (parts / "broken.png").write_bytes((parts / "1.png").read_bytes()[:700])
    out = tmp_path / "out.json"
    assert main(["calibrate", "--good", str(parts), "--false-alarm-rate", "0.1", "--out", str(out)]) == 0
    told = capfd.readouterr()
    assert "calibrated on 9 good pictures (2 more are copies of others, 1 more is broken)" in told.out
    assert f"skipped {parts}/again.png: the same picture as {parts}/3.png" in told.err
    assert f"skipped {parts}/recoded.bmp: the same picture as {parts}/4.png" in told.err
    assert f"skipped {parts}/broken.png: cut off or damaged" in told.err
    assert read_calibration(out).good_pictures == 9


def test_too_few_pictures_are_refused_with_how_many_more_it_takes_and_what_they_allow(
    parts: Path, tmp_path: Path, capfd
) -> None:
    shutil.copy(parts / "3.png", parts / "again.png")
    out = tmp_path / "out.json"
    command = ["calibrate", "--good", str(parts), "--out", str(out), "--false-alarm-rate"]
    assert main([*command, "0.001"]) == 1
    said = capfd.readouterr().err
    assert "9 good pictures (1 more is a copy of another) are too few to promise a false-alarm rate of 0.1 %" in said
    assert "that takes 999, so 990 more" in said
    assert not out.exists()
    allowed = re.findall("these allow --false-alarm-rate ([0-9.]+)", said)
    assert main([*command, "0.099"]) == 1  # ten files would do, nine pictures do not
    assert main([*command, *allowed]) == 0


def test_the_detector_looks_at_nothing_once_there_are_too_few(tmp_path: Path) -> None:
    paths = scored(tmp_path, range(30))
    for path in paths[10:12]:
        path.write_bytes(b"")
    detector = Scored()
    few = read_pictures(ReadingSetup(detector, "object"), paths, 30)
    assert (few.n, len(few.skipped)) == (28, 2)
    assert detector.pictures == 8  # the first batch, before the empty files were met
    with pytest.raises(EdgeAgentError, match=r"28 good pictures \(2 more are broken\) are too few"):
        make_calibration(ReadingSetup(detector, "object"), few, Fraction(1, 31))


def test_good_pictures_with_the_highest_score_leave_no_threshold() -> None:
    scores = np.array([0.2] * 7 + [1.0, 1.0])
    with pytest.raises(EdgeAgentError, match="2 of 9 good pictures have the highest score there is, 1"):
        make_calibration(ReadingSetup(Scored(), "object"), seen(scores), FIFTH)
    assert make_calibration(ReadingSetup(Scored(), "object"), seen(scores), Fraction("0.3")).threshold < 0.21


def test_good_pictures_that_light_up_fully_leave_the_highest_map_threshold(tmp_path: Path, capfd, monkeypatch) -> None:
    scored(tmp_path, range(50, 59), [90] * 6 + [255] * 3)
    monkeypatch.setattr("edge_agent.inference.load.Loader.detector", lambda *_, **__: Scored())
    out = tmp_path / "out.json"
    assert main(["calibrate", "--good", str(tmp_path), "--false-alarm-rate", "0.2", "--out", str(out)]) == 0
    assert read_calibration(out).map_threshold == 1
    assert "no map threshold keeps good parts dark: 3 of them" in capfd.readouterr().out


def test_maps_of_zeros_give_a_map_threshold_that_can_be_drawn() -> None:
    one = make_calibration(ReadingSetup(Scored(), "object"), seen(np.linspace(0, 0.9, 9), np.zeros(9)), FIFTH)
    assert one.map_threshold == 1e-6


def test_a_detector_that_gives_no_number_is_an_error_that_names_the_picture(tmp_path: Path) -> None:
    class Lost(Scored):
        def read(self, images: Sequence[np.ndarray], keep: object = None) -> list[Reading]:
            return [Reading(float("nan"), reading.heatmap) for reading in super().read(images)]

    with pytest.raises(EdgeAgentError, match=r"0\.png: scored gave a score or map that is not a number"):
        read_pictures(ReadingSetup(Lost(), "object"), scored(tmp_path, range(9)), 4)


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "nan", "0.1 %", "1/0", "few"])
def test_what_is_no_rate_is_wrong_usage(rate: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "--good", str(tmp_path), f"--false-alarm-rate={rate}", "--out", str(tmp_path / "c.json")])
    assert ended.value.code == 2
    assert "no share between 0 and 1" in capsys.readouterr().err


def test_a_score_of_the_threshold_that_occurs_more_than_once_is_a_tie():
    scores = np.array([0.1, 0.4, 0.4, 0.7])
    assert [is_tied(scores, m) for m in (1, 2, 3, 4)] == [False, True, True, False]


def test_an_earlier_calibration_is_replaced_and_nothing_else_is(parts: Path, tmp_path: Path, capfd) -> None:
    out = tmp_path / "out.json"
    command = ["calibrate", "--good", str(parts), "--false-alarm-rate", "0.2", "--out"]
    ids = set()
    for _ in range(2):
        assert main([*command, str(out)]) == 0
        ids.add(read_calibration(out).id)
    assert len(ids) == 2
    assert sorted(os.listdir(tmp_path)) == ["out.json", "parts"]
    config = write_config(tmp_path)
    kept = config.read_bytes()
    for taken, said in ((config, "is there already and is no calibration"), (tmp_path, "is a folder")):
        assert main([*command, str(taken)]) == 1
        assert f"{taken}: {said}" in capfd.readouterr().err
    assert config.read_bytes() == kept
    assert main([*command, str(tmp_path / "nowhere/c.json")]) == 1
    assert "make it first" in capfd.readouterr().err


def test_a_folder_that_may_hold_defective_parts_is_refused(tmp_path: Path, capfd) -> None:
    (tmp_path / "test/good").mkdir(parents=True)
    out = tmp_path / "c.json"
    assert main(["calibrate", "--good", str(tmp_path), "--false-alarm-rate", "0.2", "--out", str(out)]) == 1
    assert "give the folder of good pictures alone" in capfd.readouterr().err


# What the agent does with it


def test_the_agent_judges_by_a_calibration_made_as_its_station_looks(parts: Path, tmp_path: Path, capsys) -> None:
    station = {
        "name": "cam1",
        "source": {"folder": "./in"},
        "detector": {"class_name": "metal plate", "device": "cpu"},
        "ignore": [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]],
    }
    config, out = write_config(tmp_path, station, {"name": "cam2", "source": {"folder": "./in2"}}), tmp_path / "c.json"
    command = ["calibrate", "--good", str(parts), "--false-alarm-rate", "0.25", "--out", str(out)]
    assert main([*command, "--config", str(config), "--station", "cam1"]) == 0
    capsys.readouterr()
    made = read_calibration(out)
    assert (made.class_name, made.ignore) == ("metal plate", (((0, 0), (0.5, 0), (0.5, 1), (0, 1)),))

    write_config(tmp_path, station | {"calibration": "c.json"})
    (tmp_path / "in").mkdir()
    assert load_config(config).warnings == ()
    assert made.id in describe(load_config(config))
    assert agent.main(["replay", str(parts), "--config", str(config), "--json", "--out", str(tmp_path / "replay")]) == 0
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(verdicts) == 9
    for verdict in verdicts:
        assert verdict["calibration_id"] == made.id
        assert verdict["threshold"] == made.threshold
        assert (verdict["evaluation"] == "NotOK") == (verdict["score"] >= made.threshold)
    # Scores of a picture differ in the last digits with the batch it is read in.
    assert sum(verdict["score"] >= made.threshold + 1e-5 for verdict in verdicts) == 1
    # Seen whole, the same pictures score otherwise: it was the station's mask that was calibrated with.
    whole = load_detector(class_name="metal plate", device="cpu").read([decode(path) for path in parts.iterdir()])
    assert made.score_quantiles is not None
    assert max(reading.score for reading in whole) != pytest.approx(made.score_quantiles["100"], abs=1e-5)


def test_twelve_bits_are_read_as_the_station_reads_them(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"good/{number}.png"), np.full((32, 32), 2048 + number * 64, np.uint16))
    config = write_config(tmp_path, {"name": "cam1", "source": {"folder": "./in", "bit_depth": 12}})
    out = tmp_path / "c.json"
    command = ["calibrate", "--good", str(tmp_path / "good"), "--false-alarm-rate", "0.2", "--out", str(out)]
    assert main([*command, "--config", str(config)]) == 0
    quantiles = read_calibration(out).brightness_quantiles
    assert quantiles is not None
    assert quantiles["0"] == pytest.approx(0.5, abs=0.01)


def test_a_station_that_looks_otherwise_than_it_was_calibrated_is_warned_of(tmp_path: Path) -> None:
    one = make_calibration(ReadingSetup(Scored(), "plate"), seen(np.linspace(0, 0.9, 9)), FIFTH)
    shipped = load_detector(device="cpu").info
    digests = {"model_sha256": shipped.model_sha256, "checkpoint_sha256": shipped.checkpoint_sha256}
    write_calibration(one.model_copy(update=digests | {"image_size": None}), tmp_path / "c.json")
    station = {"name": "cam1", "source": {"folder": "."}, "calibration": "c.json"}
    plain = station | {"detector": {"class_name": "plate"}}
    assert load_config(write_config(tmp_path, plain)).warnings == ()
    (warning,) = load_config(
        write_config(tmp_path, station | {"ignore": [[[0, 0], [0.5, 0], [0.5, 1]]]}, agent={"data_dir": "/data"})
    ).warnings
    assert "calibration: was made with another class_name and ignore" in warning
    assert "calibrate again" in warning
    with pytest.raises(ConfigError, match="made with the model weights aaaa"):
        one.require_fit("c" * 64, "b" * 64, 224)


def test_a_calibration_knows_the_windows_that_its_station_reads(parts: Path, tmp_path: Path, capfd) -> None:
    command = ["calibrate", "--good", str(parts), "--false-alarm-rate", "0.2", "--out"]
    config = write_config(tmp_path, {"name": "cam1", "source": {"folder": "."}, "detector": {"windows": 2}})
    assert main([*command, str(tmp_path / "station.json"), "--config", str(config)]) == 0
    assert main([*command, str(tmp_path / "flag.json"), "--windows", "2"]) == 0
    assert main([*command, str(tmp_path / "none.json")]) == 0
    station, flag, none = (read_calibration(tmp_path / f"{name}.json") for name in ("station", "flag", "none"))
    assert (station.windows, flag.windows, none.windows) == (2, 2, 1)
    assert station.threshold == flag.threshold > none.threshold


def test_what_the_station_says_is_not_said_twice(parts: Path, tmp_path: Path, capfd) -> None:
    command = ["calibrate", "--good", str(parts), "--false-alarm-rate", "0.2", "--out", str(tmp_path / "c.json")]
    config = write_config(tmp_path)
    assert main([*command, "--config", str(config), "--method", "clip", "--class-name", "plate"]) == 1
    assert "--method, --class-name: with --config, the station says that" in capfd.readouterr().err
    assert main([*command, "--station", "cam1"]) == 1
    assert "--station needs a --config" in capfd.readouterr().err
    assert main([*command, "--config", str(config), "--station", "cam7"]) == 1
    assert "the config has no station 'cam7'; it has cam1" in capfd.readouterr().err


def test_a_verdict_changes_exactly_at_the_threshold() -> None:
    scores = np.random.default_rng(6).random(99).astype(np.float32)
    rules = Rules(just_above(scores, threshold_rank(99, Fraction("0.05"))))
    verdicts = [judge(Reading(float(score), np.zeros((4, 4), np.float32)), rules, (8, 8)) for score in scores]
    assert sum(verdict.evaluation.value == "NotOK" for verdict in verdicts) == 4


# What it misses


def test_what_is_missed_is_counted_on_the_users_defective_pictures(parts: Path, tmp_path: Path, capfd) -> None:
    (tmp_path / "bad/scratch").mkdir(parents=True)
    for name in ("0.png", "1.png"):
        shutil.copy(parts / name, tmp_path / "bad/scratch" / name)
    (tmp_path / "bad/broken.png").write_bytes(b"no picture")
    command = ["calibrate", "--good", str(parts), "--false-alarm-rate", "0.1", "--out", str(tmp_path / "c.json")]
    assert main([*command, "--bad", str(tmp_path / "bad")]) == 0
    told = capfd.readouterr()
    assert re.search(r"missed +2 of 2 pictures of .*/bad would be called OK, 100 %", told.out)
    assert "painted" not in told.out
    assert f"skipped {tmp_path}/bad/broken.png" in told.err
    (tmp_path / "bad/good").mkdir()
    shutil.copy(parts / "3.png", tmp_path / "bad/good/3.png")
    assert main([*command, "--bad", str(tmp_path / "bad")]) == 1
    assert "lies in a folder good, which holds no defective pictures" in capfd.readouterr().err


def test_without_such_pictures_it_is_counted_on_painted_defects_and_said_so(parts: Path, tmp_path: Path, capfd) -> None:
    command = ["calibrate", "--good", str(parts), "--false-alarm-rate", "0.1", "--out", str(tmp_path / "c.json")]
    assert main(command) == 0
    told = capfd.readouterr().out
    assert re.search(r"missed +\d of 9 defects that were painted onto your good pictures would be called OK", told)
    assert "give pictures of defective parts with --bad" in told


def test_painted_defects_lie_where_the_station_looks(parts: Path) -> None:
    class Differs(Scored):
        """Keeps what it is given."""

        def __init__(self) -> None:
            super().__init__()
            self.images: list[np.ndarray] = []

        def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
            self.images += images
            return super().read(images, keep)

    paths, detector = sorted(parts.glob("*.png")), Differs()
    upper = np.zeros((64, 64), bool)
    upper[:32] = True
    painted = painted_scores(ReadingSetup(detector, "object", keep=upper), paths)
    assert 5 <= len(painted.scores) == len(detector.images) <= 9
    for image in detector.images:
        change = min((np.abs(image.astype(int) - decode(path)).sum(axis=2) for path in paths), key=np.sum)
        assert change[:48].sum() >= change[48:].sum()


def test_a_share_of_missed_ones_comes_with_what_so_few_pictures_prove() -> None:
    scores = np.linspace(0, 1, 20, dtype=np.float32)
    all_found, half, none_found = (next(missed(at, DefectiveScores(scores, None))) for at in (0.0, 0.5, 1.1))
    assert "0 of 20" in all_found
    assert "0 % (95 % confidence: 0 to 17 %)" in all_found
    assert "50 % (95 % confidence: 27 to 73 %)" in half
    assert "100 % (95 % confidence: 83 to 100 %)" in none_found
    assert list(missed(0.5, DefectiveScores(scores[:0], None))) == []


def test_a_good_picture_of_which_nothing_can_be_said_is_left_out_with_the_reason(tmp_path):
    class Faulty(Scored):
        def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
            read = super().read(images, keep)
            return [replace(one, fault="cannot be aligned") if one.score > 0.5 else one for one in read]

    found = read_pictures(ReadingSetup(Faulty(), "object"), scored(tmp_path, [10, 200, 20]), 1)
    assert (found.n, len(found.scores)) == (2, 2)
    assert [(one.path.name, one.reason) for one in found.skipped] == [("1.png", "cannot be aligned")]
