"""Where a docstring and its code have drifted apart. Silence is the normal answer.

Only what the two texts themselves prove is reported. A summary alone promises nothing; an exception
that a callee may raise, a key of `**kwargs` or a parameter of an inherited constructor is no drift.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from qcoder.lsp_server.docstring_raises import covers, is_builtin
from qcoder.lsp_server.docstring_reading import Entry, Written, read
from qcoder.lsp_server.docstring_shape import Parameter, Shape
from qcoder.lsp_server.docstring_signatures import READERS

SIMPLE_TYPES = frozenset({"int", "str", "float", "bool", "bytes", "list", "dict", "set", "tuple"})
NUMBERS = frozenset({"int", "float"})
DEFAULT = re.compile(
    r"\b(?:defaults? to|default is|default:|default=)\s*[`'\"]*(-?[\w.]+|'[^']*'|\"[^\"]*\")[`'\"]*",
    re.IGNORECASE,
)
NOTHING = re.compile(
    r"\W*(?:none|nothing|void|no\b|n/a|undefined|never|asserts |does not return)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Drift:
    """One disagreement. `row` counts from the docstring's first line, -1 for all of it.

    `entry` is the documented side, `parameter` the code's, where there is one.
    """

    rule: str
    message: str
    row: int
    entry: Entry | None = None
    parameter: Parameter | None = None


def drift_of(shape: Shape, language: str) -> list[Drift]:
    """What a definition's docstring says wrong, in the order of its rows."""
    if shape.existing is None or shape.kind == "module":
        return []
    written = read(shape.existing.text, language)
    found = [Drift("broken-style", what, row) for row, what in written.broken]
    found += parameter_drift(shape, written)
    if shape.kind != "class":
        found += result_drift(shape, written, language)
        found += raises_drift(shape, written, language)
    return sorted(found, key=lambda d: d.row)


def parameter_drift(shape: Shape, written: Written) -> Iterator[Drift]:
    """Parameters that are missing, unknown, renamed, or have another default or type."""
    documented = [e for e in written.of("parameter") if plain_name(e.name)]
    if not documented or shape.kind == "property":
        return
    known = {p.name: p for p in (*shape.parameters, *shape.attributes)}
    expected = [p for p in shape.parameters if not (p.stars or p.unnamed or p.name[0] == "_")]
    missing = [p for p in expected if not is_documented(p, written)]
    unknown = [e for e in documented if e.name not in known and e.name not in SIMPLE_TYPES]
    if any(p.stars or p.unnamed for p in shape.parameters) or not names_are_complete(shape):
        unknown = []
    renamed = renames(shape, documented, missing, unknown)
    missing = missing if is_full_list(shape, written) else []
    for entry, parameter in renamed:
        text = f"`{entry.name}` is called `{parameter.name}` in the code"
        yield Drift("renamed-parameter", text, entry.row, entry, parameter)
    for entry in unknown:
        if all(entry is not old for old, _ in renamed):
            text = f"`{entry.name}` is documented, but is no parameter"
            yield Drift("unknown-parameter", text, entry.row, entry)
    for parameter in missing:
        if all(parameter is not new for _, new in renamed):
            text = f"parameter `{parameter.name}` is not documented"
            yield Drift("missing-parameter", text, documented[0].row, None, parameter)
    shared = [e.row for e in documented]
    for entry in documented:
        if entry.name in known and shared.count(entry.row) == 1:
            yield from entry_drift(entry, known[entry.name])


def is_full_list(shape: Shape, written: Written) -> bool:
    """Whether a list of parameters means to be complete: half of them are there, no prose between.

    A derived class may leave those of its base to the base.
    """
    if "parameter" in written.loose or (shape.kind == "class" and shape.bases):
        return False
    named = [p for p in shape.parameters if not p.stars]
    return 2 * sum(is_documented(p, written) for p in named) >= len(named)


def plain_name(name: str) -> bool:
    """Whether an entry names a parameter, not a property of one or a type parameter."""
    return re.fullmatch(r"[\w$]+", name) is not None


