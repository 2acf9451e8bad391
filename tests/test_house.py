"""The house stands: imports flow one way, --help is quick because it imports little, the README does what it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import rooms

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def loaded_by(code: str) -> set[str]:
    """Modules in sys.modules of a fresh interpreter that ran `code`."""
    script = f"{code}\nimport sys; print(chr(10).join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.fixture(scope="module")
def house() -> dict[str, Path]:
    return rooms.modules()


@pytest.fixture(scope="module")
def between(house: dict[str, Path]) -> rooms.Arrows:
    return rooms.arrows(house)


def test_every_room_has_its_place_in_the_order(house):
    declared = {f"{package}.{room}" for package, all_ in rooms.ORDER.items() for room in all_}
    assert {rooms.room_of(module) for module in house if "." in module} == declared


def test_no_room_imports_one_above_it_nor_the_agent_the_trainer(between):
    assert rooms.upward(between) == []


def test_no_imports_lead_in_a_circle(between):
    assert rooms.circles(between) == []


def test_no_imports_lead_in_a_circle_within_a_room_either(house):
    assert rooms.circles(rooms.module_arrows(house)) == []


def test_the_core_and_the_errors_import_nothing_of_ours(house):
    for name in ("edge_agent.core", "edge_agent.errors"):
        assert not rooms.imported(house[name], house), name


MOST_MODULES = 15


def test_no_folder_holds_more_modules_than_one_can_look_over(house):
    in_folder = Counter(path.parent for path in house.values() if path.name != "__init__.py")
    larger = {str(folder.relative_to(ROOT)) for folder, count in in_folder.items() if count > MOST_MODULES}
    assert not larger


def test_the_pipeline_knows_no_config_no_source_no_sink_no_detector_and_no_database(house):
    of_ours = rooms.imported(house["edge_agent.line.line"], house)
    assert {rooms.room_of(name) for name in of_ours} <= {
        "edge_agent.core",
        "edge_agent.errors",
        "edge_agent.io",
        "edge_agent.line",
    }


def test_only_the_command_lines_print(house):
    for module, path in house.items():
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printed = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not printed or module.split(".")[1] in ("cli", "commands"), f"{path}:{printed}"


@pytest.mark.parametrize("package", ["edge_agent", "trainer"])
def test_a_command_line_loads_only_what_its_arguments_are_made_of(package):
    """Names of methods and backbones come from their lists, which are light; all else is imported by the command that runs."""
    loaded = loaded_by(f"from {package}.cli import parser; parser().format_help()")
    rooms_loaded = {rooms.room_of(name).split(".")[-1] for name in loaded if name.split(".")[0] in rooms.ORDER}
    allowed = {
        "edge_agent",
        "trainer",
        "cli",
        "commands",
        "errors",
        "io",
        "backbones",
        "detectors",
        "inference",
        "importing",
        "pretrain",
    }
    assert rooms_loaded <= allowed
    assert not loaded & {"torch", "cv2", "numpy", "pydantic", "sqlalchemy", "yaml", "PIL"}


@pytest.mark.parametrize(
    "package",
    ["edge_agent.line.judge", "edge_agent.journal.journal", "edge_agent.config.load", "edge_agent.line.line"],
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
        "cameras",
        "bench",
        "models",
        "models fetch",
        "models pack",
        "outbox",
        "outbox list",
        "outbox retry",
        "outbox drop",
        "export",
        "label",
        "learn",
        "page",
        "page passwd",
        "report",
    ],
    "trainer": [
        "fit",
        "synthesize",
        "import",
        "evaluate",
        "reproduce",
        "compare",
        "calibrate",
        "materials",
        "pretrain",
    ],
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
    "module", ["edge_agent.backbones.clip.model", "edge_agent.backbones.clip.weights", "trainer.evaluate.metrics"]
)
def test_a_module_imports_what_is_slow_only_when_it_is_used(module):
    assert not loaded_by(f"import {module}") & SLOW


def documents_arguments(function: ast.FunctionDef, module_text: str) -> bool:
    """Whether a docstring, or that of the method's protocol, says what the arguments are.

    Painters of one module share their arguments: there the first docstring that names one speaks for "all functions".
    """
    text = ast.get_docstring(function) or ""
    return "Args" in text or "see " in text.lower() or "Args (and those of all functions)" in module_text


def test_every_public_function_with_three_arguments_or_more_says_what_they_are(house):
    lacking = []
    for name, path in house.items():
        if "versions" in name or name.startswith("trainer.synthesis.parts"):  # Maker says it for all parts
            continue
        text = path.read_text()
        for holder in [ast.parse(text), *(one for one in ast.parse(text).body if isinstance(one, ast.ClassDef))]:
            if isinstance(holder, ast.ClassDef) and holder.name.startswith("_"):
                continue
            for one in holder.body:
                if not isinstance(one, ast.FunctionDef) or (one.name.startswith("_") and one.name != "__init__"):
                    continue
                given = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
                count = len([arg for arg in given if arg.arg not in ("self", "cls")])
                if count >= 3 and not documents_arguments(one, text):
                    lacking.append(f"{path}:{one.lineno}: {one.name}")
    assert not lacking, "\n".join(lacking)
