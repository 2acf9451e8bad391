"""Check that the tests notice changed code: run mutants of a module against the tests that concern it.

    python -m benchmarks.mutation --minutes 25

A mutant has one change: a comparison, an operator, a constant, a condition, a call or a return. A process that has imported
everything except our own code is forked for each mutant, so that it costs its tests and no imports. Processes that a test
starts run the unchanged code, so such tests are left out. Mutants are sampled with a seed, in turns from all modules.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
LONGEST_S = 60.0  # a mutant that takes so long, such as one that never ends, is noticed
# Tests by module, as arguments of pytest. PostgreSQL's are left out: they run the same code as SQLite's but for its dialect.
PLAN: Mapping[str, Sequence[str]] = {
    "edge_agent.line.judge": ("tests/test_judge.py", "tests/test_mask.py"),
    "edge_agent.line.mask": ("tests/test_mask.py", "tests/test_judge.py"),
    "edge_agent.line.inbox": ("tests/test_inbox_waits.py", "tests/test_pipeline.py"),
    "edge_agent.line.inspect": ("tests/test_pipeline.py", "tests/test_faults_detector.py", "-k", "not daemon"),
    "edge_agent.line.line": ("tests/test_pipeline.py", "tests/test_faults_detector.py", "-k", "not daemon"),
    "edge_agent.line.calibration": ("tests/test_calibrate.py",),
    "edge_agent.health.drift": ("tests/test_drift.py", "-k", "not agent"),
    "edge_agent.journal.journal": ("tests/test_journal.py", "tests/test_outbox.py", "-k", "not postgresql"),
    "edge_agent.journal.rows": ("tests/test_journal.py", "tests/test_export.py", "-k", "not postgresql"),
    "edge_agent.journal.reader": ("tests/test_outbox.py", "-k", "not postgresql and not daemon"),
    "edge_agent.journal.purge": ("tests/test_journal.py", "tests/test_retention.py", "-k", "not postgresql"),
    "edge_agent.journal.sqlite": ("tests/test_journal.py", "tests/test_journal_faults.py", "-k", "not postgresql"),
    "trainer.calibrate.conformal": ("tests/test_calibrate.py",),
    "trainer.calibrate.calibration": ("tests/test_calibrate.py",),
}
WARM = (
    "pytest",
    "hypothesis",
    "numpy",
    "cv2",
    "torch",
    "sqlalchemy",
    "alembic.command",
    "pydantic",
    "scipy.special",
    "PIL.Image",
)

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COUNTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module: what stands at `line` and what it becomes."""

    module: str
    line: int
    before: str
    after: str
    tree: ast.Module


class _Changes(ast.NodeTransformer):
    """Makes the change with that number, and counts those that there are."""

    def __init__(self, wanted: int = -1) -> None:
        self.wanted, self.count = wanted, 0
        self.made: tuple[ast.AST, ast.AST] | None = None

    def _offer(self, node: ast.AST, changed: ast.AST) -> ast.AST:
        self.count += 1
        if self.count - 1 != self.wanted:
            return node
        self.made = node, ast.copy_location(changed, node)
        return self.made[1]

    def visit(self, node: ast.AST) -> ast.AST:
        # What is written for people, or for the type checker, is no behaviour.
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            return node
        if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.AnnAssign, ast.arg)):
            return node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return node
        return super().visit(node)

    def _function(self, node: ast.FunctionDef) -> ast.AST:
        returns, decorators, node.returns, node.decorator_list = node.returns, node.decorator_list, None, []
        self.generic_visit(node)
        node.returns, node.decorator_list = returns, decorators
        return node

    visit_FunctionDef = _function  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for place, operator in enumerate(node.ops):
            operators = [*node.ops]
            operators[place] = COMPARED[type(operator)]()
            changed = self._offer(node, ast.Compare(node.left, operators, node.comparators))
            if changed is not node:
                return changed
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        other = COUNTED.get(type(node.op))
        return self._offer(node, ast.BinOp(node.left, other(), node.right)) if other else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return self._offer(node, ast.BoolOp(other, node.values))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return self._offer(node, node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            return self._offer(node, ast.Constant(not node.value))
        if isinstance(node.value, (int, float)):
            return self._offer(node, ast.Constant(node.value + 1))
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        return self._offer(node, ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse))

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        return self._offer(node, ast.IfExp(node.test, node.orelse, node.body))

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node  # a docstring
        self.generic_visit(node)
        silent = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).startswith("log.")
        return node if silent or not isinstance(node.value, ast.Call) else self._offer(node, ast.Pass())

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None):
            return node
        return self._offer(node, ast.Return(ast.Constant(None)))

    def visit_Break(self, node: ast.Break) -> ast.AST:
        return self._offer(node, ast.Continue())

    def visit_Continue(self, node: ast.Continue) -> ast.AST:
        return self._offer(node, ast.Break())


