"""The rules of ARCHITECTURE.md that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("context", "kernels", "lsp_server", "model", "training")
EXTENSION = ROOT / "editors" / "vscode"
MAX_LINES = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
NETWORK_MODULES = {"ftplib", "http", "httpx", "huggingface_hub", "requests", "smtplib", "ssl"}
NETWORK_MODULES |= {"aiohttp", "socket", "urllib", "urllib3", "websockets", "xmlrpc"}
# Takes addresses of files apart, connects to nothing.
NETWORK_FREE = {"urllib.parse"}
# What a user asks for: a local port or a Unix socket to the editor, and the address of a remote model.
TRANSPORTS = {
    "lsp_server/lsp_cli.py": {"socket"},
    "model/remote_http.py": {"http.client", "socket", "ssl"},
}


def sources() -> list[Path]:
    """Every source file that ships, the extension's TypeScript included."""
    python = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return python + list((EXTENSION / "src").rglob("*.ts")) + list(ROOT.glob("benchmarks/*.py"))


def modules_after(code: str) -> set[str]:
    """Top-level names in `sys.modules` after `code` ran in a fresh interpreter outside the checkout."""
    code += "\nimport sys\nprint('MODULES', *sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.rpartition("MODULES")[2].split())


def import_all(folder: str) -> str:
    """Code that imports every module of a folder."""
    names = sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")
    return "\n".join(f"import qcoder.{folder}.{name}" for name in names)


def test_imports_point_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize(
    ("folder", "unwanted"),
    [
        ("context", {"torch", "pygls", "lsprotocol", "transformers"}),
        ("model", {"tree_sitter", "pygls", "lsprotocol", "transformers"}),
        ("kernels", {"tree_sitter", "pygls", "lsprotocol", "transformers"}),
    ],
)
def test_importing_a_folder_loads_none_of(folder: str, unwanted: set[str]) -> None:
    assert not modules_after(import_all(folder)) & unwanted


def test_version_needs_neither_torch_nor_a_server() -> None:
    code = """
import sys
from qcoder.lsp_server.lsp_cli import main
sys.argv = ["qcoder-lsp", "--version"]
try:
    code = main()
except SystemExit as exit:
    code = exit.code
assert not code, code
"""
    assert not modules_after(code) & {"torch", "transformers", "tokenizers"}


def test_a_server_answers_before_it_needs_torch() -> None:
    assert "torch" not in modules_after("import qcoder.lsp_server.requests")


def test_the_checkout_is_not_on_the_path() -> None:
    assert str(ROOT) not in sys.path
    assert not (ROOT / "conftest.py").exists()


def test_source_files_are_short() -> None:
    long = {path: len(path.read_text("utf-8").splitlines()) for path in sources()}
    assert not {str(path): lines for path, lines in long.items() if lines > MAX_LINES}


def test_no_file_has_a_vague_name() -> None:
    assert not [str(path) for path in sources() if path.stem in VAGUE_NAMES]


def imported(path: Path) -> set[str]:
    """Dotted names that a Python file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_only_what_the_user_asks_for_opens_a_connection() -> None:
    found = {}
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        names = imported(path) - NETWORK_FREE
        if network := {name for name in names if name.split(".")[0] in NETWORK_MODULES}:
            found[path.relative_to(ROOT).as_posix()] = network
    assert found == TRANSPORTS


@pytest.mark.parametrize("folder", FOLDERS)
def test_type_checkers_find_the_folder(folder: str) -> None:
    link = ROOT / "qcoder" / folder
    if link.is_symlink():
        assert link.readlink() == Path("..") / folder
    else:  # git without symbolic links writes the target into a file
        assert link.read_text() == f"../{folder}"


def test_architecture_page_is_short_and_names_every_folder() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert len(text.splitlines()) <= 200
    assert not [folder for folder in FOLDERS if f"`{folder}/`" not in text]


def test_architecture_page_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    patterns = re.findall(r"`(?:\w+/)?([\w*]+\.py)`", text)
    modules = {path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")}
    modules |= set((ROOT / "kernels" / "gpu").glob("*.py"))
    unnamed = {
        path.relative_to(ROOT).as_posix()
        for path in modules
        if not path.stem.startswith("__")
        and not any(fnmatch(path.name, pattern) for pattern in patterns)
    }
    assert unnamed == set()


def test_extension_entry_only_wires() -> None:
    assert len((EXTENSION / "src" / "extension.ts").read_text("utf-8").splitlines()) < 100


def test_custom_messages_are_the_same_on_both_sides() -> None:
    method = re.compile(r"[\"'](qcoder[/.][A-Za-z]+)[\"']")
    server = set(method.findall((ROOT / "lsp_server" / "protocol.py").read_text("utf-8")))
    client = set(method.findall((EXTENSION / "src" / "protocol.ts").read_text("utf-8")))
    assert server
    assert server == client
