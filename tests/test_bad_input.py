"""What the world gets wrong is told by name with a remedy, ends at the worst the command, and loses no other picture."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.backbones.tips.embedded import EMBEDDED_CHECKPOINT, EMBEDDED_FOLDER
from edge_agent.cli import main
from tests.agent import Daemon, journalled, part, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.made import gradient, png, png_of, unprivileged_folder


def huge() -> bytes:
    """A true picture of 20000 x 20000 pixels, all black, in half a megabyte."""
    compressor = zlib.compressobj(1)
    rows = b"".join(compressor.compress(bytes(20_001 * 100)) for _ in range(200))
    return png_of(20_000, 20_000, 8, 0, rows + compressor.flush())


GOOD = png(gradient(48, 64))
REASONS = {
    "cut.png": "cut off or damaged, its 500 bytes have no end: copy or record it again",
    "cut.jpg": "cut off or damaged, its 5000 bytes have no end: copy or record it again",
    "empty.png": "empty, 0 bytes: record it again, and check for a full disk",
    "huge.png": "20000 x 20000 pixels, 400 megapixels where 100 are allowed: raise max_megapixels, or store it smaller",
    "text.png": "not a picture, by its first bytes: store pictures as png, jpg, bmp, tiff or webp",
    "tiny.png": "1 x 1 pixels, too small to inspect: give pictures of 16 x 16 or more",
}


@pytest.fixture(scope="module")
def bad_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture for each of REASONS, all an hour old: what is younger may be still being written."""
    sample = next((EMBEDDED_FOLDER.parents[1] / "samples").glob("*.jpg"))
    contents = {
        "cut.png": GOOD[:500],
        "cut.jpg": sample.read_bytes()[:5000],
        "empty.png": b"",
        "huge.png": huge(),
        "text.png": b"these are notes, not a picture\n",
        "tiny.png": png(gradient(1, 1)),
    }
    folder = tmp_path_factory.mktemp("bad")
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        an_hour_ago = (folder / name).stat().st_mtime - 3600
        os.utime(folder / name, (an_hour_ago, an_hour_ago))
    return folder


