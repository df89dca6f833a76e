"""Debt: what works today and costs whoever changes it. Hints, which never fail a run.

Each is one sweep over lines or over nodes that are at hand, so that they cost a review nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from qcoder.lsp_server.python_tree import Node, PythonFile, name_of, text_of
from qcoder.lsp_server.review_rule import Hit

MAX_LINES = 80
"""Lines of code that people still oversee in one function."""

MAX_DEPTH = 5
"""Blocks inside each other, of one function."""

SAME_LINES, SAME_CHARACTERS = 8, 200
"""From which length on lines that stand twice are a copy, and not how one writes such things."""

NESTING = (
    "for_statement",
    "function_definition",
    "if_statement",
    "try_statement",
    "while_statement",
    "with_statement",
)


class _Lines:
    """The lines of code of a file: (0-based number, stripped text); comments and blank ones left out."""

    def __init__(self, file: PythonFile) -> None:
        self._file = file

    @cached_property
    def code(self) -> list[tuple[int, str]]:
        stripped = ((n, line.strip()) for n, line in enumerate(self._file.lines))
        return [(n, line) for n, line in stripped if line and line[0] != "#"]

    @cached_property
    def numbers(self) -> list[int]:
        return [n for n, _ in self.code]

    def of(self, function: Node) -> list[tuple[int, str]]:
        """Those of a function's body without its docstring."""
        body = function.child_by_field_name("body")
        if body is None:
            return []
        first, last = body.start_point[0], body.end_point[0]
        start = body.named_child(0)
        if start is not None and start.type == "expression_statement":
            said = start.named_child(0)
            if said is not None and said.type == "string":
                first = start.end_point[0] + 1
        numbers = self.numbers
        return self.code[bisect_left(numbers, first) : bisect_right(numbers, last)]


def lines_of(file: PythonFile) -> _Lines:
    """The file's lines of code, found once for all rules here."""
    known = file.cache.get("lines of code")
    if not isinstance(known, _Lines):
        known = file.cache["lines of code"] = _Lines(file)
    return known


def check_long_function(file: PythonFile) -> Iterator[Hit]:
    """Functions of more lines than people oversee."""
    for function in file.functions:
        if function.end_point[0] - function.start_point[0] <= MAX_LINES:
            continue
        count, name = len(lines_of(file).of(function)), function.child_by_field_name("name")
        if count > MAX_LINES and name is not None:
            yield Hit(
                name,
                f"`{name_of(function)}` has {count} lines of code: a part of it has a name of its own",
            )


def check_deep_nesting(file: PythonFile) -> Iterator[Hit]:
    """The outermost block of a function that is one too deep."""
    nodes = sorted(
        (node for kind in NESTING for node in file.nodes.get(kind, [])), key=lambda n: n.start_byte
    )
    around: list[Node] = []
    for node in nodes:
        while around and around[-1].end_byte <= node.start_byte:
            around.pop()
        around.append(node)
        if node.type == "function_definition":
            continue
        depth = 0
        for outer in reversed(around):
            if outer.type == "function_definition":
                break
            depth += 1
        if depth == MAX_DEPTH + 1 and depth < len(around):
            yield Hit(
                node.children[0],
                f"this is block {depth} inside each other: leave early, or give the inner part a name",
            )


def check_duplicated(file: PythonFile) -> Iterator[Hit]:
    """Lines that stand twice in the functions of a file; the second place is told."""
    seen: dict[tuple[str, ...], int] = {}
    done = -1
    for function in file.functions:
        if function.end_point[0] - function.start_point[0] < SAME_LINES:
            continue
        lines = lines_of(file).of(function)
        texts = [text for _, text in lines]
        for at in range(len(lines) - SAME_LINES + 1):
            number, key = lines[at][0], tuple(texts[at : at + SAME_LINES])
            if number <= done or len("".join(key)) < SAME_CHARACTERS:
                continue
            first = seen.setdefault(key, number)
            if number - first >= SAME_LINES:
                node = statement_on(file, number, indent_of(file.lines[number]))
                done = lines[min(len(lines), at + same_from(file, lines, at, first)) - 1][0]
                if node is not None:
                    yield Hit(
                        node, f"these lines stand at line {first + 1} as well: give them a name"
                    )


def same_from(file: PythonFile, lines: Sequence[tuple[int, str]], at: int, first: int) -> int:
    """How many lines of code from `at` on are those from line `first` on."""
    code = lines_of(file)
    others = code.code[bisect_left(code.numbers, first) :]
    pairs = zip((text for _, text in lines[at:]), (text for _, text in others), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), len(lines) - at)


def indent_of(line: str) -> int:
    """Blanks before a line's first word."""
    return len(line) - len(line.lstrip())


def statement_on(file: PythonFile, line: int, column: int) -> Node | None:
    """The first word of a line."""
    column = len(file.lines[line][:column].encode("utf-8", "surrogatepass"))
    return file.root.descendant_for_point_range((line, column), (line, column))


def check_unused_private(file: PythonFile) -> Iterator[Hit]:
    """Private functions and classes of a module that nothing in it mentions again."""
    for kind in ("function_definition", "class_definition"):
        for node in file.nodes.get(kind, []):
            name = node.child_by_field_name("name")
            word = text_of(name)
            private = word.startswith("_") and not word.startswith("__")
            if not private or name is None or is_repeated(word, file.text):
                continue
            if node.parent is not None and node.parent.type == "module":
                yield Hit(
                    name,
                    f"nothing in this file uses `{word}`, and its name says that nothing else does",
                )


def is_repeated(word: str, text: str) -> bool:
    """Whether a word stands in a text more than once as a whole."""
    seen, at = 0, text.find(word)
    while at >= 0:
        end = at + len(word)
        inside = is_letter(text[at - 1 : at]) or is_letter(text[end : end + 1])
        seen += not inside
        if seen > 1:
            return True
        at = text.find(word, end)
    return False


def is_letter(character: str) -> bool:
    """Whether a character may be part of a name."""
    return character.isalnum() or character == "_"
