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

_PRIVATE_KEY = b"PRIVATE KEY"
_PRIVATE_KEY_LINE = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")
# Each begins with a letter that a token has for certain, which is searched as fast as memory is read:
# what may not stand before the token is looked at behind that.
_TOKENS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"A(?:KIA|SIA)(?<![A-Za-z0-9+/].{4})[0-9A-Z]{16}(?![A-Za-z0-9+/])",
        rb"AIza(?<![A-Za-z0-9_-].{4})[0-9A-Za-z_-]{35}",
        rb"g(?:h[opsur]_(?<![A-Za-z0-9].{4})[A-Za-z0-9]{36}"
        rb"|ithub_pat_[A-Za-z0-9_]{40}|lpat-[0-9A-Za-z_-]{20})",
        rb"k(?:_live_(?<=[rs]k_live_)[0-9a-zA-Z]{16}|-ant-(?<=sk-ant-)[0-9A-Za-z_-]{20})",
        rb"npm_(?<![A-Za-z0-9_].{4})[A-Za-z0-9]{36}",
        rb"xox[abeoprs]-[A-Za-z0-9-]{10}",
    )
)
# Tokens whose first letter stands everywhere in code: a part that is rare is looked for instead, and
# only where that is there, the token around it.
_AWS_SECRET = (
    rb"(?i:aws_secret_access_key|secretaccesskey)[\"']?[ \t]{0,8}[=:,][ \t]{0,8}[\"']?"
    rb"(?=[A-Za-z/+]*[0-9])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)
_MARKED = tuple(
    (marker, re.compile(pattern, re.DOTALL))
    for marker, pattern in (
        (
            b"sk-",
            rb"sk-(?<![A-Za-z0-9_-].{3})"
            rb"(?:[A-Za-z0-9]{32}|(?:proj|svcacct|admin|or-v1)-[A-Za-z0-9_-]{20})",
        ),
        (b"hf_", rb"hf_(?<![A-Za-z0-9_].{3})[A-Za-z0-9]{34}"),
        (b"pypi-AgEI", rb"pypi-AgEI[A-Za-z0-9_-]{50}"),
        (
            b"hooks.slack.com/services/T",
            # The last part of the address in Slack's own documentation is made of X.
            rb"services/T[A-Za-z0-9]{6,16}/B[A-Za-z0-9]{6,16}/(?!X{20})[A-Za-z0-9]{20}",
        ),
        (b"SG.", rb"SG\.(?<![A-Za-z0-9_.].{3})[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
        (b"_v1_", rb"do[opr]_v1_(?<![A-Za-z0-9_].{7})[0-9a-f]{64}"),
        (b"shp", rb"shp(?<![A-Za-z0-9_].{3})(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}"),
        (b"gsk_", rb"gsk_(?<![A-Za-z0-9_].{4})[A-Za-z0-9]{52}"),
        (b"AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1[0-9A-Z]{50}"),
        (b"AccountKey=", rb"AccountKey=[A-Za-z0-9+/]{86}=="),
        (b"secret_access_key", _AWS_SECRET),
        (b"SECRET_ACCESS_KEY", _AWS_SECRET),
        (b"ecretAccessKey", _AWS_SECRET),
    )
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
    if _PRIVATE_KEY in data and _PRIVATE_KEY_LINE.search(data):
        return True
    return any(pattern.search(data) for pattern in _TOKENS) or any(
        marker in data and pattern.search(data) for marker, pattern in _MARKED
    )


def rules_text() -> str:
    """The built-in rules in a text that changes when they do: what they let in may change then."""
    marked = [pattern for _, pattern in _MARKED]
    contents = [pattern.pattern for pattern in (_PRIVATE_KEY_LINE, *_TOKENS, *marked)]
    return repr((_SECRET_NAMES, sorted(_SECRET_FOLDERS), contents))


def exclude_spec(patterns: Sequence[str]) -> pathspec.GitIgnoreSpec | None:
    """The user's exclude patterns, in gitignore syntax, compiled; None when there are none."""
    return pathspec.GitIgnoreSpec.from_lines(patterns) if patterns else None


def effect_of(pattern: str) -> bool | None:
    """Whether a pattern excludes (True), takes back (False) or does nothing, as a comment does (None).

    Raises ValueError for one that cannot be used.
    """
    try:
        compiled = pathspec.GitIgnoreSpec.from_lines([pattern]).patterns
    except (ValueError, re.error):
        raise ValueError("is not valid in the syntax of .gitignore") from None
    return compiled[-1].include if compiled else None
