"""One sample of every parsed language, and what is found in it."""

from __future__ import annotations

JS = """import def, { x as y, z } from "./x";
/** Holds a. */
export default class A extends B {
  // Doubles x.
  m(x) { return foo(x); }
  h = () => { bar(); };
}
export const f = async (a) => a + 1;
function g() { return new A(); }
"""
TS = """import { x as y, z } from "./x";
/** Speaks. */
export interface I { say(x: number): void }
export abstract class A<T> {
  /** Doubles x. */
  private async m(x: T): Promise<void> { foo(); }
  abstract n(): void;
}
export type T = { a: number };
enum E { A }
export const f = (a: number): number => { return a; };
"""
TS_OUTLINE = [
    ("interface", "I"),
    ("method", "I.say"),
    ("class", "A"),
    ("method", "A.m"),
    ("method", "A.n"),
    ("type", "T"),
    ("enum", "E"),
    ("function", "f"),
]
JS_OUTLINE = [
    ("class", "A"),
    ("method", "A.m"),
    ("method", "A.h"),
    ("function", "f"),
    ("function", "g"),
]

# language -> (sample, outline, {name: first line of its docs}, number of imports)
CASES = {
    "python": (
        "import os\nfrom a.b import (c,\n    d)\n\n@deco\nclass A(B):\n"
        '    """Holds a."""\n\n    @property\n    def m(self, x: int = 1) -> int:\n'
        '        """Double x."""\n        def inner():\n            pass\n'
        "        return foo(x)\n\n\nasync def f(\n    a,\n):\n    return a\n",
        [("class", "A"), ("method", "A.m"), ("function", "A.m.inner"), ("function", "f")],
        {"A": "Holds a.", "m": "Double x.", "f": None},
        2,
    ),
    "javascript": (JS, JS_OUTLINE, {"A": "Holds a.", "m": "Doubles x.", "f": None}, 1),
    "javascriptreact": (
        JS + "const C = () => { return <Deep a={1}>hi</Deep>; };\n",
        [*JS_OUTLINE, ("function", "C")],
        {"A": "Holds a."},
        1,
    ),
    "typescript": (TS, TS_OUTLINE, {"I": "Speaks.", "say": None, "m": "Doubles x."}, 1),
    "typescriptreact": (
        TS + "function C() { return <b>{foo()}</b>; }\n",
        [*TS_OUTLINE, ("function", "C")],
        {"I": "Speaks."},
        1,
    ),
    "go": (
        'package p\n\nimport (\n\t"fmt"\n\tu "a/b"\n)\n\n// Foo does it.\n// Twice.\n'
        "func Foo[T any](x int) (int, error) { return fmt.Sprint(x), nil }\n\n"
        "// S is a thing.\ntype S struct {\n\ta int\n}\n\n// M moves.\nfunc (s *S) M() {}\n\n"
        "type I interface{ A() }\n\ntype (\n\tX = int\n\tY int\n)\n",
        [
            ("function", "Foo"),
            ("struct", "S"),
            ("method", "S.M"),
            ("interface", "I"),
            ("type", "X"),
            ("type", "Y"),
        ],
        {"Foo": "Foo does it.", "S": "S is a thing.", "M": "M moves."},
        2,
    ),
    "rust": (
        "use crate::a::{B, C};\nmod z;\n/// A thing.\n#[derive(Debug)]\npub struct S { a: i32 }\n"
        "impl<T> Tr for S {\n    /// Makes one.\n    pub fn new(x: i32) -> Self { foo(x) }\n}\n"
        "pub trait Tr { fn say(&self); }\npub enum E { A }\n",
        [
            ("struct", "S"),
            ("method", "S.new"),
            ("trait", "Tr"),
            ("method", "Tr.say"),
            ("enum", "E"),
        ],
        {"S": "A thing.", "new": "Makes one.", "E": None},
        2,
    ),
    "java": (
        "import a.b.C;\n/** A thing. */\npublic class A extends B {\n  /** Doubles. */\n"
        "  @Override\n  public int m(int x) { return foo(x); }\n  A() {}\n"
        "  interface I { void z(); }\n}\n",
        [
            ("class", "A"),
            ("method", "A.m"),
            ("method", "A.A"),
            ("interface", "A.I"),
            ("method", "A.I.z"),
        ],
        {"m": "Doubles.", "z": None},
        1,
    ),
    "c": (
        '#include "x/y.h"\n/* Adds. */\nstatic int *f(int a)\n{\n  return g(a);\n}\n'
        "int proto(int x);\nstruct S { int a; };\ntypedef struct { int b; } T;\n"
        "typedef int (*cb)(int);\n#define MAX(a, b) ((a) > (b) ? (a) : (b))\n",
        [
            ("function", "f"),
            ("function", "proto"),
            ("struct", "S"),
            ("struct", "T"),
            ("type", "cb"),
            ("macro", "MAX"),
        ],
        {"f": "Adds.", "S": None},
        1,
    ),
    "cpp": (
        "#include <x>\nnamespace n {\n/// A thing.\ntemplate <typename T>\nclass A : public B {\n"
        " public:\n  A();\n  /// Doubles.\n  int m(int x) const { return foo(x); }\n};\n}\n"
        "template <typename T>\nint A<T>::q(int x) { return 1; }\nA::~A() {}\nusing X = int;\n",
        [
            ("class", "A"),
            ("method", "A.A"),
            ("method", "A.m"),
            ("method", "A.q"),
            ("method", "A.~A"),
            ("type", "X"),
        ],
        {"A": None, "m": "Doubles.", "q": None},
        1,
    ),
    "csharp": (
        "using A.B;\nnamespace N {\n/// A thing.\n[Attr]\npublic class A : B {\n  /// Doubles.\n"
        "  public int M(int x) => Foo(x);\n  public int P { get; set; }\n  A() {}\n}\n"
        "interface I { void Z(); }\nenum E { X }\n}\n",
        [
            ("class", "A"),
            ("method", "A.M"),
            ("property", "A.P"),
            ("method", "A.A"),
            ("interface", "I"),
            ("method", "I.Z"),
            ("enum", "E"),
        ],
        {"M": "Doubles.", "Z": None},
        1,
    ),
    "ruby": (
        'require_relative "x"\n# A thing.\nclass A < B\n  # Doubles.\n  def m(x)\n    foo(x)\n'
        "  end\n\n  def self.s; end\nend\n\nmodule M\nend\n",
        [("class", "A"), ("method", "A.m"), ("method", "A.s"), ("module", "M")],
        {"A": "A thing.", "m": "Doubles.", "s": None},
        1,
    ),
    "php": (
        "<?php\nuse A\\B;\n/** A thing. */\nclass A extends B {\n  /** Doubles. */\n"
        "  public function m(int $x): int { return foo($x); }\n}\nfunction f() { A::s(); }\n",
        [("class", "A"), ("method", "A.m"), ("function", "f")],
        {"A": "A thing.", "m": "Doubles.", "f": None},
        1,
    ),
    "shellscript": (
        '#!/bin/bash\nsource ./x.sh\n# Greets.\nf() {\n  g "$1"\n}\nfunction h { f; }\n',
        [("function", "f"), ("function", "h")],
        {"f": "Greets.", "h": None},
        1,
    ),
    "kotlin": (
        "package a.b\nimport a.b.C\nimport a.c.*\n/** A thing. */\n@Deco\n"
        "class A<T>(val x: Int) : B() {\n  /** Doubles. */\n"
        "  override fun m(x: Int): Int = foo(x)\n  companion object {\n    fun s() { a.bar(1) }\n"
        "  }\n}\ninterface I {\n  fun z()\n}\nobject O {\n  fun q() {}\n}\n"
        "enum class E { X }\ntypealias T2 = List<Int>\nfun String.ext(): Int { return 1 }\n",
        [
            ("class", "A"),
            ("method", "A.m"),
            ("method", "A.s"),
            ("interface", "I"),
            ("method", "I.z"),
            ("class", "O"),
            ("method", "O.q"),
            ("class", "E"),
            ("type", "T2"),
            ("function", "ext"),
        ],
        {"A": "A thing.", "m": "Doubles.", "z": None},
        2,
    ),
    "swift": (
        "import Foundation\nimport struct A.B\n/// A thing.\n@objc public class A<T>: B {\n"
        "  /// Doubles.\n  func m(_ x: Int) -> Int { return foo(x) }\n  init(x: Int) {}\n}\n"
        "struct S { var a: Int }\nenum E { case x }\nprotocol P { func z() }\n"
        "extension A { func e() { self.m(1) } }\ntypealias T = Int\nfunc f() { A(x: 1) }\n",
        [
            ("class", "A"),
            ("method", "A.m"),
            ("method", "A.init"),
            ("struct", "S"),
            ("enum", "E"),
            ("interface", "P"),
            ("method", "P.z"),
            ("method", "A.e"),
            ("type", "T"),
            ("function", "f"),
        ],
        {"A": "A thing.", "m": "Doubles.", "e": None},
        2,
    ),
    "scala": (
        "package a.b\nimport a.b.{C, D => E}\nimport x._\n/** A thing. */\n@deco\n"
        "class A[T](x: Int) extends B {\n  /** Doubles. */\n  def m(x: Int): Int = foo(x)\n}\n"
        "object O { def q(): Unit = { a.bar(1) } }\ntrait Tr { def z(): Unit }\n"
        "case class D(a: Int)\nenum E { case X }\ndef top(x: Int) = new A(x)\n",
        [
            ("class", "A"),
            ("method", "A.m"),
            ("class", "O"),
            ("method", "O.q"),
            ("trait", "Tr"),
            ("method", "Tr.z"),
            ("class", "D"),
            ("enum", "E"),
            ("function", "top"),
        ],
        {"A": "A thing.", "m": "Doubles.", "z": None},
        2,
    ),
    "lua": (
        'local x = require("a.b")\nrequire "c"\n--- Doubles.\n-- Twice.\nlocal function f(a)\n'
        "  return g(a)\nend\nfunction M.n(x) return x end\nfunction M:o(x) return self:p(x) end\n"
        "M.q = function(a) return a end\nlocal h = function() end\n",
        [
            ("function", "f"),
            ("method", "M.n"),
            ("method", "M.o"),
            ("method", "M.q"),
            ("function", "h"),
        ],
        {"f": "Doubles.", "n": None},
        2,
    ),
    "haskell": (
        "module A.B (f) where\nimport qualified Data.Map as M\nimport C (x, y)\n"
        "-- | A thing.\ndata T = A Int | B\n-- | Doubles.\nf :: Int -> Int\nf 0 = foo 1\n"
        "f x = M.lookup x\n\nclass C a where\n  z :: a -> Int\ninstance D T where\n  z _ = 1\n"
        "type S = Int\ng = f 1\n",
        [
            ("type", "T"),
            ("function", "f"),
            ("class", "C"),
            ("method", "C.z"),
            ("method", "D.z"),
            ("type", "S"),
            ("function", "g"),
        ],
        {"T": "A thing.", "f": "Doubles."},
        2,
    ),
    "sql": (
        "-- A thing.\nCREATE TABLE app.users (\n  id INT PRIMARY KEY\n);\n/* Shows. */\n"
        "CREATE VIEW v AS SELECT * FROM users;\n"
        "CREATE FUNCTION f(a INT) RETURNS INT AS $$ SELECT a + g(1); $$ LANGUAGE sql;\n",
        [("table", "app.users"), ("view", "v"), ("function", "f")],
        {"users": "A thing.", "v": "Shows.", "f": None},
        0,
    ),
    "html": (
        '<html><head><script src="a.js"></script></head>\n<body><div id="main" class="c">\n'
        '<my-part id="part">x</my-part></div></body></html>\n',
        [("element", "main"), ("element", "main.part")],
        {},
        1,
    ),
    "css": (
        '@import "a.css";\n:root { --main: red; }\n/* A box. */\n'
        ".box, #top > a:hover { color: var(--main); }\n@keyframes spin { from { top: 0 } }\n",
        [("property", "--main"), ("rule", "box"), ("rule", "spin")],
        {"box": "A box."},
        1,
    ),
    "json": (
        '{"name": "x", "scripts": {"build": "tsc", "deep": {"no": 1}}}\n',
        [("key", "name"), ("key", "scripts"), ("key", "scripts.build"), ("key", "scripts.deep")],
        {},
        0,
    ),
    "jsonc": (
        '{\n  // Why.\n  "name": "x"\n}\n',
        [("key", "name")],
        {"name": "Why."},
        0,
    ),
    "yaml": (
        '# Top.\nname: x\njobs:\n  # Builds.\n  build:\n    steps: 1\n"q": 1\n',
        [("key", "name"), ("key", "jobs"), ("key", "jobs.build"), ("key", "q")],
        {"name": "Top.", "build": "Builds."},
        0,
    ),
    "toml": (
        '# Top.\ntitle = "x"\n[tool.a]\nb = 1\n[[bin]]\nname = "c"\n',
        [
            ("key", "title"),
            ("table", "tool.a"),
            ("key", "tool.a.b"),
            ("table", "bin"),
            ("key", "bin.name"),
        ],
        {"title": "Top."},
        0,
    ),
    "markdown": (
        "# Title\nText.\n\n## Part one\n```py\nx\n```\n\n## Part two\nText.\n",
        [("section", "Title"), ("section", "Title.Part one"), ("section", "Title.Part two")],
        {},
        0,
    ),
}
