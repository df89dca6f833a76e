"""Import statements of every language as one thing: a module path and the names taken from it.

A module is written with slashes. One that starts with "." is relative to the importing file's
folder; otherwise it says what the statement says (`crate/a`, `@/lib`, `<vector>`). Which file it
means is decided at query time (`resolve.py`), so that adding a file never touches the records of
the files that import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

EVERYTHING = "*"
"""Stands among the names of an import that takes all of them."""

_MAX_USE_DEPTH = 16
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_QUOTED = re.compile(r"""["'<`]([^"'<>`]+)["'>`]""")
_DOTS = re.compile(r"[\s.]+")
# `import data from "./data.json" with { type: "json" }`.
_ATTRIBUTES = re.compile(r"""(?<=["'`])\s*\b(?:with|assert)\s*\{[^{}]*\}\s*;?\s*$""")
# `const { a: b } = require("m")`.
_RENAMED = re.compile(r"\s*:\s*(?=[\w$])")
_PYTHON_NOISE = re.compile(r"[()\\]|#[^\n]*")
_PYTHON_FROM = re.compile(r"\s*from\s*(\.*)\s*([\w.]*)\s+import\s+(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module and the names that the statement takes from it.

    `aliases` are the names that the file uses for others: pairs of its name and the original, where
    "" is the module itself.
    """

    module: str
    names: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()

    def taken(self) -> list[str]:
        """What the importing file calls the names that it takes, one by one."""
        renamed = {original: alias for alias, original in self.aliases}
        return [renamed.get(name, name) for name in self.names if name != EVERYTHING]

    def original(self, name: str) -> str | None:
        """What a name of the importing file is called in the module; None when not from it."""
        for alias, original in self.aliases:
            if alias == name:
                return original or None
        if EVERYTHING in self.names:
            return name
        # `import a as b` does not give `a`.
        taken = self.names.count(name)
        plain = taken and taken > sum(original == name for _, original in self.aliases)
        return name if plain else None


def parse_imports(statements: Iterable[str], language: str) -> tuple[Import, ...]:
    """What raw import statements say; a statement that makes no sense gives nothing."""
    reader = _READERS.get(language)
    if reader is None:
        return ()
    return tuple(found for statement in statements for found in reader(statement) if found.module)


def path_distance(left: str, right: str) -> int:
    """Path components of both files together, less 2 for every folder they share from the top."""
    a, b = left.split("/"), right.split("/")
    shared = 0
    for one, other in zip(a[:-1], b[:-1], strict=False):
        if one != other:
            break
        shared += 1
    return len(a) + len(b) - 2 * shared


def _python(statement: str) -> list[Import]:
    statement = _PYTHON_NOISE.sub(" ", statement)
    if match := _PYTHON_FROM.match(statement):
        dots, module, rest = match.groups()
        path = module.replace(".", "/")
        if dots:
            path = "/".join(["."] + [".."] * (len(dots) - 1) + ([path] if path else []))
        if rest.strip() == EVERYTHING:
            return [Import(path, (EVERYTHING,))]
        return [Import(path, *_names(rest.split(",")))]
    keyword, _, rest = statement.strip().partition(" ")
    if keyword != "import":
        return []
    found = []
    for part in rest.split(","):
        module, _, alias = [*part.split(), "", "", ""][:3]
        found.append(Import(module.replace(".", "/"), (), ((alias, ""),) if alias else ()))
    return found


def _javascript(statement: str) -> list[Import]:
    statement = _ATTRIBUTES.sub("", statement)
    quoted = _QUOTED.findall(statement)
    if not quoted:
        return []
    head = statement[: statement.rfind(quoted[-1])]
    braces = re.search(r"\{([^}]*)\}", head)
    parts = _RENAMED.sub(" as ", braces.group(1)).split(",") if braces else []
    names, aliases = _names(part.partition("=")[0] for part in parts)
    if whole := re.search(r"\*\s*as\s+([\w$]+)", head):
        aliases += ((whole[1], ""),)
    elif "*" in head:
        names += (EVERYTHING,)
    plain = re.sub(r"\{[^}]*\}|\*\s*as\s+\w+", " ", head)
    skipped = {"import", "export", "from", "type", "require", "const", "let", "var", "as", "await"}
    names += tuple(word for word in _IDENTIFIER.findall(plain) if word not in skipped)
    return [Import(quoted[-1], names, aliases)]


