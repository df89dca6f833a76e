"""How documentation comments are written down: JSDoc, TSDoc, Javadoc, Doxygen, rustdoc, and plain.

Where the signature has the types, the comment does not repeat them. Code in a sentence stands
between backticks; styles that mark it otherwise translate that here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from qcoder.lsp_server.docstring_shape import NULLS, Parameter, Shape
from qcoder.lsp_server.docstring_style import (
    Convention,
    Prose,
    Render,
    filled,
    google,
    numpy,
    quoted,
    room_of,
    sphinx,
    without_types,
)

COMMENT_MARK = 3
"""Characters that ` * ` or `/// ` take of a line."""


def jsdoc(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Tags with types, because the signature has none; `*` is what may be anything."""
    room = room_of(shape, convention) - COMMENT_MARK
    tags: list[str] = []
    for p in shape.parameters:
        kind = f"{{{'...' if p.stars else ''}{p.type or '*'}}} " if convention.types else ""
        name = f"[{p.name}={p.default}]" if p.default and "]" not in p.default else p.name
        tags += filled(f"@param {kind}{name}", dashed(prose.parameters.get(p.name, "")), room, 2)
    for word, wanted in (("@yields", shape.yields), ("@returns", shape.gives_value)):
        if wanted:
            kind = f" {{{shape.returns or '*'}}}" if convention.types else ""
            tags += filled(word + kind, prose.returns, room, 2)
    for r in shape.raises:
        tags += filled(f"@throws {{{r.name}}}", prose.raises.get(r.name, ""), room, 2)
    return [prose.summary, *(["", *tags] if tags else [])]


