"""How a Python docstring is written down: google, numpy and sphinx; and what all styles share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from qcoder.lsp_server.docstring_shape import Parameter, Shape

PYTHON_STYLES = ("google", "numpy", "sphinx")
MIN_ROOM = 40
"""Least width that text is wrapped to, however deep its definition is nested."""


@dataclass(frozen=True, slots=True)
class Prose:
    """The sentences of a docstring; parameters, attributes and exceptions by name."""

    summary: str
    parameters: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Convention:
    """How documentation is written where this docstring goes.

    `types` repeats the types of the signature; `width` is the longest line, in characters. For
    comments: `mark` begins each line ("" for a block), `tag` begins each tag, `brief` says that the
    summary has a tag too, `arguments` that parameters are listed where the language's own habit is
    to leave them out.
    """

    style: str
    types: bool = True
    width: int = 88
    mark: str = ""
    tag: str = "@"
    brief: bool = False
    arguments: bool = False


Render = Callable[[Shape, Prose, Convention], list[str]]


def google(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Sections with indented entries."""
    room = room_of(shape, convention)
    lines = [prose.summary]
    for title, listed, texts in (
        ("Args:", shape.parameters, prose.parameters),
        ("Attributes:", shape.attributes, prose.attributes),
    ):
        lines += ["", title] if listed else []
        for p in listed:
            kind = f" ({p.type})" if p.type else ""
            head = f"    {p.stars}{p.name}{kind}:"
            lines += filled(head, described(p, texts), room, 8)
    if shape.gives_value or shape.yields:
        lines += ["", "Yields:" if shape.yields else "Returns:"]
        head = f"    {shape.returns}:" if shape.returns else "   "
        lines += filled(head, prose.returns, room, 8 if shape.returns else 4)
    if shape.raises:
        lines += ["", "Raises:"]
        for r in shape.raises:
            lines += filled(f"    {r.name}:", prose.raises.get(r.name, ""), room, 8)
    return lines


def numpy(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Underlined sections."""
    room = room_of(shape, convention)
    lines = [prose.summary]
    for title, listed, texts in (
        ("Parameters", shape.parameters, prose.parameters),
        ("Attributes", shape.attributes, prose.attributes),
    ):
        lines += ["", title, "-" * len(title)] if listed else []
        for p in listed:
            lines.append(f"{p.stars}{p.name}{f' : {p.type}' if p.type else ''}")
            lines += filled("   ", described(p, texts), room, 4) if described(p, texts) else []
    if shape.gives_value or shape.yields:
        title = "Yields" if shape.yields else "Returns"
        lines += ["", title, "-" * len(title), *([shape.returns] if shape.returns else [])]
        lines += filled("   " if shape.returns else "", prose.returns, room, 4)
    if shape.raises:
        lines += ["", "Raises", "------"]
        for r in shape.raises:
            lines += [r.name, *filled("   ", prose.raises.get(r.name, ""), room, 4)]
    return lines


def sphinx(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Field lists."""
    room = room_of(shape, convention)
    fields: list[str] = []
    for word, kind, listed, texts in (
        ("param", "type", shape.parameters, prose.parameters),
        ("ivar", "vartype", shape.attributes, prose.attributes),
    ):
        for p in listed:
            name = p.stars.replace("*", r"\*") + p.name
            fields += filled(f":{word} {name}:", sphinx_code(described(p, texts)), room, 4)
            fields += [f":{kind} {name}: {p.type}"] if p.type else []
    if shape.gives_value or shape.yields:
        word = "yields" if shape.yields else "returns"
        fields += filled(f":{word}:", sphinx_code(prose.returns), room, 4)
        fields += [f":rtype: {shape.returns}"] if shape.returns and not shape.yields else []
    for r in shape.raises:
        text = sphinx_code(prose.raises.get(r.name, ""))
        fields += filled(f":raises {r.name}:", text, room, 4)
    return [sphinx_code(prose.summary), *(["", *fields] if fields else [])]


def sphinx_code(text: str) -> str:
    """Code in double backticks, as reStructuredText has it."""
    return text.replace("`", "``")


def described(parameter: Parameter, texts: dict[str, str]) -> str:
    """Description of a parameter with its default."""
    parts = [texts.get(parameter.name, "")]
    if parameter.default and parameter.default not in ("None", "..."):
        parts.append(f"Defaults to {parameter.default}.")
    return " ".join(part for part in parts if part)


def room_of(shape: Shape, convention: Convention) -> int:
    """Characters of a docstring's line beside its indent."""
    return max(MIN_ROOM, convention.width - len(shape.place.indent.expandtabs(4)))


def filled(head: str, text: str, room: int, hang: int) -> list[str]:
    """`head text` as lines of at most `room` characters, the further ones indented by `hang`.

    Code between backticks is not broken, nor is the head.
    """
    lines = [head]
    for word in words_with_code(text):
        last = lines[-1]
        if len(last) + 1 + len(word) > room and last.strip() and last != head:
            lines.append(" " * hang + word)
        else:
            lines[-1] = f"{last} {word}" if last else word
    return [line.rstrip() for line in lines if line.strip()]


def words_with_code(text: str) -> list[str]:
    """Words of a text, what stands between backticks as one."""
    words: list[str] = []
    for word in text.split():
        if words and words[-1].count("`") % 2:
            words[-1] += " " + word
        else:
            words.append(word)
    return words


def without_types(shape: Shape) -> Shape:
    """The same definition, its types left to the signature."""
    return replace(
        shape,
        parameters=tuple(replace(p, type="") for p in shape.parameters),
        attributes=tuple(replace(p, type="") for p in shape.attributes),
        returns="",
    )


def quoted(lines: Sequence[str], indent: str) -> str:
    """A Python docstring of these lines, without the indent of its first line."""
    text = "\n".join(lines)
    mark = 'r"""' if "\\" in text else '"""'
    if len(lines) == 1:
        return f'{mark}{text}"""'
    rest = [indent + line if line else "" for line in lines[1:]]
    return "\n".join([mark + lines[0], *rest, indent + '"""'])
