"""What a function of a braces language takes, gives and throws, from its syntax tree.

One table row a language says how its nodes are called; what differs more has a function of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from qcoder.lsp_server.docstring_shape import Parameter, Raised, Shape, flat, short
from qcoder.lsp_server.docstring_throws import condition_of, named, own, returned, thrown
from qcoder.lsp_server.python_tree import Node, parents, text_of, walk

NOTHING = frozenset({"void", "never", "undefined", "()", "!", "Promise<void>", "Task", "ValueTask"})
PANICS = frozenset(
    {"panic", "unreachable", "todo", "unimplemented", "assert", "assert_eq", "assert_ne"}
)


def detailed(shape: Shape, node: Node, language: str) -> Shape:
    """The shape with what the function node (the one that has parameters) says."""
    read = READERS.get(language)
    if read is None:
        return shape
    body = node.child_by_field_name("body")
    statements = [child.type for child in named(body)] if body is not None else []
    # `throw new Error("not implemented")` stands for a body that a subclass has.
    return read(
        replace(shape, stub=shape.stub or statements == ["throw_statement"]), node, language
    )


def typed(shape: Shape, node: Node, language: str) -> Shape:
    """JavaScript and TypeScript."""
    given = node.child_by_field_name("parameters") or node.child_by_field_name("parameter")
    returns = flat(text_of(node.child_by_field_name("return_type"))).lstrip(": ")
    generator = "generator" in node.type or any(c.type == "*" for c in node.children)
    constructor = shape.name == "constructor"
    shape = replace(
        shape,
        parameters=tuple(script_parameters(given)) if given is not None else (),
        returns=returns,
        yields=generator,
        gives_value=not generator and not constructor and gives_value(node, returns),
        returned=tuple(returned(node)),
        raises=tuple(thrown(node)),
    )
    if language.startswith("javascript") and not returns:
        return replace(shape, returns=script_result(shape, node))
    return shape


def script_parameters(node: Node) -> Iterator[Parameter]:
    """Parameters in order; one that is taken apart is called `options` (objects) or `items`."""
    taken: dict[str, int] = {}
    for child in [node] if node.type == "identifier" else named(node):
        target = child.child_by_field_name("pattern") or child.child_by_field_name("left") or child
        value = child.child_by_field_name("value") or child.child_by_field_name("right")
        name = re.sub(r"^[.\s]+", "", text_of(target))
        if name == "this":
            continue
        apart = {"object_pattern": "options", "array_pattern": "items"}.get(target.type)
        if apart is not None:
            count = taken[apart] = taken.get(apart, 0) + 1
            name = apart if count == 1 else f"{apart}{count}"
        elif not re.fullmatch(r"[\w$]+", name):
            continue
        kind = flat(text_of(child.child_by_field_name("type"))).lstrip(": ")
        yield Parameter(
            name=name,
            type=kind or ("object" if apart == "options" else literal_type(value)),
            default=short(text_of(value)) if apart is None else "",
            stars="..." if target.type == "rest_pattern" else "",
            unnamed=apart is not None,
        )


def literal_type(value: Node | None) -> str:
    """JSDoc's name for the type of a default value; "" when it does not show."""
    kinds = {
        "true": "boolean", "false": "boolean", "number": "number", "string": "string",
        "template_string": "string", "array": "Array", "object": "object",
        "arrow_function": "Function", "function_expression": "Function", "regex": "RegExp",
    }  # fmt: skip
    return kinds.get(value.type, "") if value is not None else ""


def script_result(shape: Shape, node: Node) -> str:
    """JSDoc's type of a result, where return statements show it."""
    found = {
        "boolean"
        if value in ("true", "false")
        else value.removesuffix("()")
        if "()" in value
        else "*"
        for value in shape.returned
    }
    if shape.yields:
        return "*"
    kind = found.pop() if len(found) == 1 else "*"
    return f"Promise<{kind}>" if any(c.type == "async" for c in node.children) else kind