def mutants(module: str, chance: random.Random) -> Iterator[Mutant]:
    """Yield all mutants of a module, in random order."""
    tree, numbers = ast.parse(path_of(module).read_text()), changes_of(module)
    for number in chance.sample(numbers, len(numbers)):
        changes, mutated = _Changes(number), copy.deepcopy(tree)
        changes.visit(mutated)
        assert changes.made
        before, after = changes.made
        first = ast.unparse(before).splitlines()[0], ast.unparse(after).splitlines()[0]
        yield Mutant(module, before.lineno, *first, ast.fix_missing_locations(mutated))  # type: ignore[attr-defined]


def changes_of(module: str) -> range:
    """Return the numbers of all changes that can be made to a module."""
    counter = _Changes()
    counter.visit(ast.parse(path_of(module).read_text()))
    return range(counter.count)


def path_of(module: str) -> Path:
    """Return the file of a module."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


class _Swapped(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._mutant.module else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(path_of(self._mutant.module))
        exec(compile(self._mutant.tree, module.__file__, "exec"), module.__dict__)  # noqa: S102


def tests_pass(tests: Sequence[str], mutant: Mutant | None) -> bool | None:
    """Run the tests in a fork of this process; None: they did not end in time."""
    pid = os.fork()
    if not pid:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        if mutant:
            sys.meta_path.insert(0, _Swapped(mutant))
        import pytest

        os._exit(pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]))
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _end_group(pid)
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    _end_group(pid)
    os.waitpid(pid, 0)
    return None


def _end_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Run mutants of all modules in turns until the time is over, and print the figures as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25.0, metavar="M", help="stop after so many minutes (25)")
    parser.add_argument("--only", nargs="+", default=list(PLAN), metavar="MODULE", help="of these modules only")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of mutants (0)")
    options = parser.parse_args()
    for name in WARM:
        importlib.import_module(name)
    chance, until = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    for module in options.only:
        begun = time.monotonic()
        if not tests_pass(PLAN[module], None):
            raise SystemExit(f"{module}: {' '.join(PLAN[module])} fails as it is")
        print(f"{module}: {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
    left = {module: mutants(module, chance) for module in options.only}
    tried: dict[str, int] = defaultdict(int)
    survivors: dict[str, list[Mutant]] = defaultdict(list)
    whole = {module: len(changes_of(module)) for module in options.only}
    while left and time.monotonic() < until:
        for module in list(left):
            mutant = next(left[module], None)
            if mutant is None:
                del left[module]
                continue
            tried[module] += 1
            if tests_pass(PLAN[module], mutant):
                survivors[module].append(mutant)
                print(f"{module}:{mutant.line}  {mutant.before}  ->  {mutant.after}", file=sys.stderr, flush=True)
    print("| module | mutants | tried | killed | survived |\n|---|---|---|---|---|")
    for module in options.only:
        lived = len(survivors[module])
        print(f"| {module} | {whole[module]} | {tried[module]} | {tried[module] - lived} | {lived} |")
    all_tried, lived = sum(tried.values()), sum(map(len, survivors.values()))
    print(f"| all | {sum(whole.values())} | {all_tried} | {all_tried - lived} | {lived} |")
    for module, all_ in survivors.items():
        for mutant in sorted(all_, key=lambda mutant: mutant.line):
            print(f"- `{module}:{mutant.line}`: `{mutant.before}` -> `{mutant.after}`")


if __name__ == "__main__":
    main()
