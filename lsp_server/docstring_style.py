"""How a docstring is written down: google, numpy, sphinx, and comment blocks of other languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qcoder.lsp_server.docstring_shape import Parameter, Shape

PYTHON_STYLES = ("google", "numpy", "sphinx")

_MARKS = {
    "google": re.compile(r"^\s*(Args|Arguments|Returns|Raises|Yields):\s*$", re.MULTILINE),
    "numpy": re.compile(r"^\s*(Parameters|Returns|Raises|Yields)\n\s*-{3,}\s*$", re.MULTILINE),
    "sphinx": re.compile(r"^\s*:(param|returns?|raises?|rtype)\b.*:", re.MULTILINE),
}


@dataclass(frozen=True, slots=True)
class Prose:
    """The sentences of a docstring; parameters and exceptions by name."""

    summary: str
    parameters: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: dict[str, str] = field(default_factory=dict)


def detect_style(docstrings: Sequence[str]) -> str:
    """The Python style that most docstrings of a file use; google when none says."""
    votes = {name: sum(bool(mark.search(d)) for d in docstrings) for name, mark in _MARKS.items()}
    best = max(votes, key=lambda name: votes[name])
    return best if votes[best] else "google"


def google(shape: Shape, prose: Prose) -> list[str]:
    """Sections with indented entries."""
    lines = [prose.summary]
    if shape.parameters:
        lines += ["", "Args:"]
        for p in shape.parameters:
            kind = f" ({p.type})" if p.type else ""
            lines.append(f"    {p.stars}{p.name}{kind}: {described(p, prose)}".rstrip())
    if shape.gives_value or shape.yields:
        lines += ["", "Yields:" if shape.yields else "Returns:"]
        lines.append("    " + ": ".join(x for x in (shape.returns, prose.returns) if x))
    if shape.raises:
        lines += ["", "Raises:"]
        lines += [f"    {r.name}: {prose.raises[r.name]}" for r in shape.raises]
    return lines


def numpy(shape: Shape, prose: Prose) -> list[str]:
    """Underlined sections."""
    lines = [prose.summary]
    if shape.parameters:
        lines += ["", "Parameters", "----------"]
        for p in shape.parameters:
            kind = f" : {p.type}" if p.type else ""
            lines.append(f"{p.stars}{p.name}{kind}")
            lines += [f"    {text}" for text in [described(p, prose)] if text]
    if shape.gives_value or shape.yields:
        title = "Yields" if shape.yields else "Returns"
        lines += ["", title, "-" * len(title)]
        lines += [shape.returns] if shape.returns else []
        lines += [f"    {prose.returns}" if shape.returns else prose.returns]
    if shape.raises:
        lines += ["", "Raises", "------"]
        for r in shape.raises:
            lines += [r.name, f"    {prose.raises[r.name]}"]
    return lines


def sphinx(shape: Shape, prose: Prose) -> list[str]:
    """Field lists."""
    fields = []
    for p in shape.parameters:
        stars = p.stars.replace("*", r"\*")
        fields.append(f":param {stars}{p.name}: {described(p, prose)}".rstrip())
        if p.type:
            fields.append(f":type {stars}{p.name}: {p.type}")
    if shape.gives_value or shape.yields:
        fields.append(f":{'yields' if shape.yields else 'returns'}: {prose.returns}".rstrip())
        if shape.returns and not shape.yields:
            fields.append(f":rtype: {shape.returns}")
    fields += [f":raises {r.name}: {prose.raises[r.name]}" for r in shape.raises]
    return [prose.summary, *(["", *fields] if fields else [])]


def described(parameter: Parameter, prose: Prose) -> str:
    """Description of a parameter with its default."""
    parts = [prose.parameters.get(parameter.name, "")]
    if parameter.default and parameter.default != "None":
        parts.append(f"Defaults to {parameter.default}.")
    return " ".join(part for part in parts if part)


def jsdoc(shape: Shape, prose: Prose) -> list[str]:
    """Tags of JSDoc; the types are left out where the signature has them."""
    tags = []
    for p in shape.parameters:
        name = f"[{p.name}={p.default}]" if p.default else p.name
        tags.append(f"@param {name} - {prose.parameters.get(p.name, '')}".rstrip(" -"))
    if shape.gives_value:
        tags.append(f"@returns {prose.returns}".rstrip())
    tags += [f"@throws {{{r.name}}} {prose.raises[r.name]}" for r in shape.raises]
    return [prose.summary, *(["", *tags] if tags else [])]


def javadoc(shape: Shape, prose: Prose) -> list[str]:
    """Tags of Javadoc and phpDocumentor."""
    tags = [
        f"@param {p.name} {prose.parameters.get(p.name, '')}".rstrip() for p in shape.parameters
    ]
    if shape.gives_value:
        tags.append(f"@return {prose.returns}".rstrip())
    tags += [f"@throws {r.name} {prose.raises[r.name]}" for r in shape.raises]
    return [prose.summary, *(["", *tags] if tags else [])]


def plain(shape: Shape, prose: Prose) -> list[str]:
    """The summary alone."""
    return [prose.summary]


STYLES: dict[str, Callable[[Shape, Prose], list[str]]] = {
    "google": google,
    "numpy": numpy,
    "sphinx": sphinx,
    "jsdoc": jsdoc,
    "javadoc": javadoc,
    "plain": plain,
}
"""Name of a style -> the lines between the quotes or comment marks."""


def quoted(lines: Sequence[str], indent: str) -> str:
    """A Python docstring of these lines, without the indent of its first line."""
    text = "\n".join(lines)
    mark = 'r"""' if "\\" in text else '"""'
    if len(lines) == 1:
        return f'{mark}{text}"""'
    rest = [indent + line if line else "" for line in lines[1:]]
    return "\n".join([mark + lines[0], *rest, indent + '"""'])


def block_comment(lines: Sequence[str], indent: str) -> str:
    """A `/** */` comment of these lines."""
    if len(lines) == 1:
        return f"/** {lines[0]} */"
    rows = [f"{indent} * {line}".rstrip() for line in lines]
    return "\n".join(["/**", *rows, f"{indent} */"])


def line_comment(lines: Sequence[str], indent: str, mark: str) -> str:
    """Line comments of these lines."""
    return f"\n{indent}".join(f"{mark} {line}".rstrip() for line in lines)
