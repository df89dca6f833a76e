"""`qcoder demo`: a real server process, driven as an editor would drive it.

Prints inline completions with their times, one docstring and one review in which a planted leak is
found. Exit code 0 only when all of it came back.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcoder.lsp_server.headless import InputError
from qcoder.lsp_server.rpc_client import Client, ServerGone

WANTED_COMPLETIONS = 5
MAX_SPOTS = 40
PACKAGES = ("context", "model", "kernels", "lsp_server")
LEAK = '''"""A planted leak."""

import json


def load_settings(path):
    handle = open(path)
    return json.load(handle)
'''
PLAIN = '''"""A function without a docstring."""


def weighted_mean(values: list[float], weights: list[float], empty: float = 0.0) -> float:
    total = sum(weights)
    if total < 0:
        raise ValueError("weights must not be negative")
    if not total:
        return empty
    return sum(v * w for v, w in zip(values, weights)) / total
'''


@dataclass(frozen=True, slots=True)
class Spot:
    """A cursor position (0-based); `text` is the file without the rest of that line, `truth`."""

    path: Path
    line: int
    column: int
    text: str
    truth: str


def demo(args: argparse.Namespace) -> int:
    """Run the demo in a copy of our own sources, or of `--workspace`."""
    source = args.workspace or Path(__file__).resolve().parents[1]
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    paint = Paint(sys.stdout.isatty())
    with tempfile.TemporaryDirectory(prefix="qcoder-demo-") as folder:
        root = Path(folder).resolve() / "workspace"
        copy_sources(source.resolve(), root)
        places = list(itertools.islice(spots(root), MAX_SPOTS))
        for spot in places:
            # Neither disk nor index may know what the model is asked to write.
            spot.path.write_text(spot.text, encoding="utf-8")
        began = time.perf_counter()
        try:
            with Client(root) as client:
                client.initialize()
                wait_until_ready(client)
                print(paint.title(f"server ready after {time.perf_counter() - began:.1f} s"))
                completions = show_completions(client, root, places, paint)
                documented = show_docstring(client, root, paint)
                reviewed = show_review(client, root, paint)
        except ServerGone as error:
            print(f"qcoder demo: {error}", file=sys.stderr)
            return 3
    print(
        paint.title(f"{completions} completions, docstring: {documented}, leak found: {reviewed}")
    )
    return 0 if completions >= WANTED_COMPLETIONS and documented and reviewed else 1


class Paint:
    """Colours on a terminal, plain text elsewhere."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def title(self, text: str) -> str:
        """A heading."""
        return self._wrap("1", f"\n== {text}")

    def ghost(self, text: str) -> str:
        """What the model wrote; between marks where there is no colour."""
        return self._wrap("92", text) if self._colour else f"«{text}»"

    def dim(self, text: str) -> str:
        """Context."""
        return self._wrap("2", text)


def python_sources(source: Path) -> Iterator[Path]:
    """The Python files of a folder (of our own package: its sources only), by folder and name."""
    folders = [source / name for name in PACKAGES if (source / name).is_dir()] or [source]
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            if not any(part.startswith(".") for part in file.relative_to(source).parts):
                yield file


def copy_sources(source: Path, root: Path) -> None:
    """Copy the files of `python_sources` into a new folder."""
    for file in python_sources(source):
        target = root / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def wait_until_ready(client: Client) -> None:
    """Until the server says that model and index are there."""

    def ready(message: dict[str, Any]) -> bool:
        if message["method"] != "qcoder/status":
            return False
        if message["params"]["kind"] == "Error":
            raise ServerGone(f"server reports: {message['params'].get('message')}")
        return bool(message["params"]["kind"] == "Normal")

    client.wait_for(ready, timeout_s=60)


