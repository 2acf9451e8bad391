"""What a release installs is pinned to the byte, and is what the project asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "deploy" / "requirements.lock").read_text()
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def entries() -> list[tuple[Requirement, list[str]]]:
    """The pinned packages, each with the digests of the files that may be installed of it."""
    found = []
    for entry in re.split(r"\n(?=[A-Za-z0-9])", LOCK):
        if not entry.startswith("#"):
            what, *digests = entry.replace("\\\n", "").split("--hash=")
            found.append((Requirement(what.strip()), [digest.split()[0] for digest in digests]))
    return found


def asked() -> list[Requirement]:
    """The dependencies in pyproject.toml, and those of the extras that a release has."""
    text = (ROOT / "pyproject.toml").read_text()
    lists = [
        re.search(rf"^{name} = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
        for name in ("dependencies", "opcua", "page", "parquet", "plc", "postgresql")
    ]
    lines = [line for found in lists if found for line in found[1].splitlines() if not line.strip().startswith("#")]
    return [
        Requirement(one) for one in re.findall(r'"([^"]+)"', "\n".join(lines).replace("psycopg[binary]", "psycopg"))
    ]


@pytest.mark.parametrize("requirement", asked(), ids=lambda requirement: requirement.name)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_what_the_project_asks_for(requirement: Requirement, python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pinned = [
        one
        for one, _ in entries()
        if canonicalize_name(one.name) == canonicalize_name(requirement.name)
        and (one.marker is None or one.marker.evaluate(here))
    ]
    assert len(pinned) == 1, "run `make lock`"
    (version,) = [one.version for one in pinned[0].specifier]
    assert requirement.specifier.contains(version), "run `make lock`"


def test_every_package_is_pinned_with_its_digests() -> None:
    assert len(entries()) > 40
    for requirement, digests in entries():
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert digests, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in digests), requirement


def test_no_package_comes_from_anywhere_but_the_registry() -> None:
    assert not re.search(r"https?://|git\+|file:|--index|--extra-index|--find-links| @ ", LOCK)
