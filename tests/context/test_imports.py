"""Import statements of every language, and the files they mean."""

from __future__ import annotations

import pytest

from qcoder.context.imports import Import, ModuleMap, parse_imports, path_distance

CASES = [
    ("python", "import os.path as p, sys", [Import("os/path"), Import("sys")]),
    ("python", "from a.b import (c as d,\n  e,  # why\n)", [Import("a/b", ("c", "e"))]),
    ("python", "from . import x", [Import(".", ("x",))]),
    ("python", "from ..pkg.m import y", [Import("./../pkg/m", ("y",))]),
    ("typescript", "import d, { x as y, type Z } from './m';", [Import("./m", ("x", "Z", "d"))]),
    ("javascript", "import * as ns from '../a/b.js'", [Import("../a/b.js")]),
    ("javascript", "{ a, b } = require('./c')", [Import("./c", ("a", "b"))]),
    ("typescript", "export { q } from '@/lib/q'", [Import("lib/q", ("q",))]),
    ("go", 'u "github.com/x/y/util"', [Import("github.com/x/y/util")]),
    ("rust", "use crate::a::b::{C, D as E};", [Import("a/b", ("C", "D", "E"))]),
    ("rust", "pub use super::thing::Thing;", [Import("thing", ("Thing",))]),
    ("rust", "mod z;", [Import("./z")]),
    ("java", "import a.b.C;", [Import("a/b/C", ("C",))]),
    ("java", "import static a.b.C.m;", [Import("a/b/C", ("m",))]),
    ("java", "import a.b.*;", [Import("a/b")]),
    ("csharp", "using A.B;", [Import("A/B", ("B",))]),
    ("c", '#include "x/../y.h"', [Import("y.h")]),
    ("cpp", "#include <vector>", [Import("vector")]),
    ("ruby", "require_relative 'x/y'", [Import("./x/y")]),
    ("php", "use A\\{B, C as D};", [Import("A/B", ("B",)), Import("A/C", ("C",))]),
    ("shellscript", 'source "$DIR/lib.sh"', [Import("lib.sh")]),
    ("latex", "anything", []),
    ("python", "from", []),
    ("javascript", "import", []),
]


@pytest.mark.parametrize(("language", "statement", "expected"), CASES)
def test_statement_is_read(language: str, statement: str, expected: list[Import]) -> None:
    assert list(parse_imports([statement], language)) == expected


PATHS = [
    "src/pkg/core.py",
    "src/pkg/__init__.py",
    "src/pkg/util/text.py",
    "other/text.py",
    "web/lib/api.ts",
    "web/lib/index.ts",
    "web/app.ts",
    "go/util/a.go",
    "go/util/b.go",
    "c/x/y.h",
    "c/x/y.c",
]


@pytest.mark.parametrize(
    ("module", "importer", "expected"),
    [
        ("pkg/core", "src/pkg/util/text.py", ["src/pkg/core.py"]),
        ("./../core", "src/pkg/util/text.py", ["src/pkg/core.py"]),
        ("pkg", "tests/t.py", ["src/pkg/__init__.py"]),
        ("pkg/util/text", "src/pkg/core.py", ["src/pkg/util/text.py"]),
        ("./lib/api", "web/app.ts", ["web/lib/api.ts"]),
        ("./lib", "web/app.ts", ["web/lib/index.ts"]),
        ("github.com/x/proj/go/util", "go/main.go", ["go/util/a.go", "go/util/b.go"]),
        ("x/y.h", "c/main.c", ["c/x/y.c", "c/x/y.h"]),
        ("./core", "web/app.ts", []),
        ("nowhere", "web/app.ts", []),
        ("os/path", "src/pkg/core.py", []),
    ],
)
def test_module_resolves_to_files(module: str, importer: str, expected: list[str]) -> None:
    modules = ModuleMap()
    for path in PATHS:
        modules.add(path)
    assert sorted(modules.resolve(module, importer)) == expected


def test_removed_file_is_no_longer_meant() -> None:
    modules = ModuleMap()
    modules.add("a/b.py")
    modules.remove("a/b.py")
    modules.remove("a/b.py")
    assert modules.resolve("a/b", "c.py") == ()


def test_path_distance_counts_what_is_not_shared() -> None:
    assert path_distance("a/b/c.py", "a/b/d.py") == 2
    assert path_distance("a/c.py", "b/d.py") == 4
