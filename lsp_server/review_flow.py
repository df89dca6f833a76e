"""Rules about paths: code that never runs, handlers that never catch, values known to be None."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qcoder.lsp_server.python_tree import (
    SCOPES,
    Node,
    PythonFile,
    dotted,
    enclosing,
    parents,
    text_of,
    walk,
)
from qcoder.lsp_server.review_callees import bindings_of
from qcoder.lsp_server.review_rule import Hit

ENDS = frozenset({"return_statement", "raise_statement", "break_statement", "continue_statement"})
HARMLESS = frozenset({"comment", "pass_statement"})

PARENTS = {
    "ArithmeticError": "Exception", "AssertionError": "Exception", "AttributeError": "Exception",
    "BlockingIOError": "OSError", "BrokenPipeError": "ConnectionError", "BufferError": "Exception",
    "ChildProcessError": "OSError", "ConnectionAbortedError": "ConnectionError",
    "ConnectionError": "OSError", "ConnectionRefusedError": "ConnectionError",
    "ConnectionResetError": "ConnectionError", "EOFError": "Exception",
    "EnvironmentError": "Exception", "Exception": "BaseException", "FileExistsError": "OSError",
    "FileNotFoundError": "OSError", "FloatingPointError": "ArithmeticError",
    "IOError": "Exception", "ImportError": "Exception", "IndexError": "LookupError",
    "InterruptedError": "OSError", "IsADirectoryError": "OSError", "KeyError": "LookupError",
    "KeyboardInterrupt": "BaseException", "LookupError": "Exception", "MemoryError": "Exception",
    "ModuleNotFoundError": "ImportError", "NameError": "Exception",
    "NotADirectoryError": "OSError", "NotImplementedError": "RuntimeError", "OSError": "Exception",
    "OverflowError": "ArithmeticError", "PermissionError": "OSError",
    "ProcessLookupError": "OSError", "RecursionError": "RuntimeError",
    "RuntimeError": "Exception", "StopAsyncIteration": "Exception", "StopIteration": "Exception",
    "SyntaxError": "Exception", "SystemExit": "BaseException", "TimeoutError": "OSError",
    "TypeError": "Exception", "UnicodeDecodeError": "UnicodeError",
    "UnicodeEncodeError": "UnicodeError", "UnicodeError": "ValueError", "ValueError": "Exception",
    "ZeroDivisionError": "ArithmeticError", "json.JSONDecodeError": "ValueError",
    "subprocess.CalledProcessError": "Exception", "subprocess.TimeoutExpired": "Exception",
}  # fmt: skip
"""Built-in exceptions and what they are a kind of; OSError's old names count as their own."""


def check_unreachable(file: PythonFile) -> Iterator[Hit]:
    """The first statement after one that always leaves its block."""
    for kind in ("return_statement", "raise_statement", "break_statement", "continue_statement"):
        for node in file.nodes.get(kind, []):
            if is_plainly_last(node, file.lines):
                continue
            after = node.next_named_sibling
            while after is not None and after.type in HARMLESS:
                after = after.next_named_sibling
            if after is None or node.parent is None or node.parent.type != "block":
                continue
            if is_marker(after) or "unreachable" in text_of(node).lower():
                continue
            word = kind.removesuffix("_statement")
            line = node.start_point[0] + 1
            yield Hit(after, f"this never runs: the `{word}` at line {line} leaves before it")


def is_plainly_last(statement: Node, lines: Sequence[str]) -> bool:
    """Whether the next line of code is further out: asking the tree for siblings takes longer."""
    (_, column), (row, _) = statement.start_point, statement.end_point
    if ";" in lines[row]:
        return False
    for number in range(row + 1, len(lines)):
        code = lines[number].lstrip()
        if code and code[0] != "#":
            return len(lines[number]) - len(code) < column
    return True


def is_marker(statement: Node) -> bool:
    """Whether a statement is there for its being there: a `yield` makes a generator."""
    if statement.type == "expression_statement" and statement.named_children:
        first = statement.named_children[0]
        if first.type in ("yield", "string", "ellipsis"):
            return True
    return statement.type in ENDS or any(n.type == "yield" for n in walk(statement, is_open))


def is_open(node: Node) -> bool:
    """Whether a walk stays in the same function below a node."""
    return node.type not in SCOPES


def check_shadowed_handler(file: PythonFile) -> Iterator[Hit]:
    """`except` clauses whose exceptions an earlier clause has caught already."""
    for node in file.nodes.get("try_statement", []):
        caught: dict[str, int] = {}
        for clause in node.named_children:
            if clause.type != "except_clause":
                continue
            names = caught_by(clause, file)
            hidden = [(n, line) for n in names if (line := earlier(n, caught, file)) is not None]
            if names and len(hidden) == len(names):
                name, line = hidden[0]
                yield Hit(
                    clause.named_children[0],
                    f"`{name}` is caught at line {line} already: this clause never runs; "
                    "put it first",
                )
            for name in names:
                caught.setdefault(name, clause.start_point[0] + 1)


