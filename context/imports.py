"""Import statements of every language as one thing: a module path and the names taken from it.

A module is written with slashes and without suffix; one that starts with "." is relative to the
importing file's folder. Which file it means is decided at query time by `ModuleMap.resolve`, so
that adding a file never touches the records of the files that import it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

_MAX_RESOLVED = 24
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_QUOTED = re.compile(r"""["'<`]([^"'<>`]+)["'>`]""")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module and the names that the statement takes from it."""

    module: str
    names: tuple[str, ...] = ()


def parse_imports(statements: Iterable[str], language: str) -> tuple[Import, ...]:
    """What raw import statements say; a statement that makes no sense gives nothing."""
    reader = _READERS.get(language)
    if reader is None:
        return ()
    return tuple(found for statement in statements for found in reader(statement) if found.module)


class ModuleMap:
    """From module paths to the files that may be meant; kept in step with the index."""

    def __init__(self) -> None:
        self._by_last: dict[str, dict[str, str]] = {}

    def add(self, path: str) -> None:
        """Make a file known under its module path."""
        module = module_of(path)
        self._by_last.setdefault(posixpath.basename(module), {})[path] = module

    def remove(self, path: str) -> None:
        """Forget a file."""
        last = posixpath.basename(module_of(path))
        paths = self._by_last.get(last, {})
        paths.pop(path, None)
        if not paths:
            self._by_last.pop(last, None)

    def resolve(self, module: str, importer: str) -> tuple[str, ...]:
        """Files that `module` means in the file `importer`, best first."""
        folder = posixpath.dirname(importer)
        relative = module.startswith(".")
        target = posixpath.normpath(posixpath.join(folder, module)) if relative else module
        target = _without_suffix(target)
        ranked = []
        for path, known in self._by_last.get(posixpath.basename(target), {}).items():
            fit = _fit(known, target, relative)
            if fit and path != importer:
                ranked.append((-fit, path_distance(path, importer), path))
        ranked.sort()
        best = ranked[0][0] if ranked else 0
        return tuple(path for fit, _, path in ranked if fit == best)[:_MAX_RESOLVED]


def module_of(path: str) -> str:
    """Module path of a file: without suffix; a folder's own file stands for the folder."""
    folder, name = posixpath.split(path)
    stem = _without_suffix(name)
    if name.endswith(".go") or (stem in ("__init__", "index", "mod") and folder):
        return folder or stem
    return posixpath.join(folder, stem)


def path_distance(left: str, right: str) -> int:
    """Path components of both files together, less 2 for every folder they share from the top."""
    a, b = left.split("/"), right.split("/")
    shared = 0
    for one, other in zip(a[:-1], b[:-1], strict=False):
        if one != other:
            break
        shared += 1
    return len(a) + len(b) - 2 * shared


def _fit(known: str, target: str, relative: bool) -> int:
    """How well a file's module path fits a target: components in common, 0 for no fit."""
    if known == target:
        return 1000
    if relative:
        return 0
    if known.endswith("/" + target):
        return 2 * (target.count("/") + 1)
    # A target may name more than the workspace has: `host/user/project/pkg` for `pkg/sub`.
    if "/" in known and target.endswith("/" + known):
        return known.count("/") + 1
    return 0


def _without_suffix(name: str) -> str:
    stem, suffix = posixpath.splitext(name)
    return stem if suffix and stem and not stem.endswith("/") and stem.strip("./") else name


def _python(statement: str) -> list[Import]:
    statement = re.sub(r"[()\\]|#[^\n]*", " ", statement)
    match = re.match(r"\s*from\s+(\.*)\s*([\w.]*)\s+import\s+(.*)", statement, re.DOTALL)
    if match:
        dots, module, rest = match.groups()
        path = module.replace(".", "/")
        if dots:
            path = "/".join(["."] + [".."] * (len(dots) - 1) + ([path] if path else []))
        return [Import(path, _first_words(rest.split(",")))]
    keyword, _, rest = statement.strip().partition(" ")
    if keyword != "import":
        return []
    modules = [word for part in rest.split(",") for word in part.split()[:1]]
    return [Import(module.replace(".", "/")) for module in modules]


def _javascript(statement: str) -> list[Import]:
    quoted = _QUOTED.findall(statement)
    if not quoted:
        return []
    head = statement[: statement.rfind(quoted[-1])]
    braces = re.search(r"\{([^}]*)\}", head)
    names = list(_first_words(braces.group(1).split(","))) if braces else []
    plain = re.sub(r"\{[^}]*\}|\*\s*as\s+\w+", " ", head)
    skipped = {"import", "export", "from", "type", "require", "const", "let", "var", "as", "await"}
    names += [word for word in _IDENTIFIER.findall(plain) if word not in skipped]
    module = re.sub(r"^[@~]/", "", quoted[-1])
    return [Import(module, tuple(names))]


def _quoted(statement: str) -> list[Import]:
    return [Import(module) for module in _QUOTED.findall(statement)[:1]]


def _include(statement: str) -> list[Import]:
    """C: a quoted include is looked up beside the file by its suffix match anyway."""
    return [Import(posixpath.normpath(found.module)) for found in _quoted(statement)]


def _rust(statement: str) -> list[Import]:
    body = re.sub(r"^\s*(?:pub(?:\([^)]*\))?\s+)?(use|mod)\s+", r"\1 ", statement).rstrip("; \n")
    keyword, _, path = body.partition(" ")
    if keyword == "mod":
        return [Import("./" + path.strip())]
    head, brace, group = path.partition("{")
    prefix = [part for part in head.split("::") if part.strip()]
    if brace:
        names = [word for word in _IDENTIFIER.findall(group) if word not in ("as", "self")]
    else:
        names = [re.split(r"\s+as\s+", part)[0].strip() for part in prefix[-1:]]
        prefix = prefix[:-1]
    while prefix and prefix[0].strip() in ("crate", "self", "super"):
        prefix = prefix[1:]
    module = "/".join(part.strip() for part in prefix) or "/".join(names[:1])
    return [Import(module, tuple(name for name in names if name != "*"))]


def _dotted(statement: str) -> list[Import]:
    """Java and C#: the last component of an import is a type, of a static one a member."""
    words = re.sub(r"^\s*(?:global\s+)?(?:import|using)\s+", "", statement).strip("; \n")
    static = words.startswith("static ")
    path = words.removeprefix("static ").rpartition("=")[2].strip()
    parts = [part for part in path.split(".") if part and part != "*"]
    if not parts:
        return []
    taken = parts[-1:] if not path.endswith("*") else []
    module = parts[:-1] if static and taken else parts
    return [Import("/".join(module), tuple(taken))]


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
        path = re.split(r"\s+as\s+", (head + part.strip()).strip())[0].strip("\\ ")
        found.append(Import(path.replace("\\", "/"), (path.rpartition("\\")[2],)))
    return found


def _shell(statement: str) -> list[Import]:
    words = statement.split()
    if len(words) < 2:
        return []
    path = re.sub(r"\$\{?\w+\}?|\$\([^)]*\)", "", words[1].strip("\"'")).lstrip("/")
    return [Import(path)]


def _first_words(parts: Iterable[str]) -> tuple[str, ...]:
    """`["a as b", " type c "]` -> ("a", "c")."""
    names = []
    for part in parts:
        words = [word for word in _IDENTIFIER.findall(part) if word != "type"]
        names += words[:1]
    return tuple(names)


_READERS: Mapping[str, Callable[[str], list[Import]]] = {
    "python": _python,
    "javascript": _javascript,
    "javascriptreact": _javascript,
    "typescript": _javascript,
    "typescriptreact": _javascript,
    "go": _quoted,
    "rust": _rust,
    "java": _dotted,
    "csharp": _dotted,
    "c": _include,
    "cpp": _include,
    "ruby": _ruby,
    "php": _php,
    "shellscript": _shell,
}
