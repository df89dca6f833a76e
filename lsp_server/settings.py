"""Settings: nested frozen dataclasses with defaults, read from editors and `qcoder.toml`.

Precedence: the defaults, then the user's own file, then what the editor sends; a workspace's
`qcoder.toml` is read last and, unless the user trusts the workspace, may only tighten: switch
features off, lower limits, exclude more files. It never chooses a model, nor, trusted or not, a server. A bad option costs that
option and nothing else, of the patterns that exclude files only the bad one: every reader here
returns its problems as sentences.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qcoder.context.privacy import effect_of

FILE_NAME = "qcoder.toml"

Tightening = Literal["lower", "limit", "raise", "any", "never"]
"""How an untrusted workspace may change an option; "limit" is "lower" where 0 leaves it to the model.

Without one the kind of the option says it: switch off, add, or take the strictest word.
"""


DEFAULT_BUDGET = 640
"""Prompt tokens for the default model when nothing is set: what prefills within a keystroke. As many
may an untrusted workspace ask for where the user left it to the model."""


def _number(default: Any, low: float, high: float, tighten: Tightening = "never") -> Any:
    """A numeric field with its allowed range and its tightening direction."""
    return field(default=default, metadata={"low": low, "high": high, "tighten": tighten})


def _choice(default: str, strictest: str) -> Any:
    """A field of fixed words of which an untrusted workspace may only take the strictest."""
    return field(default=default, metadata={"strictest": strictest})


@dataclass(frozen=True, slots=True)
class CompletionSettings:
    """Inline completion. `budget_tokens` 0 means: what the model's context and speed allow."""

    enabled: bool = True
    max_tokens: int = _number(48, 1, 4096, "lower")
    max_tokens_multiline: int = _number(160, 1, 8192, "lower")
    multiline: Literal["auto", "always", "never"] = _choice("auto", "never")
    menu: Literal["auto", "always", "never"] = _choice("auto", "never")
    budget_tokens: int = _number(0, 0, 4_000_000, "limit")
    debounce_ms: int = _number(60, 0, 5000, "raise")
    min_chars: int = _number(2, 0, 100, "raise")
    partial: bool = True
    min_confidence: float = _number(0.35, 0.0, 1.0, "raise")


@dataclass(frozen=True, slots=True)
class ReviewSettings:
    """Review on save and on the command line."""

    enabled: bool = True
    on_save: bool = True
    model_hints: bool = True
    max_hints: int = _number(5, 0, 1000, "lower")
    disabled_rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocstringSettings:
    """Docstring generation; `auto` takes the style of the file's other docstrings."""

    style: str = field(default="auto", metadata={"tighten": "any"})


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model runs and how. An untrusted workspace file may only switch `adapted` off.

    `yarn_factor`: how far the context is stretched beyond what the model was trained for; 0 as its
    own config says, 1 not at all.
    `reuse`: how freely keys and values of text that moved within the prompt are used again.
    `kv_cache`: what keys and values are held as; int8 is half as much memory.
    `shared`: one process of this user runs the model for all editors and commands.
    `adapted`: a model that `qcoder train` made for the workspace goes before the one of `name`.
    """

    name: str = field(default="default", metadata={"tighten": "never"})
    adapted: bool = True
    shared: bool = False
    device: str = field(default="auto", metadata={"tighten": "never"})
    threads: int = _number(0, 0, 1024)
    max_context: int = _number(0, 0, 4_000_000)
    yarn_factor: float = _number(0.0, 0.0, 64.0)
    reuse: Literal["exact", "balanced", "fast"] = _choice("balanced", "exact")
    kv_cache: Literal["float16", "int8"] = _choice("float16", "float16")


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A model that an OpenAI-compatible server runs, in place of the local one; no `url`, no server.

    Only the user sets these: no workspace's file does, trusted or not.
    `api_key_env` names the environment variable with the key; `tokenizer` is a `tokenizer.json` to
    count with; `timeout_s` is how long the server may be silent.
    """

    url: str = field(default="", metadata={"tighten": "never"})
    model: str = field(default="", metadata={"tighten": "never"})
    kind: Literal["fim", "suffix", "chat"] = "fim"
    fim_format: Literal["qwen", "qcoder", "starcoder", "deepseek"] = "qwen"
    api_key_env: str = field(default="", metadata={"tighten": "never"})
    tokenizer: str = field(default="", metadata={"tighten": "never"})
    timeout_s: float = _number(30.0, 1.0, 600.0)
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """Patterns in the syntax of `.gitignore` that never reach index, prompt, review or log."""

    exclude: tuple[str, ...] = field(default=(), metadata={"patterns": True})