def replayed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """What `replay --json ARGUMENTS` says on stdout, line for line."""
    assert main(["replay", "--json", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refusal(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """What a command says, on stderr alone, that ends in failure."""
    capsys.readouterr()
    assert main([str(word) for word in command]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


# Pictures


def test_replay_tells_of_each_bad_picture_why_and_inspects_the_others(
    bad_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(bad_pictures, photos)
    os.mkfifo(photos / "fifo.png")
    (photos / "gone.png").symlink_to("nowhere.png")
    for name in ("a.png", "good.png", "z.png"):
        part(photos / name)
    told = replayed(capsys, photos, "--threshold", 0, "--out", tmp_path / "out")

    reasons = {Path(one["origin"]).name: one["reason"] for one in told if one["evaluation"] == "NotDecidable"}
    others = {"fifo.png": "not a regular file: give pictures, or folders of pictures"}
    others["gone.png"] = (
        "cannot be read (No such file or directory): check the path, and what else moves or deletes files there"
    )
    assert reasons == {name: f"{photos / name}: {why}" for name, why in (REASONS | others).items()}
    assert all(one["score"] is None for one in told if one["evaluation"] == "NotDecidable")
    inspected = {Path(one["origin"]).name for one in told if one["evaluation"] == "NotOK"}
    assert inspected == {"a.png", "good.png", "z.png"}
    rows = journalled(tmp_path / "out" / "journal.db")
    assert [(row["id"], row["reason"]) for row in rows] == [(one["inspection_id"], one["reason"]) for one in told]
    assert all(one["overlay"] for one in told), "there is something to show of each"
    assert (tmp_path / "out" / "contact_sheet.jpg").exists()


def test_the_daemon_tells_of_each_bad_picture_why_once_and_inspects_the_others(
    bad_pictures: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path)
    incoming = tmp_path / "cam1"
    shutil.copytree(bad_pictures, incoming)
    part(incoming / "good.png")
    with Daemon(config) as daemon:
        daemon.has_inspected(*REASONS, "good.png")
        daemon.stop()
        assert f"stopped: 7 inspected, 1 NotOK, {len(REASONS)} NotDecidable" in daemon.log
        assert all(f"{incoming / name}: {why}" in daemon.log for name, why in REASONS.items())
    with Daemon(config) as daemon:
        part(incoming / "new.png", 1)
        daemon.has_inspected(*REASONS, "good.png", "new.png")
        daemon.stop()
    reasons = {Path(row["origin"]).name: row["reason"] for row in daemon.rows if row["evaluation"] == "NotDecidable"}
    assert reasons == {name: f"{incoming / name}: {why}" for name, why in REASONS.items()}


# Folders


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Everything is imported that a replay needs, and that might not be readable without our privileges."""
    folder = tmp_path_factory.mktemp("first")
    assert main(["replay", str(part(folder / "a.png")), "--out", str(folder / "out")]) == 0


@pytest.mark.usefixtures("loaded")
def test_a_folder_that_may_not_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with unprivileged_folder() as folder:
        part(folder / "closed" / "a.png")
        (folder / "closed").chmod(0)
        said = refusal(capsys, "replay", folder, "--out", folder / "out")
        (folder / "closed").chmod(0o700)
    assert said.startswith(f"edge-agent: {folder}/closed: cannot be read (Permission denied): let user")


@pytest.mark.usefixtures("loaded")
def test_an_out_folder_that_may_not_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with unprivileged_folder() as folder:
        part(folder / "a.png")
        (folder / "out").mkdir()
        (folder / "out").chmod(0o500)
        said = refusal(capsys, "replay", folder / "a.png", "--out", folder / "out")
        also_said = refusal(capsys, "replay", folder / "a.png", "--out", folder / "out" / "deeper")
        file_said = refusal(capsys, "replay", folder / "a.png", "--out", folder / "a.png")
    remedy = "choose a folder with room, which the agent's user may write\n"
    assert f"journal {folder}/out/journal.db: Permission denied: {remedy}" in said
    assert f"journal {folder}/out/deeper/journal.db: Permission denied: {remedy}" in also_said
    assert f"journal {folder}/a.png/journal.db: File exists: {remedy}" in file_said


def test_evidence_that_cannot_be_written_costs_replay_the_overlays_and_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "evidence").write_text("a file where the folder should be")
    told = replayed(capsys, part(tmp_path / "a.png"), part(tmp_path / "b.png"), "--out", out)
    assert [one["overlay"] for one in told] == [None, None]
    assert len(journalled(out / "journal.db")) == 2
    assert f"evidence in {out}/evidence: Not a directory" in caplog.text


def test_a_contact_sheet_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out" / "contact_sheet.jpg").mkdir(parents=True)
    assert main(["replay", str(part(tmp_path / "a.png")), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert (
        said
        == f"edge-agent: {tmp_path}/out/contact_sheet.jpg: cannot be written (Is a directory): choose another --out\n"
    )


def test_the_daemon_waits_for_a_folder_that_may_not_be_read_and_goes_on_without_evidence(tmp_path: Path) -> None:
    config = write_config(tmp_path, station("open"), station("closed"), evidence={"folder": "./pictures"})
    part(tmp_path / "open" / "a.png")
    part(tmp_path / "closed" / "b.png")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "pictures").mkdir(0o500)
    journal = tmp_path / "data" / "journal.db"
    with unprivileged(tmp_path, sys.executable, "-m", "edge_agent.cli", "run", "--config", config) as (daemon, log):
        wait_until(lambda: origins(journal) == ["a.png"], "the other station is inspected")
        wait_until(lambda: f"{tmp_path}/closed cannot be read (Permission denied" in log.read_text(), "it is said")
        (tmp_path / "closed").chmod(0o700)
        wait_until(lambda: origins(journal) == ["a.png", "b.png"], "it is inspected once it may be")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0
    assert f"evidence in {tmp_path}/pictures: Permission denied: let user" in log.read_text()
    assert "inspection and alarms go on without" in log.read_text()


# Weights and checkpoints


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the embedded model, in a folder of its own."""
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "model")
    return tmp_path / "model"


def with_model(folder: Path) -> Path:
    """A config that names ./model and its checkpoint."""
    detector = {"model": "./model", "checkpoint": f"./model/{EMBEDDED_CHECKPOINT.name}"}
    return write_config(folder, station(detector=detector))


def test_a_copy_of_the_model_does_as_well(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = part(tmp_path / "a.png")
    (told,) = replayed(capsys, picture, "--config", with_model(tmp_path), "--out", tmp_path / "out")
    assert told["model"] == "tipsomaly/model"


@pytest.mark.parametrize("name", ["vision.npz", "text.npz", "tokenizer.model", EMBEDDED_CHECKPOINT.name])
@pytest.mark.parametrize("damage", ["cut off", "overwritten", "missing"])
def test_damaged_weights_are_named(
    name: str, damage: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_model(tmp_path)
    content = bytearray((model / name).read_bytes())
    if damage == "missing":
        (model / name).unlink()
    elif damage == "cut off":
        (model / name).write_bytes(content[: len(content) // 2])
    else:
        content[40:2040] = bytes(range(250)) * 8
        (model / name).write_bytes(content)
    picture, out = part(tmp_path / "a.png"), tmp_path / "out"
    command = ["replay", str(picture), "--config", str(config), "--out", str(out)]
    if name == EMBEDDED_CHECKPOINT.name:  # its header is read with the config
        assert main(command) == 78
        fault = "does not exist" if damage == "missing" else "damaged.*copy it again"
        said = capsys.readouterr().err
        assert re.search(rf"detector\.checkpoint: (the file )?{re.escape(str(model / name))}:? .*{fault}", said)
    else:
        said = refusal(capsys, *command)
        assert str(model / name) in said
        assert any(remedy in said for remedy in ("copy it again", "fetch or copy", "edge-agent models fetch"))
    assert not out.exists()


def test_a_checkpoint_of_another_backbone_is_refused_by_both_names(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(model / "text.npz") as arrays:
        others = dict(arrays)
    others["temperature"] = np.float32(2 * others["temperature"])
    np.savez(model / "text.npz", **others)
    said = refusal(capsys, "replay", part(tmp_path / "a.png"), "--config", with_model(tmp_path))
    assert f"{model / EMBEDDED_CHECKPOINT.name} was fitted for embedded (" in said
    assert "the station uses model (" in said
    assert "refit the prompts, or change the station's model" in said


# The journal and its disk


def test_a_damaged_journal_is_said_and_kept_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, picture = write_config(tmp_path), part(tmp_path / "cam1" / "a.png")
    journal = tmp_path / "data" / "journal.db"
    replayed(capsys, picture, "--out", journal.parent)
    with journal.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8 * 4096))
    damaged = journal.read_bytes()
    said = refusal(capsys, "replay", picture, "--out", journal.parent)
    assert f"journal {journal}:" in said
    assert "it is damaged: stop the agent, keep copies of the file and of its -wal" in said
    with Daemon(config) as daemon:
        assert daemon.ended() == 1
        assert "it is damaged: stop the agent" in daemon.log
        assert "Traceback" not in daemon.log
    assert journal.read_bytes() == damaged


def test_a_disk_that_is_full_for_a_while_costs_the_daemon_no_picture(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "cam1").mkdir()
    with on_small_disk(tmp_path / "data", "4m", "run", "--config", config, "--verbose") as (daemon, log):
        disk = Path(f"/proc/{daemon.pid}/root{tmp_path}/data")  # the daemon's own view of it
        wait_until(lambda: "station cam1: watches" in log.read_text(), "it watches")
        part(tmp_path / "cam1" / "before.png", 1)
        wait_until(lambda: "before" in log.read_text(), "it is inspected")
        fill(disk / "ballast")
        for number in range(3):
            part(tmp_path / "cam1" / f"full{number}.png", 2 + number)
        wait_until(lambda: "disk is full: nothing of this was written: free space" in log.read_text(), "it is said")
        wait_until(lambda: "evidence in" in log.read_text(), "that pictures are not kept is said, too")
        assert daemon.poll() is None
        assert "  full2" not in log.read_text(), "evidence that makes way may let one more in, but not all"
        (disk / "ballast").unlink()
        wait_until(lambda: log.read_text().count("cam1: NotOK") == 4, "all are inspected once there is room")
        for name in ("journal.db", "journal.db-wal"):
            shutil.copyfile(disk / name, tmp_path / name)
        assert origins(tmp_path / "journal.db") == ["before.png", "full0.png", "full1.png", "full2.png"]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
    assert "stopped: 4 inspected" in log.read_text()


def test_a_disk_without_room_ends_a_replay_with_the_reason(tmp_path: Path) -> None:
    picture = part(tmp_path / "a.png")
    with on_small_disk(tmp_path / "out", "64k", "replay", picture, "--out", tmp_path / "out") as (replay, log):
        assert replay.wait(PATIENCE_S) == 1
    assert f"edge-agent: journal {tmp_path}/out/journal.db: database or disk is full" in log.read_text()
    assert "Traceback" not in log.read_text()


@contextmanager
def process(folder: Path, *command: object) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process, killed in the end, and the file that its output goes to."""
    log = folder / "process.log"
    with log.open("wb") as file, subprocess.Popen(list(map(str, command)), stdout=file, stderr=file) as started:
        try:
            yield started, log
        finally:
            started.kill()


@contextmanager
def unprivileged(folder: Path, *command: object) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process for which the modes of our files hold, also where we are root, who may read everything."""
    with process(folder, *(unshare("--user") if os.geteuid() == 0 else []), *command) as running:
        yield running


def unshare(*namespaces: str) -> list[str]:
    """What goes before a command that is to have namespaces of its own; skips where that is not allowed."""
    prefix = ["unshare", *namespaces]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces")
    return prefix


@contextmanager
def on_small_disk(place: Path, size: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The agent where `place` is a disk of that size, which no other process sees."""
    alone = unshare("--map-root-user", "--mount")
    place.mkdir()
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    agent = [sys.executable, "-m", "edge_agent.cli", *arguments]
    with process(place.parent, *alone, "sh", "-c", script, place, *agent) as running:
        yield running


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def origins(journal: Path) -> Sequence[str]:
    return [Path(row["origin"]).name for row in journalled(journal)]
