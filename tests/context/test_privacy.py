"""Tokens are found as fast as memory is read, and as patterns in plain words find them."""

from __future__ import annotations

import random
import re

import pytest

from qcoder.context.privacy import has_secret
from qcoder.context.source import content_reason

PLAIN = [
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----",
    rb"(?<![A-Za-z0-9+/])AKIA[0-9A-Z]{16}(?![A-Za-z0-9+/])",
    rb"(?<![A-Za-z0-9+/])ASIA[0-9A-Z]{16}(?![A-Za-z0-9+/])",
    *(rb"(?<![A-Za-z0-9])gh%c_[A-Za-z0-9]{36}" % kind for kind in b"pousr"),
    rb"github_pat_[A-Za-z0-9_]{40}",
    rb"xox[abeoprs]-[A-Za-z0-9-]{10}",
    rb"(?<![A-Za-z0-9_-])AIza[0-9A-Za-z_-]{35}",
    rb"[rs]k_live_[0-9a-zA-Z]{16}",
    rb"glpat-[0-9A-Za-z_-]{20}",
    rb"sk-ant-[0-9A-Za-z_-]{20}",
    rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}",
]
STARTS = [
    b"-----BEGIN RSA PRIVATE " + b"KEY-----",
    b"-----BEGIN PRIVATE KEY",
    *(b"gh%c_" % kind for kind in b"pousrx"),
    b"AKIA",
    b"ASIA",
    b"github_pat_",
    b"xoxb-",
    b"AIza",
    b"sk_live_",
    b"rk_live_",
    b"xk_live_",
    b"glpat-",
    b"sk-ant-",
    b"k-ant-",
    b"npm_",
]
BEFORE = [b"", b"'", b"a", b"_", b"-", b"/", b"\n", b"AKIA", b"gh"]


@pytest.mark.parametrize("start", STARTS)
def test_tokens_are_found_as_by_plain_patterns(start: bytes) -> None:
    rng = random.Random(7)
    found = 0
    for before in BEFORE:
        for length in (0, 9, 10, 15, 16, 17, 20, 35, 36, 37, 41):
            tail = bytes(rng.choices(b"AZ09", k=length)) + rng.choice([b"", b"'", b"a", b"+"])
            data = before + start + tail
            expected = any(re.search(pattern, data) for pattern in PLAIN)
            assert has_secret(data) == expected, data
            found += expected
    assert found or start in (b"-----BEGIN PRIVATE KEY", b"ghx_", b"xk_live_", b"k-ant-")


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 15_003])
@pytest.mark.parametrize("offset", [0, 1, 4_999, 5_001, 9_998])
def test_a_line_is_endless_beyond_ten_thousand_bytes(length: int, offset: int) -> None:
    ordinary = b"x = 1\n" * 20_000
    data = ordinary[:offset] + b"\n" + b"y" * length + b"\n" + ordinary
    assert (content_reason(data) == "minified") == (length > 10_000)
