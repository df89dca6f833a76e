"""What is ranked first at a cursor, signal by signal, in real little workspaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from qcoder.context.chunks import rank_chunks
from qcoder.context.history import History
from qcoder.context.index import Index
from qcoder.context.languages import language_of
from qcoder.context.lookup import Lookup
from qcoder.context.neighbours import FILE_SIGNALS
from qcoder.context.rank import ScoredSymbol, rank_symbols
from qcoder.context.segments import Document
from qcoder.context.signals import SYMBOL_SIGNALS, WEIGHTS
from qcoder.context.site import make_site
from qcoder.context.spoken import Spoken, words_of

PYTHON = {
    "shop/orders.py": (
        "class Order:\n    def save(self, force):\n        pass\n\n    def cancel(self):\n        pass\n\n"
        "def load_order(number) -> Order:\n    return Order()\n"
    ),
    "shop/users.py": (
        "from shop.base import Base\n\nclass User(Base):\n    def save(self):\n        pass\n\n"
        "def load_user(name) -> User:\n    return User()\n"
    ),
    "shop/base.py": "class Base:\n    def refresh(self):\n        pass\n",
    "shop/pool.py": "class ConnectionPool:\n    def borrow(self):\n        pass\n",
    "other/store.py": "def save(anything):\n    pass\n\ndef unrelated_thing():\n    pass\n",
    "other/use.py": "from shop.users import load_user\n\nuser = load_user('x')\nuser.save()\n",
}
TYPESCRIPT = {
    "src/repo.ts": (
        "export class Repo {\n  findOne(id: string): User { return null }\n"
        "  where(x: string): this { return this }\n}\n"
    ),
    "src/user.ts": "export class User {\n  rename(name: string): void {}\n}\n",
    "src/index.ts": "export * from './repo'\nexport * from './user'\n",
}
GO = {
    "go.mod": "module example.com/app\n",
    "store/store.go": (
        "package store\n\ntype Store struct {\n\tcache *Cache\n}\n\n"
        "func New() *Store {\n\treturn nil\n}\n\nfunc hidden() {}\n"
    ),
    "store/cache.go": (
        "package store\n\ntype Cache struct{}\n\nfunc (c *Cache) Evict(n int) {}\n\n"
        "func (s *Store) Load(key string) error {\n\treturn nil\n}\n"
    ),
}


def workspace(root: Path, files: Mapping[str, str]) -> Index:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    index = Index.open(root, root / ".cache")
    index.refresh()
    return index


def ranked(
    index: Index, path: str, before: str, weights: Mapping[str, float] = WEIGHTS
) -> list[ScoredSymbol]:
    index.overlay(path, Document(f"file:///{path}", 1, language_of(path), before))
    record = index.record(path)
    assert record is not None
    end = before.count("\n") + 1
    site = make_site(record, before, "", (0, end), ())
    return rank_symbols(Lookup(index, site), site, rank_chunks(index, site), 400, weights)


def check(index: Index, path: str, before: str, expected: str) -> None:
    """The best definition is `owner.name` of a path, written `path:owner.name`."""
    best = ranked(index, path, before)[0]
    owner = f"{best.symbol.owner}." if best.symbol.owner else ""
    assert f"{best.record.path}:{owner}{best.symbol.name}" == expected, best


def test_imported_name_wins_over_its_namesakes(tmp_path: Path) -> None:
    index = workspace(tmp_path, PYTHON)
    check(index, "new.py", "from other.store import save\n\n", "other/store.py:save")


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("from shop.orders import Order\n\norder = Order()\norder.sa", "shop/orders.py:Order.save"),
        (
            "from shop.users import User\n\ndef f(item: User):\n    item.sa",
            "shop/users.py:User.save",
        ),
        ("from shop.users import load_user\n\nx = load_user(1)\nx.re", "shop/base.py:Base.refresh"),
        ("from shop import users\n\nusers.lo", "shop/users.py:load_user"),
        ("from shop import users as people\n\npeople.lo", "shop/users.py:load_user"),
        ("def f(connection_pool):\n    connection_pool.", "shop/pool.py:ConnectionPool.borrow"),
        (
            "from shop.pool import ConnectionPool\n\nclass A:\n    def __init__(self):\n"
            "        self.idle = ConnectionPool()\n\n    def f(self):\n        self.idle.",
            "shop/pool.py:ConnectionPool.borrow",
        ),
        (
            "from shop.base import Base\n\nclass Mine(Base):\n    def f(self):\n        self.ref",
            "shop/base.py:Base.refresh",
        ),
        (
            "from shop.pool import ConnectionPool\n\nclass Mine:\n    def mine(self):\n        pass\n\n"
            "def visit(self: ConnectionPool, node):\n    self.",
            "shop/pool.py:ConnectionPool.borrow",
        ),
        (
            "from shop.base import Base\n\nclass Mine(Base):\n    def f(self):\n"
            "        class Local:\n            pass\n\n        self.ref",
            "shop/base.py:Base.refresh",
        ),
    ],
    ids=[
        "value",
        "annotation",
        "result",
        "module",
        "alias",
        "spelled",
        "field",
        "base",
        "typed self",
        "local class",
    ],
)
def test_receiver_decides_in_python(tmp_path: Path, before: str, expected: str) -> None:
    check(workspace(tmp_path, PYTHON), "new.py", before, expected)


def test_a_module_imported_under_another_name_is_not_meant_by_its_own(tmp_path: Path) -> None:
    files = {**PYTHON, "other/orders.py": "class OldOrder:\n    pass\n"}
    before = "from shop import orders\nfrom other import orders as old_orders\n\n"
    index = workspace(tmp_path, files)

    def behind(module: str) -> set[str]:
        found = ranked(index, "new.py", f"{before}{module}.")
        return {s.symbol.name for s in found if "after the dot" in s.signals}

    assert behind("orders") == {"Order", "load_order"}
    assert behind("old_orders") == {"OldOrder"}


def test_classes_stand_behind_the_name_of_a_module(tmp_path: Path) -> None:
    body = "def view_{0}(request):\n    store = open_store(request)\n    store.save_all(request)\n"
    files = {f"views/v{i}.py": body.format(i) for i in range(4)}
    files["lib/stores.py"] = "class Store:\n    def save_all(self, request):\n        pass\n"
    files["lib/forms.py"] = "class Form:\n    pass\n"
    before = (
        "from lib import forms\n\ndef view(request):\n    store = open_store(request)\n    forms."
    )
    check(workspace(tmp_path, files), "views/new.py", before, "lib/forms.py:Form")


def test_a_package_hands_on_what_it_imports(tmp_path: Path) -> None:
    files = {
        "kit/__init__.py": "from .clock import Clock\nfrom .rows import *\n",
        "kit/clock.py": "class Clock:\n    pass\n\ndef unnamed():\n    pass\n",
        "kit/rows.py": "class Row:\n    pass\n",
    }
    found = ranked(workspace(tmp_path, files), "new.py", "import kit\n\nkit.")
    assert {s.symbol.name for s in found if "after the dot" in s.signals} == {"Clock", "Row"}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("info_cache = objects.", "InstanceInfoCache"),
        ("new_flavor = objects.", "Flavor"),
        ("class Host:\n    dev_types = objects.", "DeviceType"),
        ("def test_service_not_found():\n    raise objects.", "ServiceNotFound"),
    ],
)
def test_names_that_the_lines_speak_of_come_first(
    tmp_path: Path, before: str, expected: str
) -> None:
    names = ["Instance", "InstanceInfo", "InstanceInfoCache", "Flavor", "FlavorList", "DeviceType"]
    names += ["HostNotFound", "ServiceNotFound", "Service", "NotFound"]
    text = "\n\n".join(f"class {name}:\n    pass" for name in names)
    index = workspace(tmp_path, {"objects.py": text})
    check(index, "new.py", f"import objects\n\n{before}", f"objects.py:{expected}")


def test_an_object_calls_its_own_private_methods(tmp_path: Path) -> None:
    methods = "".join(f"    def {name}(self):\n        pass\n\n" for name in ("wipe", "_load_rows"))
    index = workspace(tmp_path, {"table.py": f"class Table:\n{methods}"})
    inside = (
        "from table import Table\n\nclass Mine(Table):\n    def load_rows(self):\n        self."
    )
    outside = "from table import Table\n\ndef load_rows(table: Table):\n    table."
    names = [[s.symbol.name for s in ranked(index, "new.py", text)] for text in (inside, outside)]
    assert [found.index("_load_rows") < found.index("wipe") for found in names] == [True, False]


def test_the_words_of_a_name() -> None:
    assert words_of("HTTPServerErrors") == {"http", "server", "error"}
    assert words_of("_load_2_classes") == {"load", "2", "classe"}
    assert words_of("größe_bus") == words_of("Größe_Bus")
    assert words_of("__") == frozenset()
    assert Spoken({}, ["a_b"]).share("a_b") == 0
    near = Spoken({"a_b": 0, "c": 40}, ["a_b", "a_b_d", "b", "c"])
    assert 1 > near.share("a_b") > near.share("a_b_d") > near.share("c") > 0
    assert Spoken({"__": 0}, ["__"]).share("__") == 0


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("import { Repo } from './index'\n\nconst r = new Repo()\nr.fi", "src/repo.ts:Repo.findOne"),
        ("import { Repo } from './repo'\n\nfunction f(r: Repo) {\n  r.where(1).fi", "src/repo.ts:Repo.findOne"),
        ("import { Repo } from './repo'\n\nfunction f(r: Repo) {\n  r.findOne(1).", "src/user.ts:User.rename"),
        ("import { User } from './user'\n\nclass A {\n  user: User\n  f() {\n    this.user.", "src/user.ts:User.rename"),
    ],
    ids=["value", "chain", "result", "field"],
)  # fmt: skip
def test_receiver_decides_in_typescript(tmp_path: Path, before: str, expected: str) -> None:
    check(workspace(tmp_path, TYPESCRIPT), "src/new.ts", before, expected)


@pytest.mark.parametrize(
    ("path", "before", "expected"),
    [
        ("cmd/main.go", 'package main\n\nimport "example.com/app/store"\n\nfunc f() {\n\tstore.N', "store/store.go:New"),
        ("cmd/main.go", 'package main\n\nimport "example.com/app/store"\n\nfunc f(s *store.Store) {\n\ts.Lo', "store/cache.go:Store.Load"),
        ("store/new.go", "package store\n\nfunc (s *Store) f() {\n\ts.cache.", "store/cache.go:Cache.Evict"),
    ],
    ids=["package", "parameter", "field"],
)  # fmt: skip
def test_receiver_decides_in_go(tmp_path: Path, path: str, before: str, expected: str) -> None:
    check(workspace(tmp_path, GO), path, before, expected)


def test_names_of_similar_code_are_found_without_an_import(tmp_path: Path) -> None:
    body = "def handler(request):\n    session = open_session(request)\n    return {}(session)\n"
    files = {f"views/v{i}.py": body.format("render_page") for i in range(3)}
    files |= {f"noise/n{i}.py": f"def noise_{i}(a):\n    return a\n" for i in range(30)}
    files["lib/pages.py"] = "def render_page(session):\n    return session\n"
    before = "def other(request):\n    session = open_session(request)\n    return "
    best = ranked(workspace(tmp_path, files), "views/new.py", before)[0]
    assert best.symbol.name == "render_page"
    assert "used in similar code" in best.reason


def test_test_file_points_at_what_it_tests(tmp_path: Path) -> None:
    files = {f"app/m{i}.py": f"def thing_{i}():\n    pass\n" for i in range(20)}
    best = ranked(workspace(tmp_path, files), "tests/test_m7.py", "x = 1\n")[0]
    assert (best.symbol.name, best.reason) == ("thing_7", "tested file")


def test_files_that_changed_together_are_ranked(tmp_path: Path) -> None:
    index = workspace(tmp_path, PYTHON)
    index.history = History({"new/a.py": (("shop/pool.py", 0.9),)})
    reasons = {s.record.path: s.reason for s in ranked(index, "new/a.py", "x = 1\n")}
    assert reasons["shop/pool.py"] == "changed together"


def test_typed_letters_move_what_begins_with_them_to_the_front(tmp_path: Path) -> None:
    index = workspace(tmp_path, PYTHON)
    start = "from shop.orders import Order, load_order\n\nx = "
    check(index, "new.py", start + "loa", "shop/orders.py:load_order")
    check(index, "new.py", start + "Ord", "shop/orders.py:Order")


def test_go_shows_nothing_unexported_of_another_package(tmp_path: Path) -> None:
    index = workspace(tmp_path, GO)
    before = 'package main\n\nimport "example.com/app/store"\n\nfunc f() {\n\tstore.'
    names = [s.symbol.name for s in ranked(index, "cmd/main.go", before)]
    assert set(names[:2]) == {"New", "Store"}
    assert "hidden" not in names[:3]


def test_every_signal_has_a_weight() -> None:
    assert {*SYMBOL_SIGNALS, *FILE_SIGNALS} == set(WEIGHTS)


def test_signal_without_weight_adds_nothing(tmp_path: Path) -> None:
    index = workspace(tmp_path, PYTHON)
    before = "from other.store import save\n\n"
    without = dict.fromkeys(WEIGHTS, 0.0)
    assert all(s.score == 0 for s in ranked(index, "new.py", before, without))


def test_order_does_not_depend_on_the_run(tmp_path: Path) -> None:
    index = workspace(tmp_path, PYTHON)
    before = "from shop.users import load_user\n\nx = load_user(1)\nx."
    assert ranked(index, "new.py", before) == ranked(index, "new.py", before)


@pytest.mark.parametrize("module", ["example.com/me/foo/v2", "gopkg.in/foo.v3"])
def test_major_version_is_no_part_of_a_go_package_name(tmp_path: Path, module: str) -> None:
    files = {
        "go.mod": f"module {module}\n",
        "foo.go": "package foo\n\nfunc Open(path string) {}\n",
        "cmd/x/near.go": "package main\n\nfunc Open() {}\n",
    }
    index = workspace(tmp_path, files)
    before = f'package main\n\nimport "{module}"\n\nfunc main() {{\n\tfoo.'
    check(index, "cmd/x/main.go", before, "foo.go:Open")