def caught_by(clause: Node, file: PythonFile) -> list[str]:
    """Resolved names of the exceptions of a clause; none when one is not a plain name."""
    if not clause.named_children or clause.named_children[0].type in ("block", "comment"):
        return []
    what: Node | None = clause.named_children[0]
    if what is not None and what.type == "as_pattern":
        what = what.named_children[0] if what.named_children else None
    if what is None:
        return []
    items = what.named_children if what.type == "tuple" else [what]
    names = [file.resolve(item) for item in items if item.type != "comment"]
    return names if all(names) else []


def earlier(name: str, caught: dict[str, int], file: PythonFile) -> int | None:
    """Line of the clause that catches an exception before, through its known base classes."""
    current = name
    for _ in range(12):
        if current in caught:
            return caught[current]
        if current in PARENTS:
            current = PARENTS[current]
            continue
        table = [n for n in file.nodes.get("class_definition", []) if is_called(n, current)]
        listed = table[0].child_by_field_name("superclasses") if len(table) == 1 else None
        if listed is None or len(listed.named_children) != 1:
            return None
        current = file.resolve(listed.named_children[0])
    return None


def is_called(node: Node, name: str) -> bool:
    """Whether a top-level class has a name."""
    top = node.parent is not None and node.parent.type == "module"
    return top and text_of(node.child_by_field_name("name")) == name


def check_none(file: PythonFile) -> Iterator[Hit]:
    """Values that are used as an object where the code has just found them to be None."""
    if "None" not in file.text:
        return
    for node in file.nodes.get("if_statement", []):
        yield from none_in_if(node, file)
    for node in file.nodes.get("comparison_operator", []):
        if (node.text or b"").endswith(b"None"):
            yield from none_in_expression(node, file)


def none_in_if(node: Node, file: PythonFile) -> Iterator[Hit]:
    """Uses in the branch, or after the `if`, in which a name is known to be None."""
    condition, body = node.child_by_field_name("condition"), node.child_by_field_name("consequence")
    if condition is None or body is None or "None" not in text_of(condition):
        return
    for name in none_names(condition, "is"):
        yield from first_use(body.named_children, name, node, file)
    negated = [n for n, whole in nonnone_names(condition) if whole]
    others = node.children_by_field_name("alternative")
    for name in negated:
        if others:
            inside = others[0].child_by_field_name("body")
            if others[0].type == "else_clause" and inside is not None:
                yield from first_use(inside.named_children, name, node, file)
        elif leaves(body):
            yield from first_use(following(node), name, node, file)


def leaves(block: Node) -> bool:
    """Whether a block's last statement leaves it."""
    inside = [c for c in block.named_children if c.type != "comment"]
    return bool(inside) and inside[-1].type in ENDS


def following(statement: Node) -> list[Node]:
    """Statements after one in its block."""
    found, after = [], statement.next_named_sibling
    while after is not None:
        found.append(after)
        after = after.next_named_sibling
    return found


def none_names(condition: Node, operator: str) -> Iterator[str]:
    """Names that are None when a condition holds: `x is None`, also joined by `and`."""
    if condition.type == "boolean_operator":
        if any(c.type == "and" for c in condition.children):
            for child in condition.named_children:
                yield from none_names(child, operator)
    elif condition.type == "parenthesized_expression" and condition.named_children:
        yield from none_names(condition.named_children[0], operator)
    elif condition.type == "comparison_operator":
        name = compared_with_none(condition, operator)
        if name:
            yield name


def nonnone_names(condition: Node) -> Iterator[tuple[str, bool]]:
    """Names that are None when a condition fails: `x is not None` alone."""
    if condition.type == "comparison_operator":
        name = compared_with_none(condition, "is not")
        if name:
            yield name, True


def compared_with_none(node: Node, operator: str) -> str:
    """The name in `name is None` or `name is not None`; "" for any other comparison."""
    operands = node.named_children
    if len(operands) != 2 or operands[1].type != "none":
        return ""
    written = " ".join(text_of(c) for c in node.children if not c.is_named)
    return dotted(operands[0]) if " ".join(written.split()) == operator else ""