def _go(statement: str) -> list[Import]:
    alias = _IDENTIFIER.match(statement)
    aliases = ((alias[0], ""),) if alias and alias[0] != "_" else ()
    return [Import(found.module, (), aliases) for found in _quoted(statement)]


def _quoted(statement: str) -> list[Import]:
    return [Import(module) for module in _QUOTED.findall(statement)[:1]]


def _include(statement: str) -> list[Import]:
    """C: a file in angle brackets is not looked for beside the one that names it."""
    match = re.search(r"<[^<>\n]+>", statement)
    return [Import(match[0])] if match else _quoted(statement)


def _relative(statement: str) -> list[Import]:
    """Markup: an address without a scheme is a file, from this folder or from the top."""
    found = []
    for quoted in _quoted(statement):
        path = quoted.module.partition("?")[0].partition("#")[0]
        if path and ":" not in path and not path.startswith("//"):
            found.append(Import(path[1:] if path.startswith("/") else f"./{path}"))
    return found


def _rust(statement: str) -> list[Import]:
    match = re.match(r"\s*(?:pub\s*(?:\([^)]*\))?\s*)?(use|mod)\s+(.*)", statement, re.DOTALL)
    if match is None:
        return []
    body = match[2].strip().rstrip(";").strip()
    if match[1] == "mod":
        return [Import(f"./{body}")]
    taken: dict[str, list[str]] = {}
    aliases: dict[str, list[tuple[str, str]]] = {}
    for steps, alias in _use_leaves(body):
        module, name = "/".join(steps[:-1]) or steps[-1], steps[-1]
        taken.setdefault(module, []).append(name)
        if alias:
            aliases.setdefault(module, []).append((alias, name))
    return [Import(m, tuple(names), tuple(aliases.get(m, ()))) for m, names in taken.items()]


def _use_leaves(body: str) -> list[tuple[list[str], str]]:
    """Path and alias of every leaf of a use tree: `a::{b, c::{self, D as E}}`."""
    prefixes: list[list[str]] = [[]]
    leaves: list[tuple[list[str], str]] = []
    for part in re.findall(r"[^{},]+|[{},]", body):
        text = part.strip()
        if text == "{":
            # The item before it was the prefix of this group.
            prefixes.append(leaves.pop()[0] if leaves and len(prefixes) < _MAX_USE_DEPTH else [])
        elif text == "}":
            del prefixes[max(1, len(prefixes) - 1) :]
        elif text not in ("", ","):
            path, _, alias = text.partition(" as ")
            steps = [step.strip() for step in path.split("::") if step.strip()]
            if steps == ["self"] and len(prefixes) > 1:
                steps = []
            if full := prefixes[-1] + steps:
                leaves.append((full, alias.strip()))
    return leaves


def _dotted(statement: str) -> list[Import]:
    """Java, Kotlin: the last component of an import is a type, of a static one a member."""
    words = re.sub(r"^\s*import\s+", "", statement).strip("; \n")
    static = words.startswith("static ")
    path, _, alias = words.removeprefix("static ").partition(" as ")
    parts = [part for part in _DOTS.split(path) if part]
    if not parts:
        return []
    if parts[-1] == EVERYTHING:
        return [Import("/".join(parts[:-1]), (EVERYTHING,))]
    aliases = ((alias.strip(), parts[-1]),) if alias else ()
    return [Import("/".join(parts[:-1] if static else parts), (parts[-1],), aliases)]


def _csharp(statement: str) -> list[Import]:
    """A namespace, or after `static` or `=` a type."""
    words = re.sub(r"^\s*(?:global\s+)?using\s+", "", statement).strip("; \n")
    alias, equals, path = words.rpartition("=")
    is_type = bool(equals) or path.startswith("static ")
    parts = [part for part in _DOTS.split(path.removeprefix("static ").strip()) if part]
    if not parts:
        return []
    if not is_type:
        return [Import("/".join(parts), (EVERYTHING,))]
    aliases = ((alias.strip(), parts[-1]),) if equals else ()
    return [Import("/".join(parts), (parts[-1],), aliases)]


