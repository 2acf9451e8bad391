"""What docs/reliability.md and docs/security.md promise is held by tests that exist, and their numbers are those of the soaks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RELIABILITY, SECURITY = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("reliability", "security"))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+\.py)`", RELIABILITY + SECURITY))))
def test_every_test_that_is_named_exists(name: str) -> None:
    assert "\ndef test_" in (ROOT / "tests" / name).read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_faults_*.py")), ids=lambda path: path.name)
def test_every_test_of_a_fault_is_named(path: Path) -> None:
    assert path.name == Path(__file__).name or path.name in RELIABILITY + SECURITY


def figures(soak: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((ROOT / "benchmarks" / "results" / f"faults-{soak}.json").read_text())[
        "figures"
    ]
    return found


@pytest.mark.parametrize(
    ("soak", "said"),
    [
        ("kills", "{kills} kills, {pictures} pictures, {alarms_recorded} alarms"),
        (
            "kills-light",
            "{kills} kills, {pictures} pictures, {alarms_recorded} alarms: none lost, {redeliveries} told twice",
        ),
        ("broker-down", "{alarms_recorded} alarms, none lost, {redeliveries} told twice"),
        ("broker-frozen", "{alarms_recorded} alarms, none lost"),
        ("broker-slamming", "{alarms_recorded} alarms, none lost"),
        ("broker-taken_over", "{alarms_recorded} alarms, none lost"),
        ("broker-wrong_password", "{alarms_recorded} and "),
        ("broker-wrong_authority", "and {alarms_recorded} alarms, none lost"),
        (
            "disk",
            "{times_full} times, {seconds_each:.0f} s each: {alarms_recorded_while_full} alarms recorded meanwhile, none lost;"
            " {evidence_dropped_of_ok} OK pictures made way",
        ),
        ("burst", "{expected} pictures left to inspect"),
        ("overload", "{captured} frames captured, {inspected} inspected, {dropped} dropped"),
    ],
)
def test_the_numbers_are_those_of_the_soaks(soak: str, said: str) -> None:
    assert said.format(**figures(soak)) in " ".join(RELIABILITY.split())


def test_the_numbers_of_the_cameras_are_those_of_their_soak() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "cameras.json").read_text())["figures"]
    assert not any(found[name] for name in ("never", "wrong_colours", "pictures_with_unbalanced_counts"))
    took = found["back_after_s"]
    assert sum(took[kind]["rounds"] for kind in ("killed", "hung", "frozen", "silent")) >= 100
    text = " ".join((ROOT / "docs" / "cameras.md").read_text().split())
    for kind, name in (("killed", "switched off and on"), ("hung", "hung"), ("frozen", "frozen"), ("silent", "silent"),
                       ("capture stopped", "the process stopped"), ("capture killed", "the process killed")):  # fmt: skip
        assert f"| {name} | {took[kind]['median']:.1f} s | {took[kind]['longest']:.1f} s |" in text, kind
    assert f"{found['rounds']} times" in text
    assert f"{found['captured']} pictures" in text
    assert f"{found['other_camera']['longest_gap_s']:.1f} s" in text


def test_the_numbers_of_the_fuzzing_are_those_of_its_run() -> None:
    said = (
        "{picture_runs} pictures, {config_runs} configs, {calibration_runs} calibrations, {checkpoint_runs} checkpoints"
        " and {payload_runs} messages"
    )
    assert said.format(**figures("fuzz")) in " ".join(SECURITY.split())
    later = "found nothing either: {command_runs} commands and {config_runs} configs."
    assert later.format(**figures("fuzz-commands")) in " ".join(SECURITY.split())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "results").glob("faults-*.json")), ids=lambda path: path.stem
)
def test_no_soak_lost_or_claimed_anything(path: Path) -> None:
    wrong = re.compile(
        r"never|twice$|missing|lost|waiting|claimed|order|unaccounted|did_not|another_content|not_online|findings|not_told$"
        r"|without_an_alarm|dropped_of_not_ok|before_older"
    )
    told = json.loads(path.read_text())["figures"]
    assert {name: value for name, value in told.items() if wrong.search(name) and value} == {}
