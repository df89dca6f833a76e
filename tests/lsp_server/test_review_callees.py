from pathlib import Path

import pytest

from qcoder.lsp_server.review_matches import matches
from qcoder.lsp_server.review_rules import rules_for


def found(root: Path, path: str) -> list[tuple[str, int]]:
    file = root / path
    rules = rules_for("python")
    hits = matches(rules, file.read_text(), "python", file, root)
    return [(rule.name, match.start[0]) for rule, match in hits]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "src" / "pkg"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from .store import save\n")
    (folder / "store.py").write_text(
        "async def save(name, value): ...\n\n\n"
        "class Store:\n    async def load(self, name): ...\n"
        "    def size(self, width, height): ...\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    "header",
    [
        "from .store import save",
        "from pkg.store import save",
        "from pkg import save",
        "from . import save",
    ],
)
def test_a_coroutine_of_another_file_is_known(package: Path, header: str) -> None:
    text = f"{header}\nasync def f():\n    save(1, 2)\n    await save(1, 2)\n"
    (package / "src/pkg/use.py").write_text(text)
    assert found(package, "src/pkg/use.py") == [("unawaited-coroutine", 2)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("store = Store()\n    store.load(1)", "unawaited-coroutine"),
        ("store = Store()\n    store.size(height, width)", "swapped-arguments"),
        ("store = Store()\n    store.size(1)", "wrong-arguments"),
        ("store = Store()\n    store = other()\n    store.size(1)", ""),
        ("store = Store(1)\n    await store.load(1)", ""),
    ],
)
def test_the_class_of_a_variable_is_known(package: Path, body: str, expected: str) -> None:
    text = f"from .store import Store\nasync def f(width, height):\n    {body}\n"
    (package / "src/pkg/use.py").write_text(text)
    names = [name for name, _ in found(package, "src/pkg/use.py")]
    assert names == ([expected] if expected else [])


def test_a_sibling_module_is_not_taken_for_its_package(package: Path) -> None:
    (package / "src/pkg/__init__.py").write_text("async def setup(a, b): ...\n")
    (package / "src/pkg/api.py").write_text("def setup(a): ...\n")
    (package / "src/pkg/use.py").write_text(
        "from . import api, store\nasync def f():\n    api.setup(1)\n    store.save(1, 2)\n"
    )
    assert found(package, "src/pkg/use.py") == [("unawaited-coroutine", 3)]


def test_a_name_that_functions_import_from_different_places_is_unclear(package: Path) -> None:
    (package / "src/pkg/other.py").write_text("def save(one): ...\n")
    (package / "src/pkg/use.py").write_text(
        "async def f():\n    from .store import save\n    save(1, 2)\n"
        "def g():\n    from .other import save\n    save(1)\n"
    )
    assert found(package, "src/pkg/use.py") == []


def test_an_edited_import_is_read_again(package: Path) -> None:
    use = package / "src/pkg/use.py"
    use.write_text("from .store import save\nasync def f():\n    save(1, 2)\n")
    assert found(package, "src/pkg/use.py")
    (package / "src/pkg/store.py").write_text("def save(name, value, more=0): ...\n")
    assert found(package, "src/pkg/use.py") == []


def test_files_outside_the_workspace_and_secrets_are_not_read(package: Path) -> None:
    secret = package / "src/pkg/secrets.py"
    secret.write_text("async def save(a): ...\n")
    (package / "src/pkg/use.py").write_text(
        "from .secrets import save\nasync def f():\n    save(1, 2)\n"
    )
    assert found(package, "src/pkg/use.py") == []
    (package / "src/pkg/use.py").write_text(
        "from .....outside import save\nasync def f():\n    save(1, 2)\n"
    )
    assert found(package, "src/pkg/use.py") == []
