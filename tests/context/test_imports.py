"""Import statements of every language are read as module, names and aliases."""

from __future__ import annotations

import pytest

from qcoder.context.imports import Import, parse_imports, path_distance

STAR = ("*",)
CASES = [
    ("python", "import os.path as p, sys", [Import("os/path", (), (("p", ""),)), Import("sys")]),
    (
        "python",
        "from a.b import (c as d,\n  e,  # why\n)",
        [Import("a/b", ("c", "e"), (("d", "c"),))],
    ),
    ("python", "from . import x", [Import(".", ("x",))]),
    ("python", "from ..pkg.m import y", [Import("./../pkg/m", ("y",))]),
    ("python", "from .core import *", [Import("./core", STAR)]),
    (
        "typescript",
        "import d, { x as y, type Z } from './m';",
        [Import("./m", ("x", "Z", "d"), (("y", "x"),))],
    ),
    ("javascript", "import * as ns from '../a/b.js'", [Import("../a/b.js", (), (("ns", ""),))]),
    ("javascript", "{ a, b } = require('./c')", [Import("./c", ("a", "b"))]),
    (
        "javascript",
        "{ a: b, c = 1, d: e = f } = require('./c')",
        [Import("./c", ("a", "c", "d"), (("b", "a"), ("e", "d")))],
    ),
    ("javascript", "import d from './d.json' with { type: 'json' };", [Import("./d.json", ("d",))]),
    ("javascript", "import e from './e.json' assert {type: 'json'}", [Import("./e.json", ("e",))]),
    (
        "typescript",
        "export { default as Card } from './card'",
        [Import("./card", ("default",), (("Card", "default"),))],
    ),
    ("typescript", "export { q } from '@/lib/q'", [Import("@/lib/q", ("q",))]),
    ("typescript", "export * from './all'", [Import("./all", STAR)]),
    ("go", 'u "github.com/x/y/util"', [Import("github.com/x/y/util", (), (("u", ""),))]),
    ("go", '"fmt"', [Import("fmt")]),
    ("go", '_ "embed"', [Import("embed")]),
    ("rust", "use crate::a::b::{C, D as E};", [Import("crate/a/b", ("C", "D"), (("E", "D"),))]),
    ("rust", "pub use super::thing::Thing;", [Import("super/thing", ("Thing",))]),
    (
        "rust",
        "pub(crate) use a::{b::{self, C}, d::*};",
        [Import("a", ("b",)), Import("a/b", ("C",)), Import("a/d", STAR)],
    ),
    ("rust", "mod z;", [Import("./z")]),
    ("rust", "use {{{{", []),
    ("java", "import a.b.C;", [Import("a/b/C", ("C",))]),
    ("java", "import static a.b.C.m;", [Import("a/b/C", ("m",))]),
    ("java", "import a.b.*;", [Import("a/b", STAR)]),
    ("kotlin", "import a.b.C as D", [Import("a/b/C", ("C",), (("D", "C"),))]),
    (
        "scala",
        "import a.b.{C, D => E, _}",
        [Import("a/b/C", ("C",)), Import("a/b/D", ("D",), (("E", "D"),)), Import("a/b", STAR)],
    ),
    ("scala", "import a.b._", [Import("a/b", STAR)]),
    ("csharp", "using A.B;", [Import("A/B", STAR)]),
    ("csharp", "using static A.B.C;", [Import("A/B/C", ("C",))]),
    ("csharp", "using X = A.B.C;", [Import("A/B/C", ("C",), (("X", "C"),))]),
    ("swift", "@testable import Core", [Import("Core", STAR)]),
    ("swift", "import struct Core.Engine", [Import("Core", ("Engine",))]),
    ("haskell", "import qualified Data.Map as M", [Import("Data/Map", (), (("M", ""),))]),
    ("haskell", "import A.B (x, Y(..))", [Import("A/B", ("x", "Y"))]),
    ("haskell", "import A.B hiding (x)", [Import("A/B", STAR)]),
    ("lua", 'require("a.b")', [Import("a/b")]),
    ("c", '#include "x/y.h"', [Import("x/y.h")]),
    ("cpp", "#include <vector>", [Import("<vector>")]),
    ("ruby", "require_relative 'x/y'", [Import("./x/y")]),
    ("php", "use A\\{B, C as D};", [Import("A/B", ("B",)), Import("A/C", ("C",), (("D", "C"),))]),
    ("shellscript", 'source "$DIR/lib.sh"', [Import("lib.sh")]),
    ("html", 'src="js/app.js?v=1"', [Import("./js/app.js")]),
    ("html", 'href="https://example.com/x.css"', []),
    ("latex", "anything", []),
    ("python", "from", []),
    ("javascript", "import", []),
]


@pytest.mark.parametrize(("language", "statement", "expected"), CASES)
def test_statement_is_read(language: str, statement: str, expected: list[Import]) -> None:
    assert list(parse_imports([statement], language)) == expected


def test_alias_leads_to_the_original() -> None:
    (found,) = parse_imports(["from a import b as c, d"], "python")
    assert [found.original(name) for name in ("c", "d", "e")] == ["b", "d", None]
    assert found.original("b") is None
    (twice,) = parse_imports(["from a import b, b as c"], "python")
    assert [twice.original(name) for name in "bc"] == ["b", "b"]
    (whole,) = parse_imports(["import a as n"], "python")
    assert whole.original("n") is None
    (everything,) = parse_imports(["from a import *"], "python")
    assert everything.original("x") == "x"


def test_path_distance_counts_what_is_not_shared() -> None:
    assert path_distance("a/b/c.py", "a/b/d.py") == 2
    assert path_distance("a/c.py", "b/d.py") == 4