@dataclass(frozen=True, slots=True)
class StatisticsSettings:
    """Counts of how completions serve the user; kept on this machine only."""

    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user can set."""

    completion: CompletionSettings = field(default_factory=CompletionSettings)
    review: ReviewSettings = field(default_factory=ReviewSettings)
    docstring: DocstringSettings = field(default_factory=DocstringSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)


def resolve_settings(
    config: Path | None = None,
    options: Mapping[str, Any] | None = None,
    roots: Sequence[Path] = (),
    trusted: bool = False,
) -> tuple[Settings, list[str]]:
    """Merge the user's file (or `config`), the editor's `options` and the workspaces' files.

    A missing user file is fine; a missing `config` is a problem, since somebody named it.
    """
    settings = Settings()
    problems: list[str] = []
    path = config if config is not None else user_file()
    if config is not None or path.is_file():
        settings, problems = _merge_file(path, settings, trusted=True)
    if options:
        settings, found = parse_settings(options, settings, "editor settings", trusted=True)
        problems += found
    for root in roots:
        if (root / FILE_NAME).is_file():
            settings, found = _merge_workspace(root / FILE_NAME, settings, trusted)
            problems += found
    return settings, problems


def user_file() -> Path:
    """Where the user's own settings live."""
    import platformdirs  # only when settings are read: keeps `--version` quick

    return Path(platformdirs.user_config_dir("qcoder")) / FILE_NAME


def load_toml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a settings file; an unreadable or broken one gives no settings and one problem."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), []
    except OSError as error:
        return {}, [f"{path}: cannot be read ({error.strerror or error}); its settings are ignored"]
    except (ValueError, RecursionError) as error:  # no TOML or UTF-8, endless digits, deep nesting
        return {}, [f"{path}: is not valid TOML ({error}); its settings are ignored"]


def parse_settings(
    data: Mapping[str, Any], base: Settings, source: str, trusted: bool
) -> tuple[Settings, list[str]]:
    """Lay the options of `data` over `base`; `source` names them in the problems.

    Keys may be nested or dotted, snake_case or camelCase, with or without a `qcoder` prefix. A
    null leaves the option as it is (editors send null for what nobody set).
    """
    problems: list[str] = []
    nested = _nested(data)
    if isinstance(nested.get("qcoder"), Mapping):
        nested = {**nested, **_nested(nested["qcoder"])}
        del nested["qcoder"]
    merged = _merge(nested, base, "", source, trusted, problems)
    return merged, problems


def _merge_file(path: Path, base: Settings, trusted: bool) -> tuple[Settings, list[str]]:
    data, problems = load_toml(path)
    settings, found = parse_settings(data, base, str(path), trusted)
    return settings, problems + found


def _merge_workspace(path: Path, base: Settings, trusted: bool) -> tuple[Settings, list[str]]:
    """A workspace's file. Where code is sent is the user's own decision, whatever is trusted."""
    settings, problems = _merge_file(path, base, trusted)
    if settings.remote != base.remote:
        problems.append(f"{path}: 'remote' counts in your own settings only; it is ignored here")
        settings = dataclasses.replace(settings, remote=base.remote)
    return settings, problems