def java(shape: Shape, node: Node, language: str) -> Shape:
    """Java: parameters, bounds of type parameters, declared and thrown exceptions."""
    declared = [
        Raised(text_of(name))
        for child in node.named_children
        if child.type == "throws"
        for name in child.named_children
    ]
    known = {r.name for r in declared}
    returns = flat(text_of(node.child_by_field_name("type")))
    return replace(
        shape,
        parameters=tuple(simple_parameters(node.child_by_field_name("parameters"))),
        type_parameters=tuple(type_parameters(node)),
        returns=returns,
        gives_value=bool(returns) and returns not in NOTHING,
        returned=tuple(returned(node)),
        raises=(*declared, *(r for r in thrown(node) if r.name not in known)),
    )


def simple_parameters(node: Node | None) -> Iterator[Parameter]:
    """Parameters of Java, PHP and C#, whose nodes have names."""
    for child in named(node) if node is not None else ():
        if child.type == "receiver_parameter":
            continue
        variable = next((c for c in child.named_children if c.type == "variable_declarator"), None)
        target = child.child_by_field_name("name")
        if target is None and variable is not None:
            target = variable.child_by_field_name("name")
        name = text_of(target).lstrip("$")
        if name.isidentifier():
            variadic = child.type in ("spread_parameter", "variadic_parameter")
            yield Parameter(
                name=name,
                type=flat(text_of(child.child_by_field_name("type"))),
                default=short(text_of(child.child_by_field_name("default_value"))),
                stars="..." if variadic else "",
            )


def type_parameters(node: Node) -> Iterator[Parameter]:
    """Type parameters with their bounds."""
    listed = node.child_by_field_name("type_parameters")
    for child in named(listed) if listed is not None else ():
        name, _, bound = flat(text_of(child)).partition(" extends ")
        if name.isidentifier():
            yield Parameter(name, bound)


def php(shape: Shape, node: Node, language: str) -> Shape:
    """PHP."""
    returns = flat(text_of(node.child_by_field_name("return_type")))
    return replace(
        shape,
        parameters=tuple(simple_parameters(node.child_by_field_name("parameters"))),
        returns=returns,
        gives_value=shape.name != "__construct" and gives_value(node, returns),
        returned=tuple(returned(node)),
        raises=tuple(thrown(node)),
    )


def csharp(shape: Shape, node: Node, language: str) -> Shape:
    """C#."""
    returns = flat(text_of(node.child_by_field_name("returns")))
    return replace(
        shape,
        parameters=tuple(simple_parameters(node.child_by_field_name("parameters"))),
        type_parameters=tuple(type_parameters(node)),
        returns=returns,
        gives_value=bool(returns) and returns not in NOTHING,
        returned=tuple(returned(node)),
        raises=tuple(thrown(node)),
    )


def rust(shape: Shape, node: Node, language: str) -> Shape:
    """Rust: errors and panics instead of exceptions."""
    returns = flat(text_of(node.child_by_field_name("return_type")))
    listed = node.child_by_field_name("parameters")
    parameters = []
    for child in named(listed) if listed is not None else ():
        name = text_of(child.child_by_field_name("pattern"))
        if child.type == "parameter" and name.strip("_").isidentifier():
            parameters.append(Parameter(name, flat(text_of(child.child_by_field_name("type")))))
    last = named(node.child_by_field_name("body") or node)[-1:]
    fallible = re.match(r"(?:[\w:]*::)?Result\b", returns) is not None
    return replace(
        shape,
        parameters=tuple(parameters),
        returns=returns,
        gives_value=bool(returns) and returns not in NOTHING,
        returned=tuple(text_of(n) for n in last if n.type == "self"),
        raises=tuple(errors_of(node)) if fallible else (),
        fallible=fallible,
        panics=any(True for _ in panics(node)),
        unsafe=any("unsafe" in text_of(c) for c in node.children if c.type == "function_modifiers"),
    )


