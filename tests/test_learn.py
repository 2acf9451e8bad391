"""`edge-agent label` and `learn`: a false alarm does not come back, a missed defect is found, and nothing is lost for it."""

from __future__ import annotations

import csv
import fcntl
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from edge_agent import build
from edge_agent.cli import main
from edge_agent.config.edit import with_values
from edge_agent.config.load import load_config
from edge_agent.core import Detector
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.load import Loader
from edge_agent.inference.together import Fusion, Mix
from edge_agent.journal.journal import Journal
from edge_agent.journal.labels import Statement, open_labels
from edge_agent.journal.rows import LabelValue
from edge_agent.learn.candidate import make_candidate
from edge_agent.learn.patches import seen_again
from edge_agent.line.calibration import read_calibration
from tests.agent import write_config
from tests.drilled import part
from tests.taught import Taught, bank, dusty, scratched, taught_station, verdicts
from trainer.cli import main as trainer

REFUSED = 3


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    with pytest.MonkeyPatch.context() as patch:
        one = Loader()
        patch.setattr(build, "loader", lambda config: one)
        yield one


@pytest.fixture(scope="module")
def of_three(loader: Loader) -> Checkpoint:
    return bank(loader)


@pytest.fixture
def line(tmp_path: Path, loader: Loader, of_three: Checkpoint) -> Taught:
    pictures = {"good10": part(10), "dusty10": dusty(10), "scratch10": scratched(10), "scratch11": scratched(11)}
    return taught_station(tmp_path, loader, of_three, pictures)


def learn(line: Taught, *arguments: str, **labels: str | dict[str, str]) -> int:
    """Run `learn` with labels by the names of pictures, if any are given."""
    given: list[str] = []
    if labels:
        file = line.config.with_name("labels.json")
        rows = [
            {"inspection": line.ids[name], **({"label": said} if isinstance(said, str) else said)}
            for name, said in labels.items()
        ]
        file.write_text(json.dumps(rows))
        given = ["--labels", str(file)]
    return main(["learn", "--config", str(line.config), "--who", "anna", *given, *arguments])


def files(line: Taught) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in line.config.parent.iterdir() if path.is_file()}


