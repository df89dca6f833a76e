"""Rules about calls and the signature of what they call: swapped, missing and unknown arguments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcoder.lsp_server.python_tree import (
    Node,
    PythonFile,
    decorators,
    enclosing,
    name_of,
    parents,
    text_of,
)
from qcoder.lsp_server.review_callees import Symbol, callees, given, method
from qcoder.lsp_server.review_modules import known_names
from qcoder.lsp_server.review_rule import Hit, Replacement

KEEPING = frozenset(
    {"staticmethod", "classmethod", "abstractmethod", "abc.abstractmethod", "override"}
    | {"typing.override", "contextmanager", "contextlib.contextmanager", "asynccontextmanager"}
    | {"contextlib.asynccontextmanager", "lru_cache", "functools.lru_cache", "functools.cache"}
    | {"cache"}
)
"""Decorators after which the written signature still holds."""

LITERALS = {
    "string": "str", "integer": "int", "float": "float", "list": "list", "dictionary": "dict",
    "set": "set", "tuple": "tuple",
}  # fmt: skip
PLAIN_TYPES = frozenset({"str", "int", "float", "bool", "bytes", "list", "dict", "set", "tuple"})
PARAMETERS = frozenset(
    {"identifier", "default_parameter", "typed_parameter", "typed_default_parameter"}
)
MIN_NAME = 2
"""Names of one letter say nothing about what they hold."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters as a caller sees them: `self` of a bound method is left out."""

    name: str
    positional: tuple[str, ...]
    positional_only: int
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    types: dict[str, str]
    takes_any_positional: bool
    takes_any_keyword: bool


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call gives: positional nodes and keywords; None where `*` or `**` hides some."""

    positional: tuple[Node, ...]
    keywords: dict[str, Node]


def check_call(file: PythonFile) -> Iterator[Hit]:
    """Calls that their callee, whose definition is at hand, will refuse."""
    for call, signatures in resolved_calls(file):
        arguments = arguments_of(call)
        if arguments is None:
            continue
        wrongs = [misfit(arguments, signature) for signature in signatures]
        if wrongs and all(wrongs) and not is_second_try(call):
            yield Hit(call, wrongs[0])


def check_swapped(file: PythonFile) -> Iterator[Hit]:
    """Two arguments that bear the names of each other's parameters."""
    for call, signatures in resolved_calls(file):
        arguments = arguments_of(call)
        if arguments is None or len(signatures) != 1 or is_symmetric(call, signatures[0]):
            continue
        pair = swapped_pair(arguments, signatures[0])
        if pair is None or is_called_again(call, signatures[0], file):
            continue
        if not is_turned_on_purpose(call, pair):
            first, second = pair
            yield Hit(
                call,
                f"`{text_of(first)}` and `{text_of(second)}` are in each other's place: "
                f"`{signatures[0].name}` takes ({', '.join(signatures[0].positional)})",
                Replacement(call, call, exchanged(call, first, second)),
            )


def resolved_calls(file: PythonFile) -> list[tuple[Node, list[Signature]]]:
    """Calls of the file whose callee's signature is known, computed once for both rules."""
    known = file.cache.get("resolved calls")
    if isinstance(known, list):
        return known
    found = []
    for call in file.calls_of(known_names(file)):
        signatures = [signature_of(symbol) for symbol in callees(call, file)]
        if signatures and all(signatures):
            found.append((call, [s for s in signatures if s is not None]))
    file.cache["resolved calls"] = found
    return found


def signature_of(symbol: Symbol) -> Signature | None:
    """The signature that callers see; None where decorators, bases or metaclasses decide."""
    node, bound = symbol.node, symbol.bound
    if node.type == "class_definition":
        if decorators(node) or node.child_by_field_name("superclasses") is not None:
            return None
        name, made = name_of(node), method(Symbol(node, symbol.file), "__init__")
        if len(made) != 1 or method(Symbol(node, symbol.file), "__new__"):
            return None
        node, bound = made[0].node, True
    else:
        name = name_of(node)
    key = ("signature", node.id, bound)
    known = symbol.file.cache.get(key)
    if isinstance(known, Signature):
        return known
    marks = decorators(node)
    if any(mark not in KEEPING for mark in marks) or is_stub(node):
        return None
    signature = read_signature(node, name, bound and "staticmethod" not in marks)
    symbol.file.cache[key] = signature
    return signature


def is_stub(function: Node) -> bool:
    """Whether a method only says that others implement it: they may take something else."""
    body = function.child_by_field_name("body")
    inside = [c for c in body.named_children if c.type != "comment"] if body is not None else []
    last = text_of(inside[-1]) if inside else ""
    taken = function.child_by_field_name("parameters")
    bare = last == "pass" and taken is not None and not taken.named_children
    return len(inside) <= 2 and (bare or "NotImplementedError" in last)


def read_signature(function: Node, name: str, bound: bool) -> Signature:
    """A `def`'s parameters; the first is left out when it is filled already."""
    positional: list[str] = []
    keyword_only: list[str] = []
    required: set[str] = set()
    types: dict[str, str] = {}
    only = 0
    any_positional = any_keyword = after_star = False
    parameters = function.child_by_field_name("parameters")
    for node in parameters.named_children if parameters is not None else ():
        inner = node.named_children[0] if node.type == "typed_parameter" else node
        if node.type == "positional_separator":
            only = len(positional)
        elif node.type == "keyword_separator":
            after_star = True
        elif inner.type == "list_splat_pattern":
            any_positional = after_star = True
        elif inner.type == "dictionary_splat_pattern":
            any_keyword = True
        elif node.type in PARAMETERS:
            own = node.child_by_field_name("name") or inner
            word = text_of(own)
            (keyword_only if after_star else positional).append(word)
            if node.child_by_field_name("value") is None:
                required.add(word)
            types[word] = text_of(node.child_by_field_name("type"))
    if bound and positional:
        required.discard(positional.pop(0))
        only = max(0, only - 1)
    return Signature(
        name,
        tuple(positional),
        only,
        tuple(keyword_only),
        frozenset(required),
        types,
        any_positional,
        any_keyword,
    )


