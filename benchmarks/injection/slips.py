"""Slips of the pen to inject into Python code: the logic half of the review benchmark's bugs."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator

from injection.source import Bug, Function, Operator, Source

COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip


def variable_misused(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A local variable is read where another one was meant."""
    for function in ast.walk(source.tree):
        if not isinstance(function, Function):
            continue
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
        stored = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        stored |= {a.arg for a in (*function.args.args, *function.args.kwonlyargs)} - {
            "self",
            "cls",
        }
        counts = Counter(n.id for n in names)
        known = sorted(n for n in stored if counts[n] >= 1)
        for node in names:
            if isinstance(node.ctx, ast.Load) and node.id in stored and len(known) > 1:
                other = rng.choice([n for n in known if n != node.id])
                yield Bug(node.lineno, source.replaced(node, other))


def comparison_changed(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A comparison is the other way round, or off at its edge."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and source.function(node):
            left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
            new = f"{left} {COMPARISONS[type(node.ops[0])]} {right}"
            yield Bug(node.lineno, source.replaced(node, new))


def arguments_swapped(source: Source, rng: random.Random) -> Iterator[Bug]:
    """Two neighbouring arguments are in each other's place."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or source.function(node) is None:
            continue
        plain = [a for a in node.args if isinstance(a, ast.Name | ast.Attribute)]
        if len(plain) < 2 or len(plain) != len(node.args):
            continue
        at = rng.randrange(len(plain) - 1)
        words = [ast.unparse(a) for a in node.args]
        if words[at] != words[at + 1]:
            words[at], words[at + 1] = words[at + 1], words[at]
            words += [f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords if k.arg]
            if all(k.arg for k in node.keywords):
                new = f"{ast.unparse(node.func)}({', '.join(words)})"
                yield Bug(node.lineno, source.replaced(node, new))


def off_by_one(source: Source, rng: random.Random) -> Iterator[Bug]:
    """A range, a bound or an index is one too far."""
    for node in ast.walk(source.tree):
        if source.function(node) is None:
            continue
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "range"
        ):
            if node.args and not any(isinstance(a, ast.Starred) for a in node.args):
                end = node.args[0] if len(node.args) == 1 else node.args[1]
                yield Bug(end.lineno, source.replaced(end, f"{ast.unparse(end)} + 1"))
        elif isinstance(node, ast.Subscript) and is_last_index(node.slice):
            new = ast.unparse(node.slice.left)  # type: ignore[attr-defined]
            yield Bug(node.lineno, source.replaced(node.slice, new))


def is_last_index(index: ast.expr) -> bool:
    """Whether an index is `len(x) - 1` or the like."""
    subtracts = isinstance(index, ast.BinOp) and isinstance(index.op, ast.Sub)
    return subtracts and "len(" in ast.unparse(index)


def condition_turned(source: Source, rng: random.Random) -> Iterator[Bug]:
    """`and` for `or`, or a `not` too few."""
    for node in ast.walk(source.tree):
        if source.function(node) is None:
            continue
        if isinstance(node, ast.BoolOp) and len(node.values) == 2:
            word = "or" if isinstance(node.op, ast.And) else "and"
            left, right = (ast.unparse(v) for v in node.values)
            yield Bug(node.lineno, source.replaced(node, f"({left} {word} {right})"))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield Bug(node.lineno, source.replaced(node, ast.unparse(node.operand)))


LOGIC: dict[str, Operator] = {
    "variable-misused": variable_misused,
    "comparison-changed": comparison_changed,
    "arguments-swapped": arguments_swapped,
    "off-by-one": off_by_one,
    "condition-turned": condition_turned,
}