def is_documented(parameter: Parameter, written: Written) -> bool:
    """Whether any entry is for a parameter; a class may list it among its attributes."""
    return any(e.name == parameter.name for e in written.of("parameter") + written.of("attribute"))


def names_are_complete(shape: Shape) -> bool:
    """Whether the code shows all names; not behind a decorator, nor without an own constructor."""
    return not shape.decorated and (shape.kind != "class" or bool(shape.parameters))


def renames(
    shape: Shape, documented: list[Entry], missing: list[Parameter], unknown: list[Entry]
) -> list[tuple[Entry, Parameter]]:
    """Entries and parameters that stand at the same place among those that agree."""
    found = []
    order = [p.name for p in shape.parameters]
    names = [e.name for e in documented]
    for entry in unknown:
        at = names.index(entry.name)
        before = names[at - 1] if at else None
        after = names[at + 1] if at + 1 < len(names) else None
        for parameter in missing:
            place = order.index(parameter.name)
            fits_before = (order[place - 1] if place else None) == before
            fits_after = (order[place + 1] if place + 1 < len(order) else None) == after
            if fits_before and fits_after:
                found.append((entry, parameter))
    return found


def entry_drift(entry: Entry, parameter: Parameter) -> Iterator[Drift]:
    """A default or a plain type that is another in the code."""
    said = DEFAULT.search(entry.text)
    if said and parameter.default:
        claimed, real = literal(said.group(1).rstrip(".")), literal(parameter.default)
        same_kind = claimed is not None and real is not None and type(claimed[0]) is type(real[0])
        if same_kind and claimed != real:
            text = f"the default of `{entry.name}` is {parameter.default}, not {said.group(1)}"
            yield Drift("other-default", text, entry.row, entry, parameter)
    claimed_type, real_type = entry.type.split(",")[0].strip(), parameter.type
    both = {claimed_type, real_type}
    if len(both) == 2 and both <= SIMPLE_TYPES and not both <= NUMBERS:
        text = f"`{entry.name}` is of type {real_type}, not {claimed_type}"
        yield Drift("other-type", text, entry.row, entry, parameter)


def literal(text: str) -> tuple[object] | None:
    """The value of a plain literal, in a tuple; None for anything else."""
    try:
        value = ast.literal_eval(text.strip("`"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(value, str):
        # How a line break is written in a docstring is anybody's guess.
        return None if "\\" in text else (value.strip(),)
    return (value,) if isinstance(value, (bool, int, float)) else None


def result_drift(shape: Shape, written: Written, language: str) -> Iterator[Drift]:
    """A documented result of a function that gives nothing."""
    gives = shape.gives_value or shape.yields or shape.generates
    if shape.stub or gives or shape.kind == "property":
        return
    if language != "python" and language not in READERS:
        return
    for entry in (*written.of("returns"), *written.of("yields")):
        if NOTHING.match(entry.type) or NOTHING.match(entry.text.lstrip("{} ")):
            continue
        verb = "yielded" if entry.kind == "yields" else "returned"
        yield Drift(
            "nothing-returned", f"documents what is {verb}, but nothing is", entry.row, entry
        )


def raises_drift(shape: Shape, written: Written, language: str) -> Iterator[Drift]:
    """Exceptions that are never raised, where the code shows all, and some that a list leaves out."""
    documented = [e for e in written.of("raises") if e.name]
    if not documented or language != "python":
        return
    if shape.all_raises and not shape.stub:
        for entry in documented:
            implicit = shape.implicit_raises and is_builtin(entry.name.split(".")[-1])
            real = any(covers(entry.name, n) or covers(n, entry.name) for n in shape.reached)
            if not real and not implicit:
                yield Drift("never-raised", f"`{entry.name}` is never raised", entry.row, entry)
    if "raises" in written.loose:
        return
    for raised in shape.raises:
        if not any(covers(e.name, raised.name) for e in documented) and not raised.again:
            if raised.name.split(".")[-1] in ("NotImplementedError", "AssertionError"):
                continue
            text = f"`{raised.name}` is raised, but not in the list"
            yield Drift("missing-raises", text, documented[-1].row, None, Parameter(raised.name))
