"""Imports lead to the files, and to the definitions, that their language says they mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from qcoder.context.index import Index
from qcoder.context.segments import Document

PYTHON = {
    "pyproject.toml": '[tool.setuptools.package-dir]\n"brand.core" = "core"\n',
    "core/engine.py": "class Engine: ...\n",
    "src/pkg/__init__.py": "from .impl import _Engine as Engine\nfrom .more import *\n",
    "src/pkg/impl.py": "class _Engine:\n    def run(self): ...\n",
    "src/pkg/more/__init__.py": "from pkg.more.deep import helper\n",
    "src/pkg/more/deep.py": "def helper(): ...\n",
    "src/pkg/logging.py": "def setup(): ...\n",
    "src/pkg/stubbed.pyi": "def typed() -> int: ...\n",
    "src/pkg/loop.py": "from pkg.loop import ghost\nfrom pkg.pool import ghost\n",
    "src/pkg/pool.py": "from pkg.loop import ghost\n",
    "tests/test_pkg.py": "import pkg\n",
    "tests/support.py": "",
    "services/billing/app/models.py": "class Invoice: ...\n",
    "services/billing/app/__init__.py": "",
    "services/mail/app/models.py": "class Letter: ...\n",
    "services/mail/app/__init__.py": "",
    "services/mail/app/send.py": "",
    "tools/os.py": "",
}
JAVASCRIPT = {
    "tsconfig.base.json": '{"compilerOptions": {"baseUrl": ".", "paths": {"@lib/*": ["libs/*/src"]}}}',
    "web/tsconfig.json": (
        '{\n  // Aliases.\n  "extends": "../tsconfig.base",\n'
        '  "compilerOptions": {"baseUrl": "src", "paths": {"@/*": ["*"], "~api": ["api/index.ts"],}},\n}\n'
    ),
    "web/src/app.tsx": 'import x from "./util";\n',
    "web/src/util.ts": "export function x() {}\n",
    "web/src/util.test.ts": "",
    "web/src/api/index.ts": 'export * from "./client";\nexport { Raw as Cooked } from "./raw.js";\n',
    "web/src/api/client.ts": "export class Client {}\n",
    "web/src/ui/index.ts": (
        'export { default as Card } from "./card";\nexport { default as Badge } from "./badge";\n'
        'export { default } from "./badge";\n'
    ),
    "web/src/ui/card.tsx": "function helper() {}\nexport default function Panel() {}\n",
    "web/src/ui/badge.ts": 'import Badge from "./round";\nexport default Badge;\n',
    "web/src/ui/round.ts": "class Badge {}\nexport default Badge;\n",
    "web/src/api/raw.ts": "export class Raw {}\n",
    "web/src/page.vue": "",
    "web/src/shapes.d.ts": "",
    "mobile/tsconfig.json": '{"extends": ["../tsconfig.base.json"]}',
    "mobile/main.ts": "",
    "libs/ui/src/index.ts": "",
    "libs/ui/package.json": (
        '{"name": "@org/ui", "imports": {"#inner/*": "./src/inner/*.ts"}, "exports": {'
        '".": {"import": {"types": "./dist/index.d.ts"}}, "./button": "./dist/esm/button.js",'
        '"./icons/*": "./src/icons/*.tsx"}}'
    ),
    "libs/ui/src/button.tsx": "",
    "libs/ui/src/icons/star.tsx": "",
    "libs/ui/src/inner/deep.ts": "",
    "libs/plain/package.json": '{"name": "plain", "main": "lib/main.js"}',
    "libs/plain/lib/main.js": "",
    "libs/plain/lib/extra.js": "",
}
GO = {
    "go.mod": "module example.com/org/app\n\ngo 1.22\n",
    "main.go": 'package main\nimport "example.com/org/app/store"\n',
    "store/store.go": "package store\n",
    "store/disk.go": "package store\n",
    "store/store_test.go": "package store\n",
    "other/store/x.go": "package store\n",
    "internal/encoding/json/codec.go": "package json\n",
    "tool/go.mod": "module example.com/org/tool\n",
    "tool/run/run.go": "package run\n",
    "vendor/github.com/a/b/b.go": "package b\n",
}
GO_WITHOUT_MODULE = {
    "main.go": "package main\n",
    "internal/encoding/json/codec.go": "package json\n",
}
RUST = {
    "Cargo.toml": '[workspace]\nmembers = ["engine", "cli"]\n',
    "engine/Cargo.toml": '[package]\nname = "fast-engine"\n',
    "engine/src/lib.rs": "pub mod store;\nmod net;\npub use store::disk::Disk as Storage;\n",
    "engine/src/store/mod.rs": "pub mod disk;\n",
    "engine/src/store/disk.rs": "pub struct Disk;\n",
    "engine/src/net.rs": "mod wire;\n",
    "engine/src/net/wire.rs": "use super::Conn;\n",
    "cli/Cargo.toml": '[package]\nname = "cli"\n[lib]\npath = "source/root.rs"\n',
    "cli/source/root.rs": "",
    "cli/source/args.rs": "",
}
PACKAGES = {
    "app/src/main/java/org/acme/Main.java": "package org.acme;\nclass Main {}\n",
    "app/src/main/java/org/acme/util/Text.java": "package org.acme.util;\npublic class Text { class Inner {} static int count() { return 0; } }\n",
    "app/src/main/java/org/acme/util/Other.java": "package org.acme.util;\npublic class Other {}\n",
    "app/src/test/java/org/acme/util/Text2.java": "package org.acme.util2;\nclass Text {}\n",
    "k/Files.kt": "package org.acme.io\n\nfun readAll() {}\n\nclass Reader\n",
    "k/Use.kt": "package org.acme\n\nimport org.acme.io.readAll\n",
    "cs/Thing.cs": "namespace Acme.Core;\npublic class Thing {}\n",
    "cs/Use.cs": "using Acme.Core;\nclass Use {}\n",
    "php/Model.php": "<?php\nnamespace App\\Model;\nclass User {}\n",
    "php/use.php": "<?php\nuse App\\Model\\User;\n",
    "Sources/Core/A.swift": "class A {}\n",
    "Sources/Core/Deep/B.swift": "class B {}\n",
    "Sources/App/main.swift": "import Core\n",
}
C = {
    "src/main.c": '#include "util.h"\n',
    "src/util.h": "int util(void);\n",
    "src/util.c": "int util(void) { return 1; }\n",
    "other/util.h": "int other(void);\n",
    "include/net/wire.h": "int wire(void);\n",
    "src/net/wire.c": "",
    "far/away/deep/wire.c": "",
    "lib/x.hpp": "",
    "lib/x.cpp": "",
}
OTHERS = {
    "lib/thing.rb": "",
    "app/run.rb": "",
    "lua/plug/init.lua": "",
    "lua/plug/core.lua": "",
    "hs/Data/Tree.hs": "",
    "hs/Main.hs": "",
    "site/index.html": "",
    "site/js/app.js": "",
}

CASES = [
    (PYTHON, "tests/test_pkg.py", "pkg", ["src/pkg/__init__.py"]),
    (PYTHON, "tests/test_pkg.py", "support", ["tests/support.py"]),
    (PYTHON, "tests/test_pkg.py", "pkg/more", ["src/pkg/more/__init__.py"]),
    (PYTHON, "tests/test_pkg.py", "pkg/stubbed", ["src/pkg/stubbed.pyi"]),
    (PYTHON, "tests/test_pkg.py", "brand/core/engine", ["core/engine.py"]),
    (PYTHON, "src/pkg/more/deep.py", ".", ["src/pkg/more/__init__.py"]),
    (PYTHON, "src/pkg/more/deep.py", "./../impl", ["src/pkg/impl.py"]),
    (PYTHON, "src/pkg/impl.py", "logging", []),
    (PYTHON, "src/pkg/impl.py", "os", []),
    (PYTHON, "src/pkg/impl.py", "requests", []),
    (PYTHON, "src/pkg/impl.py", "./../../../../x", []),
    (PYTHON, "services/mail/app/send.py", "app/models", ["services/mail/app/models.py"]),
    (PYTHON, "services/billing/app/models.py", "app/models", []),
    (PYTHON, "tests/test_pkg.py", "app/models", ["services/billing/app/models.py", "services/mail/app/models.py"]),
    (JAVASCRIPT, "web/src/app.tsx", "./util", ["web/src/util.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "./util.js", ["web/src/util.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "./page.vue", ["web/src/page.vue"]),
    (JAVASCRIPT, "web/src/app.tsx", "./page.vue?raw", ["web/src/page.vue"]),
    (JAVASCRIPT, "web/src/app.tsx", "./shapes.js", ["web/src/shapes.d.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "./api", ["web/src/api/index.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "@/util", ["web/src/util.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "~api", ["web/src/api/index.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "api/client", ["web/src/api/client.ts"]),
    (JAVASCRIPT, "web/src/app.tsx", "react", []),
    (JAVASCRIPT, "mobile/main.ts", "@lib/ui", ["libs/ui/src/index.ts"]),
    (JAVASCRIPT, "mobile/main.ts", "@org/ui", ["libs/ui/src/index.ts"]),
    (JAVASCRIPT, "mobile/main.ts", "@org/ui/button", ["libs/ui/src/button.tsx"]),
    (JAVASCRIPT, "mobile/main.ts", "@org/ui/icons/star", ["libs/ui/src/icons/star.tsx"]),
    (JAVASCRIPT, "libs/ui/src/button.tsx", "#inner/deep", ["libs/ui/src/inner/deep.ts"]),
    (JAVASCRIPT, "mobile/main.ts", "plain", ["libs/plain/lib/main.js"]),
    (JAVASCRIPT, "mobile/main.ts", "plain/lib/extra", ["libs/plain/lib/extra.js"]),
    (GO, "main.go", "example.com/org/app/store", ["store/disk.go", "store/store.go"]),
    (GO, "main.go", "example.com/org/tool/run", ["tool/run/run.go"]),
    (GO, "main.go", "github.com/a/b", ["vendor/github.com/a/b/b.go"]),
    (GO, "main.go", "fmt", []),
    (GO, "main.go", "encoding/json", []),
    (GO_WITHOUT_MODULE, "main.go", "encoding/json", ["internal/encoding/json/codec.go"]),
    (GO, "store/store_test.go", "example.com/org/app/store", ["store/disk.go", "store/store.go"]),
    (RUST, "engine/src/lib.rs", "./store", ["engine/src/store/mod.rs"]),
    (RUST, "engine/src/store/mod.rs", "./disk", ["engine/src/store/disk.rs"]),
    (RUST, "engine/src/net.rs", "./wire", ["engine/src/net/wire.rs"]),
    (RUST, "engine/src/net.rs", "crate/store/disk/Disk", ["engine/src/store/disk.rs"]),
    (RUST, "engine/src/net.rs", "crate/Storage", ["engine/src/lib.rs"]),
    (RUST, "engine/src/net/wire.rs", "super/Conn", ["engine/src/net.rs"]),
    (RUST, "engine/src/store/disk.rs", "super/super/net", ["engine/src/net.rs"]),
    (RUST, "engine/src/lib.rs", "store/disk/Disk", ["engine/src/store/disk.rs"]),
    (RUST, "cli/source/args.rs", "fast_engine/store/disk", ["engine/src/store/disk.rs"]),
    (RUST, "cli/source/args.rs", "crate/Main", ["cli/source/root.rs"]),
    (RUST, "cli/source/args.rs", "serde/Serialize", []),
    (PACKAGES, "app/src/main/java/org/acme/Main.java", "org/acme/util/Text", ["app/src/main/java/org/acme/util/Text.java"]),
    (PACKAGES, "app/src/main/java/org/acme/Main.java", "org/acme/util/Text/Inner", ["app/src/main/java/org/acme/util/Text.java"]),
    (PACKAGES, "app/src/main/java/org/acme/Main.java", "org/acme/util", ["app/src/main/java/org/acme/util/Other.java", "app/src/main/java/org/acme/util/Text.java"]),
    (PACKAGES, "app/src/main/java/org/acme/Main.java", "java/util/List", []),
    (PACKAGES, "k/Use.kt", "org/acme/io/readAll", ["k/Files.kt"]),
    (PACKAGES, "cs/Use.cs", "Acme/Core", ["cs/Thing.cs"]),
    (PACKAGES, "php/use.php", "App/Model/User", ["php/Model.php"]),
    (PACKAGES, "Sources/App/main.swift", "Core", ["Sources/Core/A.swift", "Sources/Core/Deep/B.swift"]),
    (C, "src/main.c", "util.h", ["src/util.h", "src/util.c"]),
    (C, "src/main.c", "<net/wire.h>", ["include/net/wire.h", "src/net/wire.c"]),
    (C, "src/main.c", "../lib/x.hpp", ["lib/x.hpp", "lib/x.cpp"]),
    (C, "src/main.c", "<stdio.h>", []),
    (OTHERS, "app/run.rb", "thing", ["lib/thing.rb"]),
    (OTHERS, "lua/plug/core.lua", "plug", ["lua/plug/init.lua"]),
    (OTHERS, "hs/Main.hs", "Data/Tree", ["hs/Data/Tree.hs"]),
    (OTHERS, "site/index.html", "./js/app.js", ["site/js/app.js"]),
]  # fmt: skip


def build(root: Path, tree: Mapping[str, str]) -> Index:
    for path, text in tree.items():
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)
    index = Index.open(root, root.parent / "cache")
    index.refresh()
    return index


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Index]:
    trees = {id(tree): tree for tree, *_ in CASES}
    return {
        key: build(tmp_path_factory.mktemp("tree") / "root", tree) for key, tree in trees.items()
    }


@pytest.mark.parametrize(
    ("tree", "importer", "module", "expected"),
    [pytest.param(*case, id=f"{case[1]}:{case[2]}") for case in CASES],
)
def test_module_leads_to_its_files(
    indexes: dict[int, Index],
    tree: Mapping[str, str],
    importer: str,
    module: str,
    expected: list[str],
) -> None:
    index = indexes[id(tree)]
    assert index.record(importer) is not None
    assert list(index.resolve(module, importer)) == expected


@pytest.mark.parametrize(
    ("tree", "importer", "statement", "name", "expected"),
    [
        (PYTHON, "tests/test_pkg.py", "from pkg import Engine", "Engine", "src/pkg/impl.py"),
        (PYTHON, "tests/test_pkg.py", "from pkg import Engine as E", "E", "src/pkg/impl.py"),
        (PYTHON, "tests/test_pkg.py", "from pkg import helper", "helper", "src/pkg/more/deep.py"),
        (PYTHON, "tests/test_pkg.py", "from pkg import *", "helper", "src/pkg/more/deep.py"),
        (PYTHON, "tests/test_pkg.py", "from pkg import run", "run", None),
        (PYTHON, "tests/test_pkg.py", "from pkg.loop import ghost", "ghost", None),
        (JAVASCRIPT, "web/src/app.tsx", 'import { Client } from "~api"', "Client", "web/src/api/client.ts"),
        (JAVASCRIPT, "web/src/app.tsx", 'import { Cooked } from "./api"', "Cooked", "web/src/api/raw.ts"),
        (JAVASCRIPT, "web/src/app.tsx", 'import { Card } from "./ui"', "Card", "web/src/ui/card.tsx"),
        (JAVASCRIPT, "web/src/app.tsx", 'import { Badge } from "./ui"', "Badge", "web/src/ui/round.ts"),
        (JAVASCRIPT, "web/src/app.tsx", 'import { default as Badge } from "./ui"', "Badge", "web/src/ui/round.ts"),
        (RUST, "cli/source/args.rs", "use fast_engine::Storage;", "Storage", "engine/src/store/disk.rs"),
        (PACKAGES, "app/src/main/java/org/acme/Main.java", "import org.acme.util.Text.Inner;", "Inner", "app/src/main/java/org/acme/util/Text.java"),
        (PACKAGES, "app/src/main/java/org/acme/Main.java", "import static org.acme.util.Text.count;", "count", "app/src/main/java/org/acme/util/Text.java"),
        (PACKAGES, "k/Use.kt", "import org.acme.io.readAll", "readAll", "k/Files.kt"),
    ],
)  # fmt: skip
def test_name_leads_through_re_exports_to_its_definition(
    indexes: dict[int, Index],
    tree: Mapping[str, str],
    importer: str,
    statement: str,
    name: str,
    expected: str | None,
) -> None:
    from qcoder.context.imports import parse_imports

    index = indexes[id(tree)]
    record = index.record(importer)
    assert record is not None
    (found,) = parse_imports([statement], record.facts.language)
    paths = [record.path for record, _ in index.imported(found, name, importer)]
    assert paths == ([expected] if expected else [])


def test_open_buffer_of_a_project_file_counts_at_once(tmp_path: Path) -> None:
    index = build(tmp_path / "root", {"a/x.ts": "", "b/lib/y.ts": "", "tsconfig.json": "{}"})
    assert index.resolve("@b/y", "a/x.ts") == ()
    text = '{"compilerOptions": {"paths": {"@b/*": ["./b/lib/*"]}}}'
    index.overlay("tsconfig.json", Document("file:///t", 1, "jsonc", text))
    assert index.resolve("@b/y", "a/x.ts") == ("b/lib/y.ts",)
    index.drop_overlay("tsconfig.json")
    assert index.resolve("@b/y", "a/x.ts") == ()


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", '{"name": 1, "exports": 5}', "[\n" * 5000, '{"exports": {"a": 1e999, "b": [[{}]]}}',
     '{"compilerOptions": {"baseUrl": 3, "paths": {"x": 7, "*": [null]}}, "extends": [1]}',
     '{"a":\n' * 3000 + "1" + "}" * 3000, "/*\n" * 50_000, '{"name": 12345678901234567890123}'],
)  # fmt: skip
def test_project_file_that_makes_no_sense_says_nothing(tmp_path: Path, text: str) -> None:
    tree = {
        "package.json": text,
        "tsconfig.json": text,
        "a.ts": "",
        "Cargo.toml": text,
        "go.mod": text,
    }
    index = build(tmp_path / "root", tree)
    assert index.resolve("x/y", "a.ts") == ()
    assert index.num_files() == 5


def test_remembered_resolution_follows_files_that_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import helper\n")
    index = Index.open(tmp_path, tmp_path / ".cache")
    index.refresh()
    assert index.resolve("helper", "a.py") == ()
    (tmp_path / "helper.py").write_text("x = 1\n")
    index.update("helper.py")
    assert index.resolve("helper", "a.py") == ("helper.py",)
    (tmp_path / "helper.py").unlink()
    index.update("helper.py")
    assert index.resolve("helper", "a.py") == ()
