"""`qcoder index` and `qcoder doctor`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from qcoder import __version__
from qcoder.context import languages
from qcoder.context.index import Index
from qcoder.context.privacy import exclude_spec
from qcoder.context.source import read_source
from qcoder.context.workspace import find_root, ignored_by_rules, is_listed
from qcoder.lsp_server.cli_workspace import settings_of, workspace_index
from qcoder.lsp_server.headless import InputError
from qcoder.lsp_server.remote_model import remote_engine
from qcoder.lsp_server.settings import resolve_settings, user_file

REPORT_KEYS = (
    "files", "skipped", "lines", "symbols", "languages", "seconds", "cpu_seconds", "peak_rss_mb",
    "cache_bytes",
)  # fmt: skip


def index(args: argparse.Namespace) -> int:
    """Index a folder and print the report."""
    root: Path = args.dir.resolve()
    if not root.is_dir():
        raise InputError(f"{args.dir}: no such folder")
    built = workspace_index(root, settings_of(root))
    report = built.report()
    built.close()
    row = {key: getattr(report, key) for key in REPORT_KEYS}
    row |= {key: dict(row[key]) for key in ("skipped", "languages")}
    if args.format == "json":
        print(json.dumps(row))
        return 0
    print(
        f"{report.files} files, {report.lines} lines, {report.symbols} symbols in {report.seconds:.2f} s"
    )
    for language, files in sorted(report.languages.items(), key=lambda x: -x[1]):
        print(f"  {language:16} {files}")
    for reason, files in sorted(report.skipped.items(), key=lambda x: -x[1]):
        print(f"  skipped: {reason:12} {files}")
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Check the installation, or say why a file is or is not read."""
    if args.why is not None:
        return why(args.why, args.format)
    rows = [(name, *check()) for name, check in CHECKS.items()]
    if args.format == "json":
        print(json.dumps([{"check": n, "ok": ok, "detail": detail} for n, ok, detail in rows]))
    else:
        for name, ok, detail in rows:
            print(f"{'ok  ' if ok else 'FAIL'} {name:10} {detail}")
    return 0 if all(ok for _, ok, _ in rows) else 1


def why(path: Path, form: str) -> int:
    """Whether a file is indexed, and the reason when it is not."""
    full = path.absolute()
    root = find_root(full)
    exclude = settings_of(root).privacy.exclude
    relative = Path(os.path.normpath(full)).relative_to(root).as_posix()
    reason = reason_of(root, relative, exclude)
    if form == "json":
        print(
            json.dumps(
                {"path": relative, "root": str(root), "read": reason is None, "reason": reason}
            )
        )
    else:
        print(
            f"{relative} (workspace {root}): {'read' if reason is None else 'NOT read: ' + reason}"
        )
    return 0


def reason_of(root: Path, path: str, exclude: Sequence[str]) -> str | None:
    """Why a file is kept out of index, prompt and review; None when it is read."""
    if not os.path.lexists(root / path):
        return "no such file"
    if (root / path).is_dir():
        return "a folder; name a file"
    spec = exclude_spec(exclude)
    source = read_source(root, path, spec)
    if isinstance(source, str):
        return source
    if is_listed(root, path, exclude):
        return None
    if ignored_by_rules(root, path):
        return "ignored by .gitignore, .qcoderignore or as a derived folder"
    return "not among the files that git lists"


def _versions() -> tuple[bool, str]:
    return True, f"qcoder {__version__}, Python {platform.python_version()}, {platform.platform()}"


def _torch() -> tuple[bool, str]:
    try:
        return True, version("torch")
    except PackageNotFoundError:
        return False, "torch is not installed: pip install qcoder"


def _model() -> tuple[bool, str]:
    from qcoder.model.errors import ModelError
    from qcoder.model.manifest import read_manifest, verify_checksums
    from qcoder.model.registry import DEFAULT_FOLDER

    try:
        manifest = read_manifest(DEFAULT_FOLDER)
        wrong = verify_checksums(DEFAULT_FOLDER)
    except ModelError as error:
        return False, str(error)
    if not manifest:
        return False, f"{DEFAULT_FOLDER}: the shipped model is missing; reinstall qcoder"
    if wrong:
        return False, f"checksum differs: {', '.join(wrong)}; reinstall qcoder"
    return True, f"{manifest['name']} {manifest['version']}, checksums match"


def _grammars() -> tuple[bool, str]:
    missing = [name for name in languages.LANGUAGES if languages.grammar(name) is None]
    found = len(languages.LANGUAGES) - len(missing)
    return not missing, f"{found} languages" + (
        f", missing: {', '.join(missing)}" if missing else ""
    )


def _cache() -> tuple[bool, str]:
    folder = Path(platformdirs.user_cache_dir("qcoder"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return False, f"{folder}: cannot be made ({error.strerror}); indexes will not be kept"
    return os.access(folder, os.W_OK), str(folder)


def _git() -> tuple[bool, str]:
    path = shutil.which("git")
    return path is not None, path or "not found: review of changes needs git"


def _index() -> tuple[bool, str]:
    root = find_root(Path.cwd())
    index = Index.open(root)
    known = index.num_files()
    index.close()
    if not known:
        return True, f"{root}: not indexed yet; the first request or `qcoder index` does it"
    return True, f"{root}: {known} files in the cache"


def _settings() -> tuple[bool, str]:
    _, problems = resolve_settings(roots=[find_root(Path.cwd())])
    return not problems, "; ".join(problems) or f"{user_file()} and qcoder.toml: no problems"


def _remote() -> tuple[bool, str]:
    from qcoder.model.errors import ModelError

    settings, _ = resolve_settings()
    try:
        engine = remote_engine(settings)
    except ModelError as error:
        return False, str(error)
    if engine is None:
        return True, "off: nothing leaves this machine"
    return True, f"{engine.info.path} runs {engine.info.name}: prompts are sent there"


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "version": _versions,
    "torch": _torch,
    "model": _model,
    "grammars": _grammars,
    "cache": _cache,
    "git": _git,
    "settings": _settings,
    "remote": _remote,
    "index": _index,
}
