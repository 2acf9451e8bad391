"""One detector through every command that has to do with detectors, as its user would walk; for what is added to a list from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.cli import main
from tests.agent import Daemon, part, station, write_config
from tests.conftest import wait_until
from tests.mosquitto import free_port
from tests.test_health import get, samples
from trainer.cli import main as trainer


class Walk:
    """The commands, each with the same detector; `name` is method/backbone, as each of them has to report it."""

    def __init__(self, folder: Path, name: str, section: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        """section: `detector:` of the station."""
        self.folder, self.name, self.capsys, self.port = folder, name, capsys, free_port()
        self.config = write_config(folder, station(detector=section), health={"port": self.port})

    def said(self, *arguments: str, program: Callable[[list[str]], int] = main) -> str:
        """What a command prints; it has to succeed."""
        self.capsys.readouterr()
        code = program(list(arguments))
        printed = self.capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    def check(self) -> str:
        return self.said("check", "--config", str(self.config))

    def doctor(self) -> str:
        findings = [
            json.loads(line) for line in self.said("doctor", "--config", str(self.config), "--json").split("\n") if line
        ]
        (own,) = [one for one in findings if one["name"] == "detector"]
        assert own["state"] == "ok", own
        return own["text"]

    def run(self, before: Callable[[], None]) -> dict[tuple[str, ...], float]:
        """Inspect one picture by the daemon; return what /metrics then says. before: adds the detector in its process."""
        part(self.folder / "cam1" / "a.png")
        with Daemon(self.config, before=before) as daemon:
            daemon.has_inspected("a.png")
            wait_until(
                lambda: ("score_count", "cam1") in samples(get(self.port, "/metrics")[1]), "its score is counted"
            )
            counted = samples(get(self.port, "/metrics")[1])
            assert daemon.rows[0]["model"] == self.name
            daemon.stop()
        assert not any(value for name, value in counted.items() if name[0] == "collector_failures_total")
        return counted

    def replay(self) -> str:
        out = self.folder / "replayed"
        return self.said(
            "replay", str(part(self.folder / "stored" / "b.png", 1)), "--config", str(self.config), "--out", str(out)
        )

    def evaluate(self, *options: str) -> dict:
        """The record that `trainer evaluate` writes of two good plates and two with a bright square."""
        data, record = self.folder / "data", self.folder / "evaluation.json"
        random = np.random.default_rng(0)
        for kind in ("good", "dent"):
            (data / "plate/test" / kind).mkdir(parents=True)
            for number in range(2):
                plate = random.integers(90, 110, (64, 64, 3), np.uint8)
                plate[10:20, 30:40] += np.uint8(100 * (kind == "dent"))
                cv2.imwrite(str(data / f"plate/test/{kind}/{number}.png"), plate)
        self.said("evaluate", "--data", str(data), "--json", str(record), *options, program=trainer)
        return json.loads(record.read_text())["measured"]

    def bench(self, *options: str) -> dict:
        """What `edge-agent bench` measures of one picture at a time."""
        command = ["bench", "--batch", "1", "--seconds", "0", "--frame", "64x64", "--device", "cpu", "--json"]
        return json.loads(self.said(*command, *options))
