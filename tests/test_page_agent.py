"""The page beside a running agent and a real broker: what is said on it takes effect there, and costs no picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from starlette.testclient import TestClient

from edge_agent.mqtt.messages import schema
from edge_agent.page.access.accounts import Role
from tests.agent import ALL_NOT_OK, ALL_OK, Daemon, part, station, write_config
from tests.conftest import wait_until
from tests.mosquitto import Listener, Mosquitto
from tests.pages import page, token_in


@dataclass(frozen=True)
class Plant:
    """A page of engineers on this machine, its agent, who listens to the broker, and where pictures come from."""

    client: TestClient
    daemon: Daemon
    listener: Listener
    folder: Path

    def put(self, name: str, seed: int) -> str:
        """Move a picture into the station's folder."""
        part(self.folder / "made" / name, seed).rename(self.folder / "cam1" / name)
        return name


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    (folder / "cam1").mkdir()
    with Mosquitto(folder) as broker, Listener(broker) as listener:
        config = write_config(folder, station(threshold=ALL_NOT_OK), broker=broker, evidence={"overlays": "none"})
        with Daemon(config) as daemon:
            part(folder / "cam1" / "first.png")
            wait_until(lambda: daemon.rows, "a picture")
            with page(folder / "data", local=Role.ENGINEER, stations=("cam1",), config=config) as app:
                yield Plant(TestClient(app, base_url="http://127.0.0.1"), daemon, listener, folder)
            daemon.stop()


def test_an_acknowledged_alarm_is_on_the_bus_within_seconds(plant: Plant) -> None:
    html = plant.client.get("/line").text
    alarm = re.search(r'name="alarm" value="([^"]+)"', html)[1]  # type: ignore[index]
    plant.client.post("/line/acknowledge", data={"token": token_in(html), "station": "cam1", "alarm": alarm})
    wait_until(lambda: plant.listener.heard("acknowledged"), "the acknowledgement")
    (heard,) = plant.listener.heard("acknowledged")
    assert heard.topic == "plant/line/box/cam1/acknowledged"
    assert (heard.payload["alarm_id"], heard.payload["by"]) == (alarm, "this machine")


def test_what_is_said_of_a_part_is_on_the_bus_within_seconds_and_that_it_was_undone(plant: Plant) -> None:
    part_ = plant.daemon.rows[0]["id"]
    for number, value in enumerate(("defect", "none"), 1):
        html = plant.client.get(f"/inspection/{part_}").text
        seen = re.search(r'name="seen" value="(\d*)"', html)[1]  # type: ignore[index]
        fields = {"token": token_in(html), "seen": seen, "value": value, "kind": "dent", "box": "1,2,3,4"}
        assert plant.client.post(f"/inspection/{part_}", data=fields).status_code == 200
        wait_until(lambda number=number: len(plant.listener.ids("labelled")) == number, "the word")  # type: ignore[misc]
    heard = plant.listener.heard("labelled")
    assert {one.topic for one in heard} == {"plant/line/box/cam1/labelled"}
    for one in heard:
        jsonschema.validate(one.payload, schema("labelled"))
    assert [(one.payload["label"], one.payload["defect_kind"], one.payload["bbox"]) for one in heard] == [
        ("defect", "dent", [1, 2, 3, 4]),
        ("none", None, None),
    ]
    assert {(one.payload["inspection_id"], one.payload["by"]) for one in heard} == {(part_, "this machine")}


def test_a_saved_threshold_holds_from_the_next_part_on_and_no_picture_is_lost(plant: Plant) -> None:
    html = plant.client.get("/threshold").text
    seen = re.search(r'name="seen" value="([^"]*)"', html)[1]  # type: ignore[index]
    fields = {"token": token_in(html), "station": "cam1", "seen": seen, "name": "open", "reason": "a trial"}
    names = ["first.png", *(plant.put(f"before{number}.png", number) for number in range(10))]
    answer = plant.client.post("/threshold", data={**fields, "threshold": str(ALL_OK)})
    assert "The agent reads it again now" in answer.text

    def judged_by_it() -> bool:
        rows = plant.daemon.rows
        if len(rows) > len(names) - 3:
            names.append(plant.put(f"after{len(names)}.png", len(names)))
        return bool(rows[-1]["threshold"] == ALL_OK)

    wait_until(judged_by_it, "a part that is judged by the new threshold")
    wait_until(lambda: len(plant.daemon.rows) >= len(names), "all pictures")
    assert Counter(plant.daemon.inspected) == Counter(names)
    thresholds = [row["threshold"] for row in plant.daemon.rows]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] == ALL_NOT_OK


def test_a_drawn_mask_is_taken_up_by_the_running_agent(plant: Plant) -> None:
    html = plant.client.get("/masks").text
    seen = re.search(r'name="seen" value="([^"]*)"', html)[1]  # type: ignore[index]
    fields = {"token": token_in(html), "station": "cam1", "seen": seen, "include": "", "ignore": "0,0 0.5,0 0.5,1 0,1"}
    answer = plant.client.post("/masks", data=fields)
    assert "The agent reads it again now" in answer.text
    plant.daemon.until("config.yaml: cam1.ignore")