def test_a_false_alarm_does_not_come_back_and_a_defect_beside_it_is_found(
    line: Taught, loader: Loader, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdicts(line, loader, [dusty(10), part(10)]) == [True, False]
    text = line.config.read_text()
    assert learn(line, dusty10="good", scratch10="defect") == 0
    said = capsys.readouterr().out
    assert "recorded: 1 defect, 1 good" in said
    assert "of 1 good parts rejected             1       0" in said
    assert "NotOK 0." in said
    again = [seen_again(dusty(10), number) for number in range(20, 24)]
    assert verdicts(line, loader, again) == [False] * 4
    assert verdicts(line, loader, [scratched(10, thread=True), scratched(12)]) == [True, True]

    made, parent = (load_checkpoint(line.config.with_name(name)) for name in ("cam1-2.safetensors", "cam1.safetensors"))
    assert made.header["parent_sha256"] == parent.sha256
    assert [(one["inspection"], one["label"]) for one in made.header["corrections"]] == [
        (line.ids["dusty10"], "good"),
        (line.ids["scratch10"], "defect"),
    ]
    assert torch.equal(made.tensors["bank"][: len(parent.tensors["bank"])], parent.tensors["bank"])
    assert line.config.read_text() == text.replace("cam1.safe", "cam1-2.safe").replace("cam1-cal", "cam1-2-cal")
    calibration = read_calibration(line.config.with_name("cam1-2-calibration.json"))
    assert (calibration.checkpoint_sha256, calibration.threshold) == (made.sha256, 0.5)
    with open_labels(line.url) as labels:
        assert {label.who for label in labels.labelled()} == {"anna"}
    assert learn(line) == 0
    assert "nothing to learn" in capsys.readouterr().out


def test_a_dry_run_shows_the_same_and_writes_nothing(line: Taught, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn(line, "--dry-run", dusty10="good") == 0
    before = files(line)
    said = capsys.readouterr().out
    assert "would record: 1 good" in said
    assert "nothing was written" in said
    assert learn(line, "--dry-run", dusty10="good") == 0
    assert files(line) == before
    with open_labels(line.url) as labels:
        assert list(labels.labelled()) == []


def test_a_label_that_would_blind_the_station_is_refused_and_the_picture_named(
    tmp_path: Path, loader: Loader, of_three: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = {"scratch10": scratched(10), "again10": seen_again(scratched(10), 30), "good10": part(10)}
    line = taught_station(tmp_path, loader, of_three, pictures)
    before = files(line)
    assert learn(line, again10="good", scratch10={"label": "defect", "box": "30 55 40 30"}) == REFUSED
    said = capsys.readouterr()
    assert "refused: 1 defect would no longer be found: scratch10 (inspection" in said.err
    assert "cam1 stays as it is" in said.out
    del (after := files(line))["labels.json"]
    assert after == before


def test_the_same_labels_give_the_same_bytes(line: Taught, loader: Loader) -> None:
    file = line.config.with_name("labels.json")
    file.write_text(json.dumps([{"inspection": line.ids["dusty10"], "label": "good"}]))
    assert main(["label", "--config", str(line.config), "--labels", str(file)]) == 0
    config = load_config(line.config)
    first, second = (make_candidate(config, line.config, None, loader=loader) for _ in range(2))
    assert first.checkpoint.sha256 == second.checkpoint.sha256


def test_the_way_back_leads_to_the_parent_or_to_any_other(line: Taught, capsys: pytest.CaptureFixture[str]) -> None:
    text = line.config.read_text()
    assert learn(line, "--back") == 1
    assert "was not made from an earlier one" in capsys.readouterr().err
    assert learn(line, dusty10="good") == 0
    third = line.config.read_text()
    assert learn(line, "--back", "--dry-run") == 0
    assert line.config.read_text() == third
    assert learn(line, "--back") == 0
    assert line.config.read_text() == text
    digest = load_checkpoint(line.config.with_name("cam1-2.safetensors")).sha256
    assert learn(line, "--back", digest[:10]) == 0
    assert line.config.read_text() == third
    assert learn(line, "--back", "cam1.safetensors") == 0
    assert line.config.read_text() == text
    capsys.readouterr()
    assert learn(line, "--back", "cafe") == 1
    assert "cafe: no such checkpoint" in capsys.readouterr().err


def test_a_station_without_a_calibration_learns_and_two_people_at_once_are_told_of_each_other(
    line: Taught, loader: Loader
) -> None:
    text = line.config.read_text().replace("calibration: cam1-calibration.json", "threshold: 0.5  # ours")
    line.config.write_text(text)
    with open_labels(line.url) as labels:
        labels.say(Statement(line.ids["dusty10"], LabelValue.GOOD), "anna")
        first, second = (make_candidate(load_config(line.config), line.config, "cam1", loader=loader) for _ in range(2))
        with line.config.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(EdgeAgentError, match="somebody else changes the station right now"):
                first.use(labels)
        assert first.use(labels).name == "cam1-2.safetensors"
        with pytest.raises(EdgeAgentError, match=r"names cam1-2\.safetensors by now, no longer cam1\.safetensors"):
            second.use(labels)
    assert line.config.read_text() == text.replace("cam1.safe", "cam1-2.safe")
    assert verdicts(line, loader, [dusty(10)]) == [False]
    assert learn(line, "--back") == 0
    assert line.config.read_text() == text


def test_what_is_taken_back_is_unlearnt(line: Taught, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn(line, dusty10="good", scratch10="defect") == 0
    assert learn(line, dusty10="none", scratch10="unsure") == 0
    assert "taken back: 2" in capsys.readouterr().out
    first, third = (load_checkpoint(line.config.with_name(name)) for name in ("cam1.safetensors", "cam1-3.safetensors"))
    assert all(torch.equal(first.tensors[name], third.tensors[name]) for name in ("bank", "defects"))
    assert third.header["corrections"] == []


def test_a_picture_that_is_gone_or_was_changed_is_named_and_left_out(
    line: Taught, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = line.config.parent / "data" / "evidence"
    (gone,) = evidence.rglob("*dusty10*")
    (changed,) = evidence.rglob("*scratch10*")
    gone.unlink()
    changed.write_bytes(b"something else")
    with closing(Journal.open(line.url)) as journal:
        journal.clear_uris([next(evidence.rglob("*scratch11*")).as_uri()])  # as retention does
    assert learn(line, dusty10="good", scratch10="defect", scratch11="defect") == 0
    said = capsys.readouterr()
    assert "left out: dusty10" in said.err
    assert "No such file" in said.err
    assert "left out: scratch10" in said.err
    assert "was changed since it was inspected" in said.err
    assert "left out: scratch11" in said.err
    assert "its picture was not kept" in said.err
    assert "nothing to learn" in said.out


def test_a_station_without_a_bank_is_told_what_it_can_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "--config", str(write_config(tmp_path))]) == 1
    said = capsys.readouterr().err
    assert "has no bank of good parts" in said
    assert "`trainer station` makes it one" in said


def test_an_export_with_its_column_filled_in_is_a_file_of_labels(
    line: Taught, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "out.csv"
    assert main(["export", "--config", str(line.config), "--since", "2026-11-20", "--out", str(table)]) == 0
    rows = list(csv.DictReader(table.open(newline="")))
    for row in rows:
        if row["part_id"] == "scratch10":
            row |= {"label": "Defect", "label_kind": "'=dent", "label_box": "[34, 62, 26, 10]", "label_note": "deep"}
    with table.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    arguments = ["label", "--config", str(line.config), "--labels", str(table), "--who", "bob"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("recorded: 1 defect\nrecorded: nothing new; 1 said already\n")
    with open_labels(line.url) as labels:
        (label,) = labels.labelled("cam1")
        assert (label.kind, label.box, label.note, label.who) == ("=dent", (34, 62, 26, 10), "deep", "bob")
    assert main(["export", "--config", str(line.config), "--since", "2026-11-20", "--out", str(table)]) == 0
    said = {row["part_id"]: row for row in csv.DictReader(table.open(newline=""))}
    assert said["good10"]["label"] == ""
    assert said["scratch10"]["label"] == "defect"
    assert said["scratch10"]["label_box"] == "[34, 62, 26, 10]"


@pytest.mark.parametrize(
    ("name", "text", "refusal"),
    [
        ("a.csv", "part,label\n1,good\n", "a.csv:1: has no column inspection or id"),
        ("a.csv", "id,label\nID,maybe\n", "a.csv:2: label: is 'maybe'; wants good, defect, unsure, none"),
        ("a.csv", "id,label\nID,good\nID,defect\n", "a.csv:3: inspection ID has a label already, in "),
        ("a.csv", "id,label\n12,good\n13,good\n", "a.csv:3: the journal has no inspection 13"),
        ("a.csv", "id,label,kind\nID,good,dent\n", "a.csv:2: says good and has a kind: only a defect has one"),
        ("a.csv", "id,label,box\nID,defect,1 2 3\n", "box: is '1 2 3'; wants x, y, width and height"),
        ("a.csv", "id,label,box\nID,defect,0.1 0.2 0.3 0.4\n", "in pixels, such as 120 40 64 64"),
        ("a.csv", "id,label,box\nID,defect,90 90 64 64\n", "does not lie in its picture of 96 x 96 pixels"),
        ("a.csv", "id,label\n,good\n", "a.csv:2: has a label and no inspection"),
        ("a.json", "{}", "wants a list of objects"),
        ("a.json", '[{"label": "good"', "is not valid JSON"),
        ("a.json", '[{"inspection": "12", "label": "good"}]', "a.json: entry 1: the journal has no inspection 12"),
        ("missing.csv", None, "does not exist: check the path"),
    ],
)
def test_what_is_wrong_in_a_file_of_labels_is_said_with_its_line_and_nothing_is_recorded(
    labelled: Taught, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, refusal: str
) -> None:
    file = tmp_path / name
    known = labelled.ids["good10"]
    if text is not None:
        file.write_text(text.replace("ID", known))
    assert main(["label", "--config", str(labelled.config), "--labels", str(file)]) == 1
    assert refusal.replace("ID", known) in capsys.readouterr().err
    with open_labels(labelled.url) as labels:
        assert list(labels.labelled()) == []


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, loader: Loader, of_three: Checkpoint) -> Taught:
    return taught_station(tmp_path_factory.mktemp("labelled"), loader, of_three, {"good10": part(10)})


def test_single_values_of_a_config_are_changed_where_they_stand() -> None:
    text = "a: 1  # one\nstations:\n- {name: \"x\", file: 'dir/old.x'}  # two\n- name: y\n  file: old.x\n"
    at = ("stations", 0, "file")
    assert with_values(text, {at: "dir/new.x", ("stations", 1, "file"): "n.x"}) == (
        "a: 1  # one\nstations:\n- {name: \"x\", file: 'dir/new.x'}  # two\n- name: y\n  file: n.x\n"
    )
    assert with_values(text, {at: "dir/old.x"}) == text
    assert with_values(text, {("stations", 2, "file"): "new"}) is None
    assert with_values("stations:\n- &one {file: old}\n- *one\n", {at: "new"}) is None
    assert with_values('stations:\n- {file: "\\x6fld"}\n', {at: "new"}) is None


def test_the_line_is_measured_and_calibrated_by_what_was_said(line: Taught, capsys: pytest.CaptureFixture[str]) -> None:
    assert learn(line, "--dry-run") == 0
    file = line.config.with_name("labels.csv")
    said = {"good10": "good,", "dusty10": "good,", "scratch10": "defect,dent", "scratch11": "unsure,"}
    file.write_text("id,label,kind\n" + "\n".join(f"{line.ids[name]},{words}" for name, words in said.items()))
    assert main(["label", "--config", str(line.config), "--labels", str(file)]) == 0
    capsys.readouterr()
    assert trainer(["evaluate", "--labels", str(line.config), "--since", "2026-11-20"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "cam1: 4 inspected, 3 NotOK, 0 not decided",
        "  false alarms   1, of 2 parts that were said to be good",
        "  missed         0, of 1 that were said to be defective",
        "  not sure       1",
        "  nothing said   0 of the NotOK ones",
        "  dent: 1 found, 0 missed",
    ]
    out = line.config.with_name("new.json")
    arguments = ["--labels", "--config", str(line.config), "--false-alarm-rate", "0.4", "--out", str(out)]
    assert trainer(["calibrate", *arguments]) == 0
    told = capsys.readouterr()
    assert "1 of the 2 good parts were false alarms" in told.err
    assert "calibrated on 2 good pictures" in told.out
    assert "missed         0 of 1 pictures of" in told.out
    assert read_calibration(out).threshold > 0.6


def test_detectors_that_are_no_longer_in_use_are_forgotten_and_their_backbone_stays(
    tmp_path: Path, line: Taught
) -> None:
    loader = Loader()
    checkpoint = line.config.with_name("cam1.safetensors")

    def looks(side: int) -> Detector:
        return loader.arranged(loader.detector("efficientnet-lite0", checkpoint, image_size=side))

    used, other = looks(64), looks(96)
    backbone = loader.backbone("efficientnet-lite0")
    loader.release([used])
    assert looks(64) is used
    assert looks(96) is not other
    loader.release([])
    assert looks(64) is not used
    assert loader.backbone("efficientnet-lite0") is backbone


def test_a_bank_that_looks_together_with_another_detector_learns_what_both_call_wrong(
    tmp_path: Path, loader: Loader, of_three: Checkpoint
) -> None:
    other = loader.detector().info
    mix = Mix(0.3, 0.7, 0.0)
    fusion = Fusion(mix, mix, other.model_sha256, other.checkpoint_sha256)
    both = Checkpoint({**of_three.header, "together": fusion.written()}, of_three.tensors)
    pictures = {"good10": part(10), "dusty10": dusty(10), "scratch10": scratched(10)}
    line = taught_station(tmp_path, loader, both, pictures)
    assert verdicts(line, loader, pictures.values()) == [False, True, True]
    text = line.config.read_text()
    assert learn(line, dusty10="good", scratch10="defect") == 0
    assert line.config.read_text() == text.replace("cam1.safe", "cam1-2.safe").replace("cam1-cal", "cam1-2-cal")
    assert verdicts(line, loader, pictures.values()) == [False, False, True]
    assert learn(line, "--back") == 0
    assert line.config.read_text() == text


def test_a_station_learns_beside_its_files_where_config_yaml_is_a_link(line: Taught) -> None:
    kept = line.config.parent / "state" / "line.yaml"
    kept.parent.mkdir()
    line.config.rename(kept)
    line.config.symlink_to(kept)
    assert learn(line, dusty10="good") == 0
    assert line.config.is_symlink()
    assert "cam1-2.safetensors" in kept.read_text()
    assert line.config.with_name("cam1-2-calibration.json").exists()
