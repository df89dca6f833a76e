"""The one gate that decides whether a file may be read into index, prompt, review or log.

Three questions, cheapest first: is its name one that holds secrets, do the user's settings exclude
it, does its content hold a key. The answer is a short reason that is counted and shown to the user;
the content itself is never shown or logged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

import pathspec

NAME_REASON = "secret by name"
CONTENT_REASON = "secret in content"
EXCLUDED_REASON = "excluded by settings"

_SECRET_NAMES = (
    ".env*",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.p8",
    "*.jks",
    "*.keystore",
    "*.ppk",
    "*.kdb",
    "*.kdbx",
    "*.ovpn",
    "*.tfvars",
    "*.tfstate",
    "*.tfstate.*",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "credentials*",
    ".git-credentials",
    "secrets.*",
    "*.secret",
    "*.secrets",
    ".npmrc",
    ".pypirc",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".htpasswd",
    ".my.cnf",
    ".dockercfg",
    "service-account*.json",
    "*.agekey",
)
_SECRET_NAME = re.compile("|".join(translate(pattern) for pattern in _SECRET_NAMES))
_SECRET_FOLDERS = frozenset({".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".git"})

# The plain bytes are searched first: a regular expression runs only where they occur.
_SECRET_CONTENTS = (
    (b"PRIVATE KEY", re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")),
    (b"AKIA", re.compile(rb"(?<![A-Za-z0-9+/])AKIA[0-9A-Z]{16}(?![A-Za-z0-9+/])")),
    (b"ASIA", re.compile(rb"(?<![A-Za-z0-9+/])ASIA[0-9A-Z]{16}(?![A-Za-z0-9+/])")),
    *(
        (plain, re.compile(rb"(?<![A-Za-z0-9])" + plain + rb"[A-Za-z0-9]{36}"))
        for plain in (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
    ),
    (b"github_pat_", re.compile(rb"github_pat_[A-Za-z0-9_]{40}")),
    (b"xox", re.compile(rb"xox[abeoprs]-[A-Za-z0-9-]{10}")),
    (b"AIza", re.compile(rb"(?<![A-Za-z0-9_-])AIza[0-9A-Za-z_-]{35}")),
    (b"sk_live_", re.compile(rb"sk_live_[0-9a-zA-Z]{16}")),
    (b"rk_live_", re.compile(rb"rk_live_[0-9a-zA-Z]{16}")),
    (b"glpat-", re.compile(rb"glpat-[0-9A-Za-z_-]{20}")),
    (b"sk-ant-", re.compile(rb"sk-ant-[0-9A-Za-z_-]{20}")),
    (b"npm_", re.compile(rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}")),
)


def refused(
    path: str, head: bytes | None = None, exclude: pathspec.GitIgnoreSpec | None = None
) -> str | None:
    """Why a file must not be used, or None when it may.

    `path` is relative to the workspace, `head` as much of the content as there is (the more, the
    safer), `exclude` the user's patterns (see `exclude_spec`).
    """
    parts = path.replace("\\", "/").lower().split("/")
    if _SECRET_NAME.match(parts[-1]):
        return NAME_REASON
    if not _SECRET_FOLDERS.isdisjoint(parts[:-1]):
        return NAME_REASON
    if exclude is not None and exclude.match_file(path):
        return EXCLUDED_REASON
    if head is not None and has_secret(head):
        return CONTENT_REASON
    return None


def has_secret(data: bytes) -> bool:
    """Whether the bytes hold a private key or an access token of a known shape."""
    return any(plain in data and pattern.search(data) for plain, pattern in _SECRET_CONTENTS)


def rules_text() -> str:
    """The built-in rules in a text that changes when they do: what they let in may change then."""
    contents = [(plain, pattern.pattern) for plain, pattern in _SECRET_CONTENTS]
    return repr((_SECRET_NAMES, sorted(_SECRET_FOLDERS), contents))


def exclude_spec(patterns: Sequence[str]) -> pathspec.GitIgnoreSpec | None:
    """The user's exclude patterns, in gitignore syntax, compiled; None when there are none."""
    return pathspec.GitIgnoreSpec.from_lines(patterns) if patterns else None
