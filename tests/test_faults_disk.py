"""A full disk: alarms go on being recorded, evidence makes way, and what was kept for this moment is kept again after it."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.core import MQTT, AlarmEvent
from edge_agent.errors import JournalError
from edge_agent.journal import ballast
from edge_agent.journal.journal import Journal
from tests.agent import ALL_OK, station, write_config
from tests.conftest import PATIENCE_S, wait_until
from tests.line import evidence, inspected, message
from tests.made import png
from tests.mosquitto import Listener, Mosquitto
from tests.test_bad_input import on_small_disk
from trainer.cli import main as trainer


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB, which only root can mount."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> Path:
    """A file of somebody else's that takes all there is."""
    others = disk / "others"
    with others.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return others


def record(journal: Journal) -> str:
    """Record one alarm, as the line does: what failed is tried again."""
    inspection = inspected(AlarmEvent.RAISED)
    try:
        assert journal.record(inspection, evidence(), [message(inspection)])
    except JournalError:
        assert journal.record(inspection, evidence(), [message(inspection)])
    return inspection.id


def test_alarms_are_recorded_on_a_full_disk_and_room_is_kept_again_after_it(
    disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ballast, "AGAIN_S", 0.0)
    kept = disk / "journal.db.ballast"
    with closing(Journal.open(f"sqlite:///{disk / 'journal.db'}", ballast=True)) as journal:
        assert kept.stat().st_size == 64 * 2**20 // 40
        others = fill(disk)
        assert shutil.disk_usage(disk).free == 0
        ids = [record(journal) for _ in range(20)]
        assert not kept.exists()
        assert caplog.text.count(f"the disk of {disk} is full: 1.7 MB that were kept for this moment are free now") == 1
        others.unlink()
        ids.append(record(journal))
        assert kept.exists()
        assert [row.message.payload["inspection"] for row in journal.outbox(MQTT).pending(100)] == ids


def test_a_journal_on_a_full_disk_opens_by_what_was_kept_for_it(disk: Path) -> None:
    path = disk / "journal.db"
    with closing(Journal.open(f"sqlite:///{path}", ballast=True)) as journal:
        first = record(journal)
    fill(disk)
    with closing(Journal.open(f"sqlite:///{path}", ballast=True)) as journal:
        second = record(journal)
        assert [row.message.payload["inspection"] for row in journal.outbox(MQTT).pending(100)] == [first, second]


def test_a_locked_journal_is_no_reason_to_give_room_away(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.journal.sqlite.BUSY_MS", 50)
    path = disk / "journal.db"
    with (
        closing(Journal.open(f"sqlite:///{path}", ballast=True)) as journal,
        closing(sqlite3.connect(path, isolation_level=None)) as stranger,
    ):
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            journal.outbox(MQTT).mark_sent([1])
    assert (disk / "journal.db.ballast").exists()


def test_only_what_asks_for_it_keeps_room(disk: Path) -> None:
    Journal.open(f"sqlite:///{disk / 'journal.db'}").close()
    assert not list(disk.glob("*.ballast"))


def test_a_fit_on_a_full_disk_says_what_to_do_and_goes_on_afterwards(
    disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = disk / "prompts.safetensors"
    fit = ["fit", "--good", str(EMBEDDED_FOLDER.parents[1] / "samples"), "--count", "8", "--image-size", "64"]
    fit += ["--out", str(out), "--epochs", "1", "--batch", "4", "--save-every", "0", "--force"]
    others = fill(disk)
    assert trainer(fit) == 1
    state = disk / ".prompts.safetensors.fit" / "state.pt"
    told = capfd.readouterr().err.strip().splitlines()
    assert told[-1] == (
        f"trainer: {state}: cannot be written: No space left on device; free space, and give the same command again:"
        " it continues from the state that was saved last"
    )
    others.unlink()
    assert trainer(fit) == 0
    assert sorted(path.name for path in disk.iterdir()) == [out.name]


def test_a_daemon_on_a_full_disk_delivers_every_alarm_and_keeps_the_newest_evidence(tmp_path: Path) -> None:
    noise = [png(np.random.default_rng(seed).integers(0, 256, (500, 500, 3), np.uint8)) for seed in range(29)]
    config_of = {"good": station("good", threshold=ALL_OK), "bad": station("bad")}
    for name in config_of:
        (tmp_path / name).mkdir()
    with Mosquitto(tmp_path) as broker, Listener(broker) as listener:
        config = write_config(
            tmp_path, *config_of.values(), broker=broker, evidence={"originals": "all", "overlays": "none"}
        )
        with on_small_disk(tmp_path / "data", "64m", "run", "--config", config, "--verbose") as (daemon, log):
            disk = Path(f"/proc/{daemon.pid}/root{tmp_path}/data")  # the daemon's own view of it
            wait_until(lambda: "station bad: watches" in log.read_text(), "it watches")
            for number, content in enumerate(noise[:24]):
                (tmp_path / "good" / f"{number}.png").write_bytes(content)
            wait_until(lambda: log.read_text().count("good: OK") == 24, "evidence is there")
            fill(disk)
            for number, content in enumerate(noise[24:]):
                (tmp_path / "bad" / f"{number}.png").write_bytes(content)
            wait_until(lambda: len(listener.ids("alarm")) == 5, "all alarms arrive while the disk is full")
            assert "the oldest evidence goes, OK first" in log.read_text()
            kept = sorted(path.name for path in (disk / "evidence").rglob("*.png"))
            assert sum("_NotOK_" in name for name in kept) == 5
            assert [name.split("_")[2] for name in kept if "_OK_" in name] == [str(n) for n in range(24)][
                -(len(kept) - 5) :
            ]
            assert 5 < len(kept) < 29
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
