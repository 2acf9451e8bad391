"""What docs/operation.md tells an integrator to type is understood, and its backup holds what it promises."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from edge_agent.cli import parser
from edge_agent.commands import exits
from edge_agent.config.load import load_config
from tests.agent import Daemon, part, write_config

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "operation.md").read_text()
TYPED = [line.partition("   #")[0].strip() for line in re.findall(r"^[#$] (.+)$", GUIDE, re.MULTILINE)]


def test_the_commands_are_understood() -> None:
    ours = [shlex.split(line)[1:] for line in TYPED if line.startswith("edge-agent ")]
    assert len(ours) >= 5
    for words in ours:
        parser().parse_args(words)


def test_the_configurations_are_good(tmp_path: Path) -> None:
    (station,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    mqtt = re.findall(r"`(mqtt: \{.*?\})`", GUIDE)
    health = re.findall(r"`(health: \{.*?\})`", GUIDE)
    (tmp_path / "config.yaml").write_text("\n".join([station, *mqtt, *health]))
    config = load_config(tmp_path / "config.yaml")
    assert config.mqtt
    assert config.mqtt.prefix == "acme/line4"
    assert config.health


def test_the_scripts_and_the_targets_are_there() -> None:
    scripts = {word for line in TYPED for word in re.findall(r"wheelhouse/(\S+\.sh)", line)}
    assert scripts == {"deploy/systemd/install.sh", "deploy/systemd/uninstall.sh"}
    assert all((ROOT / script).exists() for script in scripts)
    targets = {line.split()[1] for line in TYPED if line.startswith("make ")}
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)


def test_every_exit_code_has_its_meaning() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", GUIDE, re.MULTILINE)}
    assert told == {exits.OK, exits.FAILED, 2, exits.BAD_CONFIG}
    assert f"({exits.INTERRUPTED} is what" in GUIDE


def test_a_backup_taken_while_the_agent_works_is_a_journal_that_it_goes_on_with(tmp_path: Path) -> None:
    def typed(first: str, last: str) -> None:
        """The commands from one that begins so to one that does, with folders of this test; of systemctl none."""
        numbers = [next(n for n, line in enumerate(TYPED) if line.startswith(begin)) for begin in (first, last)]
        for line in TYPED[numbers[0] : numbers[1] + 1]:
            if not line.startswith("systemctl"):
                here = line.replace("/var/lib/edge-agent", str(tmp_path / "data")).replace("/backup", str(tmp_path))
                subprocess.run(["sh", "-c", here], check=True)

    config = write_config(tmp_path)
    part(tmp_path / "cam1" / "before.png", 1)
    with Daemon(config) as daemon:
        daemon.has_inspected("before.png")
        typed("sqlite3 ", "sqlite3 ")
        part(tmp_path / "cam1" / "after.png", 2)
        daemon.has_inspected("before.png", "after.png")
        daemon.kill()
    typed("rm -f /var", "chown ")
    assert daemon.inspected == ["before.png"]
    with Daemon(config) as daemon:
        daemon.has_inspected("before.png", "after.png")
        daemon.stop()
