"""From a folder that was carried to a machine without a network: the program is installed, replaced, and taken back."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.test_bad_input import unshare

ROOT = Path(__file__).parents[1]


def bundle(folder: Path, version: str) -> Path:
    """What `make wheelhouse` leaves, but for the program: a small one that says its version and needs nothing."""
    folder.mkdir()
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copy(ROOT / "config.yaml", folder)
    (folder / "deploy" / "requirements.lock").write_text("")
    info = f"edge_agent-{version}.dist-info"
    files = {
        "edge_agent.py": f"def main():\n    print({version!r})\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: edge-agent\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedge-agent = edge_agent:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"edge_agent-{version}-py3-none-any.whl", "w") as wheel:
        for name, content in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(name, content)
    return folder


def on_fresh_machine(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """A root shell without a network whose /opt is empty and whose /etc takes changes that nobody else sees."""
    prefix = unshare("--map-root-user", "--mount", "--net")
    for name in ("opt", "upper", "work"):
        (folder / name).mkdir(exist_ok=True)
    own = f"""
        set -e
        mount --bind {folder}/opt /opt
        mount -t overlay -o lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work none /etc
        {script}
    """
    alone = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "SYSTEMD_OFFLINE": "1", "PYTHON": sys.executable}
    return subprocess.run([*prefix, "sh", "-c", own], capture_output=True, text=True, env=alone)


def test_a_machine_without_a_network_gets_the_new_program_and_goes_back_to_the_one_before(tmp_path: Path) -> None:
    home = tmp_path / "opt" / "edge-agent"
    (home / "1.0-before" / "bin").mkdir(parents=True)
    (home / "1.0-before" / "bin" / "edge-agent").write_text("#!/bin/sh\necho 1.0\n")
    (home / "1.0-before" / "bin" / "edge-agent").chmod(0o755)
    (home / ".venv").symlink_to("1.0-before")
    new, newest = bundle(tmp_path / "new", "2.0"), bundle(tmp_path / "newest", "3.0")
    agent = "/opt/edge-agent/.venv/bin/edge-agent"
    ended = on_fresh_machine(
        tmp_path,
        f"""
        mkdir /etc/edge-agent
        echo mine > /etc/edge-agent/config.yaml
        {agent}
        sh {new}/deploy/systemd/install.sh
        {agent}
        sh {new}/deploy/systemd/install.sh >&2
        PYTHON=false sh {newest}/deploy/systemd/install.sh || echo refused
        {agent}
        ln -sfn 1.0-before /opt/edge-agent/.venv
        {agent}
        cat /etc/edge-agent/config.yaml
        ls /etc/systemd/system | grep edge-agent
        """,
    )
    assert ended.returncode == 0, ended.stderr
    units = ("edge-agent-page.service", "edge-agent-page@.service", "edge-agent.service", "edge-agent@.service")
    said = [line for line in ended.stdout.splitlines() if not line.startswith(("the program", "installed", "  "))]
    assert said == ["1.0", "2.0", "refused", "2.0", "1.0", "mine", *units]
    assert "no virtual environment" in ended.stderr


def test_an_environment_that_was_made_by_hand_is_not_touched(tmp_path: Path) -> None:
    own = tmp_path / "opt" / "edge-agent" / ".venv"
    own.mkdir(parents=True)
    ended = on_fresh_machine(tmp_path, f"sh {bundle(tmp_path / 'first', '1.0')}/deploy/systemd/install.sh")
    assert ended.returncode == 1
    assert "/opt/edge-agent/.venv was made by hand: rename it, then run this again" in ended.stderr
    assert list(own.parent.iterdir()) == [own]