def _scala(statement: str) -> list[Import]:
    words = re.sub(r"^\s*import\s+", "", statement).strip()
    head, brace, group = words.partition("{")
    if not brace:
        path = re.sub(r"\.(?:_|given)$", ".*", words)
        return _dotted(path)
    module = "/".join(part for part in _DOTS.split(head) if part)
    found = []
    for part in group.rstrip("}").split(","):
        name, _, alias = re.sub(r"=>", " as ", part).partition(" as ")
        name = name.strip()
        if name == "_":
            found.append(Import(module, (EVERYTHING,)))
        elif name:
            aliases = ((alias.strip(), name),) if alias else ()
            found.append(Import(f"{module}/{name}", (name,), aliases))
    return found


def _swift(statement: str) -> list[Import]:
    words = re.sub(r"^.*?\bimport\s+", "", statement, flags=re.DOTALL).split()
    kinds = {"struct", "class", "enum", "protocol", "func", "typealias", "var", "let"}
    path = words[-1] if words[:1] and words[0] in kinds else (words or [""])[0]
    module, _, name = path.partition(".")
    return [Import(module, (name,) if name else (EVERYTHING,))]


def _haskell(statement: str) -> list[Import]:
    match = re.match(
        r"import\s+(?:safe\s+)?(qualified\s+)?([\w.']+)(?:\s+qualified)?(?:\s+as\s+([\w.']+))?(.*)",
        statement,
        re.DOTALL,
    )
    if match is None:
        return []
    qualified, module, alias, rest = match.groups()
    hidden = rest.lstrip().startswith("hiding")
    names = () if hidden else tuple(_IDENTIFIER.findall(rest))
    if not names and not qualified:
        names = (EVERYTHING,)
    return [Import(module.replace(".", "/"), names, ((alias, ""),) if alias else ())]


def _lua(statement: str) -> list[Import]:
    dotted = not statement.lstrip().startswith("dofile")
    return [Import(i.module.replace(".", "/") if dotted else i.module) for i in _quoted(statement)]


def _ruby(statement: str) -> list[Import]:
    relative = statement.startswith("require_relative")
    return [Import(f"./{i.module}" if relative else i.module) for i in _quoted(statement)]


def _php(statement: str) -> list[Import]:
    if not statement.startswith("use"):
        return [Import(found.module.lstrip("/")) for found in _quoted(statement)]
    body = re.sub(r"^use\s+(?:function\s+|const\s+)?", "", statement).rstrip("; \n")
    head, brace, group = body.partition("{")
    if not brace:
        head, group = "", body
    found = []
    for part in group.rstrip("}").split(","):
        path, _, alias = (head + part.strip()).strip().partition(" as ")
        path = path.strip("\\ ")
        name = path.rpartition("\\")[2]
        aliases = ((alias.strip(), name),) if alias else ()
        found.append(Import(path.replace("\\", "/"), (name,), aliases))
    return found


def _shell(statement: str) -> list[Import]:
    words = statement.split()
    if len(words) < 2:
        return []
    path = re.sub(r"\$\{?\w+\}?|\$\([^)]*\)", "", words[1].strip("\"'")).lstrip("/")
    return [Import(path)]


def _names(parts: Iterable[str]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """`["a as b", " type c "]` -> ("a", "c") and (("b", "a"),)."""
    names: list[str] = []
    aliases: list[tuple[str, str]] = []
    for part in parts:
        if (name := part.strip()).isidentifier() and name != "type":
            names.append(name)
            continue
        words = [word for word in _IDENTIFIER.findall(part) if word != "type"]
        names += words[:1]
        if len(words) == 3 and words[1] == "as":
            aliases.append((words[2], words[0]))
    return tuple(names), tuple(aliases)


_READERS: Mapping[str, Callable[[str], list[Import]]] = {
    "python": _python,
    "javascript": _javascript,
    "javascriptreact": _javascript,
    "typescript": _javascript,
    "typescriptreact": _javascript,
    "go": _go,
    "rust": _rust,
    "java": _dotted,
    "kotlin": _dotted,
    "scala": _scala,
    "csharp": _csharp,
    "swift": _swift,
    "haskell": _haskell,
    "c": _include,
    "cpp": _include,
    "ruby": _ruby,
    "php": _php,
    "lua": _lua,
    "shellscript": _shell,
    "html": _relative,
    "css": _relative,
}