def spots(root: Path) -> Iterator[Spot]:
    """Positions inside assignments, returns and calls, spread over the files."""
    wanted = ("return ", " = ", "raise ", "for ", "if ")
    for file in sorted(root.rglob("*.py")):
        lines = file.read_text(encoding="utf-8").split("\n")
        for number in range(len(lines) * 2 // 3, len(lines)):
            line = lines[number]
            mark = next((w for w in wanted if w in line), None)
            if mark is None or not 24 <= len(line) <= 88 or '"""' in line or "#" in line:
                continue
            column = line.index(mark) + len(mark) + 2
            if column < len(line) - 6:
                lines[number] = line[:column]
                yield Spot(file, number, column, "\n".join(lines), line[column:])
                break


def show_completions(client: Client, root: Path, places: list[Spot], paint: Paint) -> int:
    """Ask for completions until enough came back; returns how many did."""
    shown = 0
    print(paint.title("inline completions"))
    for spot in places:
        line = spot.text.split("\n")[spot.line]
        uri = client.open(spot.path, spot.text)
        began = time.perf_counter()
        result = client.request(
            "textDocument/inlineCompletion",
            {
                "textDocument": {"uri": uri},
                "position": {"line": spot.line, "character": spot.column},
                "context": {"triggerKind": 2},
            },
        )
        milliseconds = 1000 * (time.perf_counter() - began)
        client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        items = result.get("items", []) if isinstance(result, dict) else result or []
        text = items[0]["insertText"] if items else ""
        if not text.strip():
            continue
        shown += 1
        place = f"{spot.path.relative_to(root)}:{spot.line + 1}"
        first, exact = text.split("\n")[0].rstrip(), f"was: {spot.truth}"
        if spot.truth.startswith(first):
            exact = "exact" if first == spot.truth.rstrip() else f"right so far, was: {spot.truth}"
        print(paint.dim(f"{place}  {milliseconds:.0f} ms  ({exact})"))
        print(f"    {line.lstrip()}{paint.ghost(text)}")
        if shown >= WANTED_COMPLETIONS + 1:
            break
    return shown


def show_docstring(client: Client, root: Path, paint: Paint) -> bool:
    """Ask for the docstring code action of a plain function."""
    print(paint.title("docstring"))
    path = root / "weighted.py"
    path.write_text(PLAIN, encoding="utf-8")
    uri = client.open(path)
    line = next(i for i, text in enumerate(PLAIN.split("\n")) if text.startswith("def "))
    position = {"line": line, "character": 6}
    actions = client.request(
        "textDocument/codeAction",
        {
            "textDocument": {"uri": uri},
            "range": {"start": position, "end": position},
            "context": {"diagnostics": []},
        },
    )
    chosen = [a for a in actions or [] if "docstring" in a["title"].lower()]
    if not chosen:
        return False
    action = chosen[0]
    if "edit" not in action:
        action = client.request("codeAction/resolve", action)
    text = "".join(edit["newText"] for edit in edits_of(action.get("edit") or {}, uri))
    print("\n".join("    " + row for row in PLAIN.split("\n")[line : line + 1]))
    print(paint.ghost(text.rstrip("\n")))
    return bool(text.strip())


def edits_of(edit: dict[str, Any], uri: str) -> list[dict[str, Any]]:
    """Text edits of a workspace edit, in either form."""
    found = list((edit.get("changes") or {}).get(uri, []))
    for change in edit.get("documentChanges") or []:
        found += change.get("edits", [])
    return found


def show_review(client: Client, root: Path, paint: Paint) -> bool:
    """Open and save a file with a planted leak and wait for its diagnostic."""
    print(paint.title("review"))
    path = root / "leaky.py"
    path.write_text(LEAK, encoding="utf-8")
    uri = client.open(path)
    client.notify("textDocument/didSave", {"textDocument": {"uri": uri}})

    def found(message: dict[str, Any]) -> bool:
        return bool(
            message["method"] == "textDocument/publishDiagnostics"
            and message["params"]["uri"] == uri
            and any(d.get("code") == "resource-leak" for d in message["params"]["diagnostics"])
        )

    try:
        message = client.wait_for(found, timeout_s=20)
    except ServerGone:
        return False
    for diagnostic in message["params"]["diagnostics"]:
        line = diagnostic["range"]["start"]["line"]
        print(f"    leaky.py:{line + 1}: {diagnostic.get('code')}: {diagnostic['message']}")
        print(paint.dim(f"        {LEAK.splitlines()[line].strip()}"))
    return True
