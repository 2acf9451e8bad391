"""The default agent works without what only other models import, and says which extra to install where one of those is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = (
    "open_clip",
    "torchvision",
    "sentencepiece",
    "timm",
    "scipy",
    "sklearn",
    "huggingface_hub",
    "pymodbus",
    "asyncua",
)

BLOCK = f"""
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


BENCHED = "clip:ViT-B-32/openai"
# What is asked, by name; all of it in one interpreter, as each would have to import torch.
QUESTIONS = {
    "embedded": f"""
import numpy as np
from edge_agent.inference.load import load_detector
(reading,) = load_detector(device="cpu").read([np.zeros((64, 64, 3), np.uint8)])
print(reading.heatmap.shape, [name for name in {ABSENT} if name in sys.modules])
""",
    "text": """
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import Loader
try:
    Loader().detector(class_name="nut", device="cpu")
except CheckpointError as error:
    print(error)
""",
    "clip": f"""
try:
    Loader().backbone("{BENCHED}")
except CheckpointError as error:
    print(error)
""",
    "sinks": """
from edge_agent.errors import ConfigError
from edge_agent.opcua.config import OpcUaConfig
from edge_agent.plc.config import PlcConfig
for section in (OpcUaConfig.model_construct(), PlcConfig.model_construct()):
    try:
        section.require()
    except ConfigError as error:
        print(error)
""",
    "commands": f"""
from edge_agent.cli import main
with contextlib.redirect_stderr(sys.stdout):
    print(main(["bench", "--backbone", "{BENCHED}"]), main(["check", "--config", sys.argv[1]]))
""",
}
ASK = """
import contextlib, io, json
said, names = {}, {"sys": sys, "contextlib": contextlib}
for name, code in json.loads(sys.stdin.read()).items():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    said[name] = out.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each of QUESTIONS prints in an interpreter where none of ABSENT can be imported."""
    config = tmp_path_factory.mktemp("said") / "config.yaml"
    config.write_text(
        f"stations:\n- name: cam1\n  source: {{folder: ./in}}\n  detector: {{model: {BENCHED}, method: clip}}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", BLOCK + ASK, str(config)],
        input=json.dumps(QUESTIONS),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def test_the_embedded_detector_reads_pictures_with_nothing_but_what_it_needs(said):
    assert said["embedded"] == "(224, 224) []\n"


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
    ("question", "answer"),
    [
        ("text", "tokenizer.model needs sentencepiece: pip install 'edge-agent[text]'"),
        ("clip", f"{BENCHED} needs open_clip: pip install 'edge-agent[clip]'"),
    ],
)
def test_a_model_that_needs_an_extra_names_it(question, answer, said):
    assert answer in said[question]


def test_bench_and_check_name_the_extra_too(said):
    assert said["commands"].endswith("1 78\n")
    assert said["commands"].count("pip install 'edge-agent[clip]'") == 2


def test_a_sink_that_needs_an_extra_names_it(said):
    assert said["sinks"].splitlines() == [
        "opcua: wants asyncua: pip install 'edge-agent[opcua]'",
        "trigger: {plc: ...} wants pymodbus: pip install 'edge-agent[plc]'",
    ]


def test_what_an_extra_of_models_brings_is_installed_by_default_as_well():
    project = (ROOT / "pyproject.toml").read_text()
    default = re.findall(r'^    "(.+)",$', project.partition("[project.optional-dependencies]")[0], re.MULTILINE)
    for extra in ("clip", "text"):
        (listed,) = re.findall(rf"^{extra} = \[(.+)\]$", project, re.MULTILINE)
        assert set(re.findall(r'"(.+?)"', listed)) <= set(default), extra
