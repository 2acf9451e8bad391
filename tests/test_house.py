"""The house stands: imports flow one way, --help is quick because it imports little, the README does what it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] in ("edge_agent", "trainer")}


def loaded_by(code: str) -> set[str]:
    """Modules in sys.modules of a fresh interpreter that ran `code`."""
    script = f"{code}\nimport sys; print(chr(10).join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


def test_the_agent_never_imports_the_trainer():
    for path in (ROOT / "edge_agent").rglob("*.py"):
        assert not [name for name in imports(path) if name.startswith("trainer")], path


def test_the_core_imports_nothing_of_ours():
    assert imports(ROOT / "edge_agent" / "core.py") == set()
    assert imports(ROOT / "edge_agent" / "errors.py") == set()


def test_the_pipeline_knows_no_config_no_source_and_no_sink():
    forbidden = {
        "config",
        "cli",
        "commands",
        "sources",
        "mqtt",
        "backbones",
        "detectors",
        "inference",
        "journal",
        "build",
    }
    names = {name.split(".")[1] for name in imports(ROOT / "edge_agent" / "line" / "pipeline.py") if "." in name}
    assert not names.intersection(forbidden)


def test_only_the_command_lines_print():
    for path in [*(ROOT / "edge_agent").rglob("*.py"), *(ROOT / "trainer").rglob("*.py")]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printed = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not printed or path.name == "cli.py" or path.parent.name == "commands", f"{path}:{printed}"


def test_help_imports_nothing_heavy():
    code = "from edge_agent.cli import parser; parser().format_help()"
    assert not loaded_by(code) & {"torch", "cv2", "numpy", "pydantic", "sqlalchemy"}


@pytest.mark.parametrize(
    "package",
    ["edge_agent.line.judge", "edge_agent.journal.journal", "edge_agent.config.load", "edge_agent.line.pipeline"],
)
def test_what_judges_and_records_needs_no_torch(package):
    assert "torch" not in loaded_by(f"import {package}")


def test_the_commands_of_the_readme_are_understood():
    from edge_agent.cli import parser
    from trainer.cli import parser as trainer_parser

    commands = re.findall(r"^\$ (edge-agent|trainer) (.+?)(?:  +#.*)?$", README, re.MULTILINE)
    assert len(commands) > 6
    for program, arguments in commands:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', arguments)]
        (parser if program == "edge-agent" else trainer_parser)().parse_args(words)


def test_the_python_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True, capture_output=True, text=True)


def test_the_links_of_the_documents_lead_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


COMMANDS = {
    "edge-agent": [
        "run",
        "replay",
        "check",
        "doctor",
        "bench",
        "models",
        "models fetch",
        "outbox",
        "outbox list",
        "outbox retry",
        "outbox drop",
        "export",
    ],
    "trainer": ["fit", "synthesize", "import", "evaluate", "compare", "calibrate", "materials", "pretrain"],
}


@pytest.mark.parametrize(("program", "command"), [(name, one) for name, all_ in COMMANDS.items() for one in all_])
def test_every_command_explains_itself(program, command, capsys):
    from edge_agent.cli import parser
    from trainer.cli import parser as trainer_parser

    with pytest.raises(SystemExit) as ended:
        (parser if program == "edge-agent" else trainer_parser)().parse_args([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: {program}" in capsys.readouterr().out


SLOW = {"open_clip", "torchvision", "timm", "sklearn", "scipy", "ray", "pyarrow", "pandas", "onnx", "onnxruntime"}


def test_collecting_the_tests_imports_nothing_that_few_of_them_need():
    """Every worker collects every file. torch alone may be imported there, as half of the files are about it."""
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        names: set[str] = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
        assert not names & SLOW, path


@pytest.mark.parametrize(
    "module", ["edge_agent.backbones.clip", "edge_agent.backbones.clip_weights", "trainer.evaluate.metrics"]
)
def test_a_module_imports_what_is_slow_only_when_it_is_used(module):
    assert not loaded_by(f"import {module}") & SLOW
