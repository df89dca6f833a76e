"""Paths of a workspace by what imports may call them: the rule of thumb for every language."""

from __future__ import annotations

import random

import pytest

from qcoder.context.modules import ModuleMap, folders_above, normal

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
    assert modules.resolve("a/b", "c.py") == []


def test_random_changes_leave_what_is_there() -> None:
    rng = random.Random(7)
    names = ["a.py", "b.go", "__init__.py", "x/a.py", "x/y/a.py", "x/y/index.ts", "z/q/w/a.rs"]
    modules, expected = ModuleMap(), set()
    for _ in range(300):
        path = rng.choice(names)
        if path in expected:
            modules.remove(path)
            expected.discard(path)
        else:
            modules.add(path)
            expected.add(path)
        assert {name for name in names if name in modules} == expected
        assert set(modules.below("")) == expected
        for folder in ("x", "x/y", "z/q", "nowhere"):
            inside = {name for name in expected if name.startswith(folder + "/")}
            assert modules.is_folder(folder) == bool(inside)
            assert modules.in_folder(folder) == sorted(
                name for name in inside if name.count("/") == folder.count("/") + 1
            )


def test_folders_above_end_at_the_workspace() -> None:
    assert list(folders_above("a/b/c.py")) == ["a/b", "a", ""]
    assert list(folders_above("c.py")) == [""]
    assert normal("a/b", "../c") == "a/c"
    assert normal("a", "..") == ""