def none_in_expression(node: Node, file: PythonFile) -> Iterator[Hit]:
    """`x is None and x.a`, `x is not None or x.a`, `x.a if x is None else b`."""
    parent = node.parent
    if parent is None:
        return
    if parent.type == "boolean_operator" and parent.named_children[0] == node:
        joined_by = [c.type for c in parent.children if c.type in ("and", "or")]
        name = compared_with_none(node, "is" if joined_by == ["and"] else "is not")
        if name:
            yield from first_use(parent.named_children[1:], name, node, file)
    elif parent.type == "conditional_expression" and len(parent.named_children) == 3:
        then, condition, other = parent.named_children
        if condition != node:
            return
        for name, where in (
            (compared_with_none(node, "is"), then),
            (compared_with_none(node, "is not"), other),
        ):
            if name:
                yield from first_use([where], name, node, file)


def first_use(statements: list[Node], name: str, test: Node, file: PythonFile) -> Iterator[Hit]:
    """The first use as an object, unless the name may have got another value before it."""
    plain = "." not in name and is_local(name, test, file)

    def enters(node: Node) -> bool:
        return is_open(node) and not hides(node, name)

    for statement in statements:
        for node in walk(statement, enters):
            if node.type in SCOPES:
                continue
            found = use_before(node, name)
            if found is not None and is_conditional(found, statement):
                return
            if found is not None:
                line = test.start_point[0] + 1
                yield Hit(
                    found,
                    f"`{name}` is None here, as line {line} has found: this raises an exception",
                )
                return
            if changes(node, name) or (not plain and node.type in ("call", "await", "yield")):
                return
            if node.type == "except_clause" or (node.type == "if_statement" and asks(node, name)):
                return


def is_conditional(node: Node, statement: Node) -> bool:
    """Whether a node of a statement is evaluated only when something else allows it."""
    child = node
    for parent in parents(node):
        if child == statement:
            return False
        if parent.type == "boolean_operator" and parent.child_by_field_name("left") != child:
            return True
        if parent.type == "conditional_expression":
            return True
        child = parent
    return False


def hides(node: Node, name: str) -> bool:
    """Whether a node is a comprehension with a variable of that name."""
    return node.type.endswith(("comprehension", "generator_expression")) and any(
        text_of(n) == name
        for clause in node.named_children
        if clause.type == "for_in_clause"
        for n in walk(clause.child_by_field_name("left") or clause)
    )


def use_before(node: Node, name: str) -> Node | None:
    """A use at a node, or in what it evaluates before it does anything itself."""
    if uses(node, name):
        return node
    field = {"assignment": "right", "augmented_assignment": "right", "call": "function"}
    first = node.child_by_field_name(field.get(node.type, "")) if node.type in field else None
    # A lambda or a condition in between may never get there.
    if first is None or first.type in ("lambda", "conditional_expression", "boolean_operator"):
        return None
    plain = walk(first, lambda n: n.type in ("call", "attribute", "subscript"))
    return next((n for n in plain if uses(n, name)), None)


def asks(node: Node, name: str) -> bool:
    """Whether a nested `if` looks at the name again."""
    return name in text_of(node.child_by_field_name("condition"))


def is_local(name: str, place: Node, file: PythonFile) -> bool:
    """Whether a name belongs to the function: no call can change it then."""
    function = enclosing(place, frozenset({"function_definition"}))
    if function is None:
        return False
    bound = bindings_of(function, file).get(name, [])
    outside = ("global_statement", "nonlocal_statement")
    return bool(bound) and not any(
        n.parent is not None and (n.parent.type in outside or enclosing(n, SCOPES) != function)
        for n in bound
    )


def changes(node: Node, name: str) -> bool:
    """Whether a node gives a name, or the beginning of a dotted one, a value."""
    if node.type in ("assignment", "augmented_assignment", "for_statement", "for_in_clause"):
        left = node.child_by_field_name("left")
        return left is not None and any(is_prefix(dotted(n), name) for n in walk(left))
    if node.type == "named_expression":
        return text_of(node.child_by_field_name("name")) == name
    if node.type in ("as_pattern_target", "delete_statement"):
        return any(is_prefix(dotted(n), name) for n in walk(node))
    if node.type in ("import_statement", "import_from_statement"):
        return name in text_of(node)
    return node.type in ("case_clause", "global_statement", "assert_statement")


def is_prefix(changed: str, name: str) -> bool:
    """Whether `changed` is the name or an object on the way to it."""
    return bool(changed) and (name == changed or name.startswith(changed + "."))


def uses(node: Node, name: str) -> bool:
    """Whether a node reads an attribute or an item of the name, or calls it."""
    if node.type == "attribute":
        wanted = text_of(node.child_by_field_name("attribute"))
        return dotted(node.child_by_field_name("object")) == name and not wanted.startswith("__")
    if node.type == "subscript":
        return dotted(node.child_by_field_name("value")) == name
    if node.type == "call":
        return dotted(node.child_by_field_name("function")) == name
    return False
