"""Change the decision in one place at a time and see whether a test notices.

Copies the tree's code and its tests of the domain into temporary folders, applies one mutation after the other, runs
the tests until the first failure, and lists what no test noticed. The same code gives the same list.
"""

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "grant",
    "appointment",
    "decision",
    "codes",
    "ownership",
    "rules",
    "outcome",
    "offers",
    "hl7_limits",
    "pseudonym",
    "chain",
    "chain_check",
    "removal",
    "strict_json",
)
ALONE = frozenset({"pseudonym", "chain", "chain_check", "removal", "strict_json"})
"""Modules that the decision does not know; their mutants meet their own tests only."""
TESTED_WITH = {"chain_check": ("chain", "removal")}
TABLES = (
    "rules_reach",
    "rules_command",
    "rules_gate",
    "rules_order",
    "intents_rules",
    "decision",
    "ownership",
    "outcome",
    "grant",
    "appointment",
    "codes",
    "offers",
    "hl7_limits",
)
"""Tests made of tables; those of a mutant's own module run first, the slower properties last."""
TIME_LIMIT = 60.0
"""Seconds for one run; a mutant that loops is noticed."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """One module with one change."""

    module: str
    line: int
    what: str
    source: str


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Give what could stand in place of a node."""
    match node:
        case ast.Compare(ops=ops):
            for position, operator in enumerate(ops):
                for other in COMPARISONS[type(operator)]:
                    changed = copy.deepcopy(node)
                    changed.ops[position] = other()
                    yield f"{type(operator).__name__} to {other.__name__}", changed
        case ast.BoolOp(op=operator, values=values):
            swapped = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield f"{type(operator).__name__} to {type(swapped).__name__}", ast.BoolOp(swapped, values)
            for position in range(len(values)):
                kept = [value for index, value in enumerate(values) if index != position]
                yield f"without operand {position + 1}", kept[0] if len(kept) == 1 else ast.BoolOp(operator, kept)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "without not", operand
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATORS:
            opposite = OPERATORS[type(operator)]
            yield f"{type(operator).__name__} to {opposite.__name__}", ast.BinOp(left, opposite(), right)
        case _:
            yield from variants_of_branches(node)


def variants_of_branches(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Give what could stand in place of a branch, a constant or a result."""
    match node:
        case ast.IfExp(body=body, orelse=orelse):
            yield "always the first", body
            yield "always the second", orelse
        case ast.If(body=body, orelse=orelse):
            yield "if always", ast.If(ast.Constant(value=True), body, orelse)
            yield "if never", ast.If(ast.Constant(value=False), body, orelse)
        case ast.Constant(value=bool() as value):
            yield f"{value} to {not value}", ast.Constant(value=not value)
        case ast.Constant(value=int() as value):
            yield f"{value} to {value + 1}", ast.Constant(value=value + 1)
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield "return None", ast.Return(ast.Constant(value=None))
        case ast.Call(func=ast.Name(id="any" | "all" as name), args=args):
            yield f"{name} to the other", ast.Call(ast.Name("all" if name == "any" else "any"), args, [])
        case _:
            return


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Give every node with the field of its parent that holds it, top to bottom."""
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.AnnAssign | ast.arg) and name == "annotation":
            continue
        if isinstance(node, ast.FunctionDef) and name == "returns":
            continue
        if name == "decorator_list":
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST):
                yield node, name, index, child
                yield from places(child)


def mutants(module: str) -> Iterator[Mutant]:
    """Give every mutant of a module in the order of its lines."""
    tree = ast.parse((ROOT / "gateway" / "domain" / f"{module}.py").read_text(encoding="utf-8"))
    for parent, name, index, child in list(places(tree)):
        for what, other in variants(child):
            put(parent, name, index, other)
            source = ast.unparse(ast.fix_missing_locations(tree))
            put(parent, name, index, child)
            yield Mutant(module, getattr(child, "lineno", 0), what, source)


def put(parent: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
    """Set a child where it was found."""
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


def copy_tree(into: Path) -> Path:
    """Copy what the tests of the domain need."""
    for folder in ("gateway/domain", "tests/domain"):
        shutil.copytree(ROOT / folder, into / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (into / "gateway" / "__init__.py").touch()
    for name in ("__init__.py", "makers.py", "strategies.py"):
        shutil.copy(ROOT / "tests" / name, into / "tests")
    return into


def noticed(tree: Path, mutant: Mutant | None) -> bool:
    """Run the tests of the domain in a tree with the mutant in place; True when one fails."""
    path = tree / "gateway" / "domain" / f"{mutant.module}.py" if mutant else None
    original = path.read_text(encoding="utf-8") if path else ""
    if path and mutant:
        path.write_text(mutant.source, encoding="utf-8")
    nearest = sorted(TABLES, key=lambda name: not (mutant and name.startswith(mutant.module)))
    names = (
        TESTED_WITH.get(mutant.module, (mutant.module,))
        if mutant and mutant.module in ALONE
        else (*nearest, "rules_properties")
    )
    files = [f"tests/domain/test_{name}.py" for name in names]
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        run = subprocess.run(
            command, cwd=tree, capture_output=True, timeout=TIME_LIMIT, check=False, env={**os.environ, **plugins}
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        if path:
            path.write_text(original, encoding="utf-8")
    return run.returncode != 0


def main() -> int:
    """Run, print the survivors and the count; 1 when the unchanged code fails its tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, help="modules of gateway/domain")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    every = [mutant for module in given.modules for mutant in mutants(module)]

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.processes) as threads:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(given.processes):
            trees.put(copy_tree(Path(folder) / str(number)))

        def attempt(mutant: Mutant | None) -> bool:
            tree = trees.get()
            try:
                return noticed(tree, mutant)
            finally:
                trees.put(tree)

        if attempt(None):
            print("the tests fail without a mutation", file=sys.stderr)
            return 1
        survivors = [one for one, seen in zip(every, threads.map(attempt, every), strict=True) if not seen]

    for one in survivors:
        print(f"gateway/domain/{one.module}.py:{one.line}: {one.what}")
    print(f"{len(every)} mutants, {len(every) - len(survivors)} noticed, {len(survivors)} survived")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