def _nested(data: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested ones: {"a.b": 1} is {"a": {"b": 1}}."""
    nested: dict[str, Any] = {}
    for key, value in data.items():
        head, dot, rest = str(key).partition(".")
        if not dot:
            old = nested.get(head)
            both = isinstance(old, dict) and isinstance(value, Mapping)
            nested[head] = {**old, **value} if both and old is not None else value
        elif isinstance(nested.setdefault(head, {}), Mapping):
            nested[head] = {**nested[head], rest: value}
    return nested


def _merge(
    data: Mapping[str, Any],
    base: Any,
    prefix: str,
    source: str,
    trusted: bool,
    problems: list[str],
) -> Any:
    """One level of options over the dataclass `base`; returns the changed copy."""
    hints = typing.get_type_hints(type(base))
    fields = {f.name: f for f in dataclasses.fields(base)}
    changes: dict[str, Any] = {}
    for key, value in data.items():
        name, label = _snake(str(key)), prefix + str(key)
        if value is None:
            continue
        if name not in fields:
            problems.append(
                f"{source}: unknown option {label!r} is ignored{_nearest(name, fields)}"
            )
            continue
        old = getattr(base, name)
        if dataclasses.is_dataclass(old):
            if isinstance(value, Mapping):
                changes[name] = _merge(_nested(value), old, f"{label}.", source, trusted, problems)
            else:
                problems.append(
                    f"{source}: {label!r} must be a table of options, not {_shown(value)}"
                )
            continue
        metadata = fields[name].metadata
        try:
            parsed = _parse(value, hints[name], metadata)
            if metadata.get("patterns"):
                parsed, found = _usable_patterns(parsed, trusted)
                problems += [f"{source}: {label!r} {problem}" for problem in found]
            changes[name] = parsed if trusted else _tightened(parsed, old, metadata)
        except (ValueError, OverflowError) as error:
            problems.append(f"{source}: {label!r} {error}; keeping {old!r}")
    return dataclasses.replace(base, **changes) if changes else base


def _parse(value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    """`value` as the field's type; raises ValueError with what was expected."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(map(repr, allowed))}, not {_shown(value)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"must be a list of strings, not {_shown(value)}")
        return tuple(value)
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
    number = isinstance(value, int) and not isinstance(value, bool)
    if hint is float and number:
        value = float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON from Lua has no whole numbers
    if type(value) is not hint:
        raise ValueError(f"must be {wanted[hint]}, not {_shown(value)}")
    if "low" in metadata and not metadata["low"] <= value <= metadata["high"]:
        raise ValueError(
            f"must be from {metadata['low']} to {metadata['high']}, not {_shown(value)}"
        )
    return value


def _usable_patterns(patterns: Sequence[str], trusted: bool) -> tuple[tuple[str, ...], list[str]]:
    """The patterns that may be used, and what is wrong with the others.

    The last match counts, so one that takes files back would undo what the user excludes.
    """
    kept: list[str] = []
    problems: list[str] = []
    for pattern in patterns:
        try:
            if effect_of(pattern) is False and not trusted:
                raise ValueError("takes files back, which an untrusted workspace may not do")
            kept.append(pattern)
        except ValueError as error:
            problems.append(f"has a pattern that is ignored: {pattern!r} {error}")
    return tuple(kept), problems


def _tightened(new: Any, old: Any, metadata: Mapping[str, Any]) -> Any:
    """The value that an untrusted workspace may set; raises ValueError when it may not."""
    rule = metadata.get("tighten")
    if rule == "any":
        return new
    if isinstance(old, bool):
        allowed = not new or old
    elif isinstance(old, tuple):
        return old + tuple(v for v in new if v not in old)
    elif "strictest" in metadata:
        allowed = new in (old, metadata["strictest"])
    elif rule == "lower":
        allowed = new <= old
    elif rule == "limit":
        allowed = 0 < new <= (old or DEFAULT_BUDGET)
    else:
        allowed = rule == "raise" and new >= old
    if not allowed:
        raise ValueError("may not be set by an untrusted workspace, which can only restrict")
    return new


def _shown(value: object) -> str:
    """A value as a message shows it: TOML can hold what Python writes no text of."""
    try:
        return repr(value)
    except (ValueError, RecursionError):  # endless digits, deep nesting
        return f"such a {type(value).__name__}"


def _snake(name: str) -> str:
    """`maxTokens` and `max_tokens` are the same option."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower().replace("-", "_")


def _nearest(name: str, known: Mapping[str, object]) -> str:
    import difflib  # only for a message

    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