def tsdoc(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Tags without types; the language has them in the signature."""
    room = room_of(shape, convention) - COMMENT_MARK
    tags: list[str] = []
    for p in shape.parameters:
        text = with_default(p, prose.parameters.get(p.name, ""))
        tags += filled(f"@param {p.name}", dashed(text), room, 2)
    if shape.gives_value or shape.yields:
        tags += filled("@returns", prose.returns, room, 2)
    for r in shape.raises:
        tags += filled(f"@throws `{r.name}`", prose.raises.get(r.name, ""), room, 2)
    return [prose.summary, *(["", *tags] if tags else [])]


def javadoc(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Tags of Javadoc, in HTML."""
    room = room_of(shape, convention) - COMMENT_MARK
    tags: list[str] = []
    for t in shape.type_parameters:
        bound = f"Any type that is a `{t.type}`." if t.type else "Any type."
        tags += filled(f"@param <{t.name}>", html(bound), room, 4)
    for p in shape.parameters:
        tags += filled(f"@param {p.name}", html(prose.parameters.get(p.name, "")), room, 4)
    if shape.gives_value:
        tags += filled("@return", html(prose.returns), room, 4)
    for r in shape.raises:
        tags += filled(f"@throws {r.name}", html(prose.raises.get(r.name, "")), room, 4)
    return [html(prose.summary), *(["", *tags] if tags else [])]


def phpdoc(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Tags of phpDocumentor; types and variables with their dollar."""
    room = room_of(shape, convention) - COMMENT_MARK
    tags: list[str] = []
    for p in shape.parameters:
        kind = f"{p.type} " if p.type else "mixed "
        name = f"{'...' if p.stars else ''}${p.name}"
        tags += filled(f"@param {kind}{name}", prose.parameters.get(p.name, ""), room, 4)
    if shape.gives_value:
        tags += filled(f"@return {shape.returns or 'mixed'}", prose.returns, room, 4)
    for r in shape.raises:
        tags += filled(f"@throws {r.name}", prose.raises.get(r.name, ""), room, 4)
    return [prose.summary, *(["", *tags] if tags else [])]


def doxygen(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Commands of Doxygen, with `@` or a backslash as the file has them."""
    room = room_of(shape, convention) - COMMENT_MARK
    at, tags = convention.tag, list[str]()
    for t in shape.type_parameters:
        tags.append(f"{at}tparam {t.name} Any type.")
    for p in shape.parameters:
        text = with_default(p, prose.parameters.get(p.name, ""))
        tags += filled(f"{at}param {p.name}", text, room, 4)
    if shape.gives_value:
        tags += filled(f"{at}return", prose.returns, room, 4)
    for r in shape.raises:
        tags += filled(f"{at}throws {r.name}", prose.raises.get(r.name, ""), room, 4)
    summary = f"{at}brief {prose.summary}" if convention.brief else prose.summary
    return [summary, *(["", *tags] if tags else [])]


def rustdoc(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """Sections that the Rust API guidelines ask for; arguments only where the file lists them."""
    room = room_of(shape, convention) - COMMENT_MARK
    lines = [prose.summary]
    if convention.arguments and shape.parameters:
        lines += ["", "# Arguments", ""]
        for p in shape.parameters:
            lines += filled(f"* `{p.name}`", dashed(prose.parameters.get(p.name, "")), room, 2)
    if shape.fallible:
        lines += ["", "# Errors", "", *error_lines(shape, room)]
    if shape.panics:
        lines += ["", "# Panics", "", "Panics when an assumption of its body fails."]
    if shape.unsafe:
        lines += ["", "# Safety", "", "The caller keeps what the unsafe code inside relies on."]
    return lines


def error_lines(shape: Shape, room: int) -> list[str]:
    """Which errors a Rust function makes itself, and that it hands on others."""
    texts = []
    for found in shape.raises:
        when = f" if `{found.condition}`" if found.condition else ""
        texts.append(
            "Hands on the errors of what it calls."
            if found.again
            else f"Returns `{found.name}`{when}."
        )
    return filled("", " ".join(texts) or "Returns an error if it does not succeed.", room, 0)


def xmldoc(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """XML elements of C#, one a line."""
    lines = [
        f"<summary>{xml(prose.summary)}</summary>",
        *(f'<typeparam name="{t.name}">Any type.</typeparam>' for t in shape.type_parameters),
    ]
    for p in shape.parameters:
        text = xml(prose.parameters.get(p.name, ""))
        lines.append(f'<param name="{p.name}">{text}</param>')
    if shape.gives_value:
        lines.append(f"<returns>{xml(prose.returns)}</returns>")
    for r in shape.raises:
        text = xml(prose.raises.get(r.name, ""))
        lines.append(f'<exception cref="{r.name}">{text}</exception>')
    return lines


def plain(shape: Shape, prose: Prose, convention: Convention) -> list[str]:
    """The summary alone."""
    return [prose.summary]


def dashed(text: str) -> str:
    """`- text`; nothing for nothing."""
    return f"- {text}" if text else ""


def with_default(parameter: Parameter, text: str) -> str:
    """A description with the default value as code; that nothing is the default, it says itself."""
    if not parameter.default or "`" in parameter.default or parameter.default in NULLS:
        return text
    return f"{text} Defaults to `{parameter.default}`.".strip()


def html(text: str) -> str:
    """A sentence in Javadoc: code in `{@code}`, where braces have to pair up."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(code_tag(part) if part.startswith("`") else escaped(part) for part in parts)


def code_tag(part: str) -> str:
    """Code between backticks as a Javadoc tag."""
    code = part.strip("`")
    if code.count("{") != code.count("}") or "@" in code:
        return f"<code>{escaped(code)}</code>".replace("@", "&#64;")
    return f"{{@code {code}}}"


def escaped(text: str) -> str:
    """Text of HTML and XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def xml(text: str) -> str:
    """A sentence in a C# comment."""
    return re.sub(r"`([^`]*)`", r"<c>\1</c>", escaped(text))


STYLES: dict[str, Render] = {
    "google": google,
    "numpy": numpy,
    "sphinx": sphinx,
    "jsdoc": jsdoc,
    "tsdoc": tsdoc,
    "javadoc": javadoc,
    "phpdoc": phpdoc,
    "doxygen": doxygen,
    "rustdoc": rustdoc,
    "xmldoc": xmldoc,
    "godoc": plain,
    "plain": plain,
}
"""Name of a style -> the lines between the quotes or comment marks."""


def block_comment(lines: Sequence[str], indent: str) -> str:
    """A `/** */` comment of these lines, without the indent of its first."""
    lines = [line.replace("*/", "* /") for line in lines]
    if len(lines) == 1:
        return f"/** {lines[0]} */"
    rows = [f"{indent} * {line}".rstrip() for line in lines]
    return "\n".join(["/**", *rows, f"{indent} */"])


def line_comment(lines: Sequence[str], indent: str, mark: str) -> str:
    """Line comments of these lines, without the indent of the first."""
    return f"\n{indent}".join(f"{mark} {line}".rstrip() for line in lines)


def rendered(shape: Shape, prose: Prose, convention: Convention, language: str) -> str:
    """The docstring or comment as it goes into the file, from its first mark to its last."""
    lines = content(shape, prose, convention, language)
    indent = shape.place.indent
    if language == "python":
        return quoted(lines, indent)
    if convention.mark:
        return line_comment(lines, indent, convention.mark)
    return block_comment(lines, indent)


def content(shape: Shape, prose: Prose, convention: Convention, language: str) -> list[str]:
    """The lines between the quotes or marks."""
    bare = language == "python" and not convention.types
    return STYLES[convention.style](without_types(shape) if bare else shape, prose, convention)


def insertion(shape: Shape, docstring: str) -> str:
    """The inserted text: the docstring with the line breaks and blanks around it."""
    return shape.place.before + shape.place.indent + docstring + shape.place.after
