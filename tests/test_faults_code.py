"""Nothing in the packages runs what it reads: no unpickling, no eval, no shell, no YAML that makes objects, no TLS unchecked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "edge_agent").rglob("*.py"), *(ROOT / "trainer").rglob("*.py")])

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "pty"}
CALLS = {
    "eval", "exec", "compile", "__import__", "execfile", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "tempfile.mktemp",
    "ssl._create_unverified_context", "torch.hub.load",
}  # fmt: skip


def complaints(path: Path, code: str) -> Iterator[str]:
    """What of the code might run what it reads."""
    for node in ast.walk(ast.parse(code)):
        place = f"{path.name}:{getattr(node, 'lineno', 0)}: {{}}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            names = {alias.name for alias in node.names}
            if names != {"UnpicklingError"}:  # what torch raises over a file that it refuses to unpickle
                yield place.format(f"from {node.module}")
        elif isinstance(node, ast.Attribute) and _name(node).split(".")[0] in MODULES:
            if _name(node) != "pickle.UnpicklingError":
                yield place.format(_name(node))
        elif isinstance(node, ast.Call):
            name, given = _name(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
            if name in CALLS:
                yield place.format(name)
            if name == "torch.load" and not _is(given.get("weights_only"), True):
                yield place.format("torch.load unpickles without weights_only=True")
            if "allow_pickle" in given and not _is(given["allow_pickle"], False):
                yield place.format("allow_pickle")
            if "shell" in given and not _is(given["shell"], False):
                yield place.format("a shell")
            if "verify" in given and _is(given["verify"], False):
                yield place.format("verify=False")
        elif isinstance(node, ast.Assign):
            targets = {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
            if "check_hostname" in targets or ("verify_mode" in targets and "CERT_REQUIRED" not in ast.dump(node)):
                yield place.format("TLS without checking")


def _name(node: ast.AST) -> str:
    """`a.b.c` of such an expression; of others nothing that could be mistaken for one."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_runs_what_it_reads(path: Path) -> None:
    assert list(complaints(path, path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(b'')",
        "from pickle import loads",
        "eval('1')",
        "exec(code)",
        "import os\nos.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run('ls', shell=wanted)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE",
    ],
)
def test_the_watch_over_the_code_is_awake(code: str) -> None:
    assert list(complaints(Path("bad.py"), code))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\ntry: pass\nexcept pickle.UnpicklingError: pass",
        "model.eval()",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "re.compile('a')",
    ],
)
def test_the_watch_over_the_code_lets_harmless_code_pass(code: str) -> None:
    assert not list(complaints(Path("good.py"), code))
