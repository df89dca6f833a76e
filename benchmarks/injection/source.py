"""A Python file that bugs are injected into: its tree, and the ways to change its text."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """A file's text with its tree, and the ways to change it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self.lines = text.split("\n")
        self.parent: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parent[child] = node

    def function(self, node: ast.AST) -> Function | None:
        """The innermost function around a node."""
        current = self.parent.get(node)
        while current is not None and not isinstance(current, Function):
            current = None if isinstance(current, ast.Lambda) else self.parent.get(current)
        return current

    def replaced(self, node: ast.expr | ast.stmt, new: str) -> str:
        """The text with a node replaced."""
        data = self.text.encode()
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line.encode()) + 1)
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        return (data[:begin] + new.encode() + data[end:]).decode()

    def unwrapped(self, block: ast.With | ast.AsyncWith, header: str) -> str | None:
        """The text with a `with` replaced by a statement ("" for none) and its body."""
        indent = " " * block.col_offset
        first, last = block.body[0].lineno - 1, block.end_lineno or 0
        shift = block.body[0].col_offset - block.col_offset
        if shift <= 0 or first <= block.lineno - 1:
            return None
        body = self.lines[first:last]
        if any(line.strip() and not line.startswith(indent + " " * shift) for line in body):
            return None
        shifted = [line[shift:] for line in body]
        head = [indent + header] if header else []
        return "\n".join(self.lines[: block.lineno - 1] + head + shifted + self.lines[last:])

    def with_import(self, module: str, text: str) -> str | None:
        """A text of the same beginning with one more import before the first one."""
        for node in self.tree.body:
            future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            if isinstance(node, ast.Import | ast.ImportFrom) and not future:
                lines = text.split("\n")
                return "\n".join(
                    [*lines[: node.lineno - 1], f"import {module}", *lines[node.lineno - 1 :]]
                )
        return None


@dataclass(frozen=True, slots=True)
class Bug:
    """A mutated text and the 1-based line of the change."""

    line: int
    text: str


Operator = Callable[[Source, random.Random], Iterator[Bug]]
"""What makes bugs of one class out of a file; `Random` chooses where there is a choice."""
