"""Which files an imported module means, by the rules of the importing file's language.

A resolver is a function of the module (see `imports.py`), the importing file's path and `Files`,
which answers from the index alone: nothing is read from the disk, nothing passes over all files,
and an edit of one file changes no other file's record. What lies outside the workspace resolves to
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qcoder.context.files import Files, Resolver
from qcoder.context.modules import MAX_RESOLVED
from qcoder.context.resolve_c import resolve_include
from qcoder.context.resolve_javascript import resolve_javascript
from qcoder.context.resolve_packages import resolve_go, resolve_package, resolve_swift
from qcoder.context.resolve_python import resolve_python
from qcoder.context.resolve_rust import resolve_rust


def resolve(module: str, importer: str, language: str, files: Files) -> tuple[str, ...]:
    """Files of a module, best first; never the importing file itself."""
    resolver = RESOLVERS.get(language, resolve_by_path)
    found = (path for path in resolver(module, importer, files) if path != importer)
    return tuple(dict.fromkeys(found))[:MAX_RESOLVED]


def resolve_by_path(module: str, importer: str, files: Files) -> Iterable[str]:
    """Files whose path ends like the module: Ruby, PHP, Lua, Haskell, shell, markup."""
    return files.modules.resolve(module, importer)


RESOLVERS: Mapping[str, Resolver] = {
    "python": resolve_python,
    "javascript": resolve_javascript,
    "javascriptreact": resolve_javascript,
    "typescript": resolve_javascript,
    "typescriptreact": resolve_javascript,
    "vue": resolve_javascript,
    "svelte": resolve_javascript,
    "go": resolve_go,
    "rust": resolve_rust,
    "java": resolve_package,
    "kotlin": resolve_package,
    "scala": resolve_package,
    "csharp": resolve_package,
    "php": resolve_package,
    "swift": resolve_swift,
    "c": resolve_include,
    "cpp": resolve_include,
}