def errors_of(node: Node) -> Iterator[Raised]:
    """Errors that a body makes itself, and `?` when it hands on those of what it calls."""
    seen: set[str] = set()
    for inner in own(node):
        name, condition = "", ""
        if inner.type == "try_expression":
            name = "?"
        elif (
            inner.type == "call_expression"
            and text_of(inner.child_by_field_name("function")) == "Err"
        ):
            given = inner.child_by_field_name("arguments")
            made = re.match(r"\(\s*([A-Z]\w*(?:::[A-Z]\w*)+)", text_of(given))
            name, condition = (made.group(1) if made else ""), condition_of(inner)
        if name and name not in seen:
            seen.add(name)
            yield Raised(name, condition, again=name == "?")


def panics(node: Node) -> Iterator[Node]:
    """What may panic in a Rust body: macros that do, `unwrap` and `expect`."""
    for inner in own(node):
        if inner.type == "macro_invocation":
            if text_of(inner.child_by_field_name("macro")) in PANICS:
                yield inner
        elif text_of(inner.child_by_field_name("field")) in ("unwrap", "expect"):
            yield inner


def go(shape: Shape, node: Node, language: str) -> Shape:
    """Go, whose comments are prose: only whether an error comes back."""
    return replace(shape, returns=flat(text_of(node.child_by_field_name("result"))))


def c_family(shape: Shape, node: Node, language: str) -> Shape:
    """C and C++; `node` is the declarator with the parameters."""
    whole = next((p for p in parents(node) if p.type in WHOLE), node)
    kind = whole.child_by_field_name("type")
    if kind is not None and kind.type == "macro_type_specifier":
        # `API(type) name(...)`: what the macro is given.
        kind = kind.child_by_field_name("type") or kind
    returns = flat(text_of(kind))
    pointer = any(p.type == "pointer_declarator" for p in up_to(node, whole))
    template = whole.parent if whole.parent is not None else None
    made = tuple(c_type_parameters(template)) if template is not None else ()
    return replace(
        shape,
        parameters=tuple(c_parameters(node.child_by_field_name("parameters"))),
        type_parameters=made,
        returns=returns,
        gives_value=bool(returns) and (returns not in NOTHING or pointer),
        returned=tuple(returned(whole)),
        raises=tuple(thrown(whole)),
    )


WHOLE = frozenset(
    {"function_definition", "declaration", "field_declaration", "template_declaration"}
)


def up_to(node: Node, end: Node) -> Iterator[Node]:
    """Enclosing nodes below `end`."""
    for parent in parents(node):
        if parent == end:
            return
        yield parent


def c_parameters(node: Node | None) -> Iterator[Parameter]:
    """Named parameters, their name dug out of the declarator."""
    for child in named(node) if node is not None else ():
        declarator = child.child_by_field_name("declarator")
        name = next(
            (text_of(n) for n in walk(declarator) if n.type == "identifier"), ""
        ) if declarator is not None else ""  # fmt: skip
        if name:
            yield Parameter(
                name=name,
                type=flat(text_of(child.child_by_field_name("type"))),
                default=short(text_of(child.child_by_field_name("default_value"))),
            )


def c_type_parameters(node: Node) -> Iterator[Parameter]:
    """Parameters of a template."""
    if node.type != "template_declaration":
        return
    for child in named(node.child_by_field_name("parameters") or node):
        names = [n for n in walk(child) if n.type in ("type_identifier", "identifier")]
        if "parameter" in child.type and names:
            yield Parameter(text_of(names[-1]))


def gives_value(function: Node, returns: str) -> bool:
    """Whether a function gives something back: its annotation, or `return` with a value."""
    if returns:
        return returns not in NOTHING
    body = function.child_by_field_name("body")
    if body is not None and function.type == "arrow_function" and body.type != "statement_block":
        return True
    return any(n.type == "return_statement" and named(n) for n in own(function))


READERS: dict[str, Callable[[Shape, Node, str], Shape]] = {
    "javascript": typed,
    "javascriptreact": typed,
    "typescript": typed,
    "typescriptreact": typed,
    "java": java,
    "php": php,
    "csharp": csharp,
    "rust": rust,
    "go": go,
    "c": c_family,
    "cpp": c_family,
}
"""Language -> how its function nodes are read."""
