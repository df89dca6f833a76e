"""Settings: nested frozen dataclasses with defaults, read from editors and `qcoder.toml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class CompletionSettings:
    """Inline completion. `budget_tokens` 0 means: what the model's context and speed allow."""

    enabled: bool = True
    max_tokens: int = 48
    max_tokens_multiline: int = 160
    multiline: Literal["auto", "always", "never"] = "auto"
    budget_tokens: int = 0
    debounce_ms: int = 60
    min_chars: int = 2
    min_confidence: float = 0.25


@dataclass(frozen=True, slots=True)
class ReviewSettings:
    """Review on save and on the command line."""

    enabled: bool = True
    on_save: bool = True
    model_hints: bool = True
    max_hints: int = 5
    disabled_rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DocstringSettings:
    """Docstring generation; `auto` takes the style of the file's other docstrings."""

    style: str = "auto"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model runs and how. A workspace file can never set these unless it is trusted."""

    name: str = "default"
    device: str = "auto"
    threads: int = 0
    max_context: int = 0


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """Glob patterns that never reach index, prompt, review or log."""

    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user can set."""

    completion: CompletionSettings = field(default_factory=CompletionSettings)
    review: ReviewSettings = field(default_factory=ReviewSettings)
    docstring: DocstringSettings = field(default_factory=DocstringSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
