"""The default agent works without what only other models import, and says which extra to install where one of those is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = ("open_clip", "torchvision", "sentencepiece", "timm", "scipy", "sklearn", "huggingface_hub")

BLOCK = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def without_extras(code: str) -> str:
    """What the code prints in an interpreter where none of ABSENT can be imported."""
    ended = subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_embedded_detector_reads_pictures_with_nothing_but_what_it_needs():
    printed = without_extras(f"""
import numpy as np
from edge_agent.inference.load import load_detector
(reading,) = load_detector(device="cpu").read([np.zeros((64, 64, 3), np.uint8)])
print(reading.heatmap.shape, [name for name in {ABSENT} if name in sys.modules])
""")
    assert printed == "(224, 224) []\n"


def test_the_embedded_detector_imports_nothing_of_the_extras_where_they_are_installed():
    code = f"""
import sys
import numpy as np
from edge_agent.inference.load import load_detector
load_detector(device="cpu").read([np.zeros((64, 64, 3), np.uint8)])
print([name for name in {ABSENT} if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            '.detector(class_name="nut", device="cpu")',
            "tokenizer.model needs sentencepiece: pip install 'edge-agent[text]'",
        ),
        ('.backbone("clip:ViT-B-32/openai")', "clip:ViT-B-32/openai needs open_clip: pip install 'edge-agent[clip]'"),
    ],
)
def test_a_model_that_needs_an_extra_names_it(code, said):
    printed = without_extras(f"""
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader
try:
    Loader(){code}
except CheckpointError as error:
    print(error)
""")
    assert said in printed


def test_bench_and_check_name_the_extra_too(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "stations:\n- name: cam1\n  source: {folder: ./in}\n  detector: {model: clip:ViT-B-32/openai, method: clip}\n"
    )
    printed = without_extras(f"""
import contextlib, io
from edge_agent.cli import main
said = io.StringIO()
with contextlib.redirect_stderr(said):
    codes = main(["bench", "--backbone", "clip:ViT-B-32/openai"]), main(["check", "--config", {str(config)!r}])
print(codes, said.getvalue())
""")
    assert printed.startswith("(1, 78)")
    assert printed.count("pip install 'edge-agent[clip]'") == 2


def test_what_an_extra_of_models_brings_is_installed_by_default_as_well():
    project = (ROOT / "pyproject.toml").read_text()
    default = re.findall(r'^    "(.+)",$', project.partition("[project.optional-dependencies]")[0], re.MULTILINE)
    for extra in ("clip", "text"):
        (listed,) = re.findall(rf"^{extra} = \[(.+)\]$", project, re.MULTILINE)
        assert set(re.findall(r'"(.+?)"', listed)) <= set(default), extra