def arguments_of(call: Node) -> Arguments | None:
    """Arguments of a call; None when a splat hides some."""
    positional: list[Node] = []
    keywords: dict[str, Node] = {}
    for node in given(call):
        if node.type in ("list_splat", "dictionary_splat", "parenthesized_list_splat"):
            return None
        if node.type == "keyword_argument":
            value = node.child_by_field_name("value")
            if value is not None:
                keywords[text_of(node.child_by_field_name("name"))] = value
        else:
            positional.append(node)
    return Arguments(tuple(positional), keywords)


def is_second_try(call: Node) -> bool:
    """Whether a call stands where a TypeError is handled: it is meant for another signature."""
    return any(
        parent.type == "except_clause" and "TypeError" in text_of(parent.named_children[0])
        for parent in parents(call)
    )


def misfit(arguments: Arguments, signature: Signature) -> str:
    """Why a call cannot work; "" when it can."""
    name, known = signature.name, signature.positional
    count = len(arguments.positional)
    if count > len(known) and not signature.takes_any_positional:
        return f"`{name}` takes {len(known)} positional arguments and gets {count}"
    filled = set(known[:count])
    by_name = {*known[signature.positional_only :], *signature.keyword_only}
    for word in arguments.keywords:
        if word not in by_name and not signature.takes_any_keyword:
            return f"`{name}` has no parameter `{word}`"
        if word in filled and word in by_name:
            return f"`{name}` gets its parameter `{word}` twice"
    missing = signature.required - filled - set(arguments.keywords)
    if missing:
        first = next(w for w in (*known, *signature.keyword_only) if w in missing)
        return f"`{name}` needs an argument for its parameter `{first}`"
    return mistyped(arguments, signature)


def mistyped(arguments: Arguments, signature: Signature) -> str:
    """A literal that cannot be what the parameter's plain annotation says; "" when all fit."""
    pairs = [*zip(signature.positional, arguments.positional, strict=False)]
    pairs += arguments.keywords.items()
    for word, value in pairs:
        wanted, got = signature.types.get(word, ""), LITERALS.get(value.type, "")
        if (
            value.type == "string"
            and "b" in text_of(value).partition(text_of(value)[-1])[0].lower()
        ):
            got = "bytes"
        if wanted not in PLAIN_TYPES or not got or got == wanted:
            continue
        if (got, wanted) in (("int", "float"), ("int", "bool")):
            continue
        return f"`{signature.name}` wants `{word}: {wanted}` and gets {text_of(value)[:40]}"
    return ""


def swapped_pair(arguments: Arguments, signature: Signature) -> tuple[Node, Node] | None:
    """Two arguments whose names are those of each other's parameters."""
    slots = zip(signature.positional, arguments.positional, strict=False)
    named = [(word.strip("_"), last_name(node), node) for word, node in slots]
    pairs = [
        (node, other)
        for i, (word, name, node) in enumerate(named)
        for other_word, other_name, other in named[i + 1 :]
        if name == other_word != word == other_name and min(len(name), len(word)) >= MIN_NAME
    ]
    # Who turns two pairs round, or writes the names down, means it.
    return pairs[0] if len(pairs) == 1 else None


def last_name(node: Node) -> str:
    """The word an argument is called by: `width` of `width` and of `self._width`."""
    if node.type == "attribute":
        node = node.child_by_field_name("attribute") or node
    return text_of(node).strip("_") if node.type == "identifier" else ""


def is_symmetric(call: Node, signature: Signature) -> bool:
    """Whether a function calls itself, or its namesake, with turned arguments: that is a method."""
    return any(
        parent.type == "function_definition" and name_of(parent) == signature.name
        for parent in parents(call)
    )


def is_called_again(call: Node, signature: Signature, file: PythonFile) -> bool:
    """Whether the same function calls it once more: then both directions are wanted."""
    around = enclosing(call, frozenset({"function_definition"}))
    return any(
        other != call and s == signature and enclosing(other, frozenset({around.type})) == around
        for other, signatures in resolved_calls(file)
        for s in signatures
        if around is not None
    )


def is_turned_on_purpose(call: Node, pair: tuple[Node, Node]) -> bool:
    """Whether a condition, or the name of the function around, says that the order is turned."""
    names = [text_of(node) for node in pair]
    for parent in parents(call):
        if parent.type == "function_definition":
            around = name_of(parent).lower()
            return any(
                w in around for w in ("swap", "revers", "invert", "flip", "transpos", "test")
            )
        if parent.type in ("if_statement", "conditional_expression", "elif_clause"):
            condition = parent.child_by_field_name("condition") or parent
            if all(name in text_of(condition) for name in names):
                return True
    return False


def exchanged(call: Node, first: Node, second: Node) -> str:
    """Text of a call with two arguments in each other's place."""
    data, start = call.text or b"", call.start_byte
    a, b = (slice(n.start_byte - start, n.end_byte - start) for n in (first, second))
    parts = (data[: a.start], data[b], data[a.stop : b.start], data[a], data[b.stop :])
    return b"".join(parts).decode("utf-8", "replace")
