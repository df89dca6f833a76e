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


# Put together at run time: the sources of this project pass their own gate.
MARKED = [
    (b"sk-" + b"proj-", b"a1B2-", 4),
    (b"sk-" + b"svcacct-", b"a1_B2", 4),
    (b"sk-" + b"or-v1-", b"0a1b", 16),
    (b"sk-", b"a1B2", 12),
    (b"hf" + b"_", b"aB", 17),
    (b"pypi-" + b"AgEI", b"cHlwaS5vcm", 15),
    (b"https://hooks.slack.com/" + b"services/T0123ABCD/B0123ABCD/", b"aB3d", 6),
    (b"SG." + b"a1B2" * 5 + b"aa.", b"a1B2", 11),
    (b"dop" + b"_v1_", b"0a1f", 16),
    (b"shp" + b"at_", b"0aF1", 8),
    (b"gsk" + b"_", b"a1B2", 13),
    (b"AGE-SECRET-" + b"KEY-1", b"QPZRY9X8", 7),
    (b"AccountKey" + b"=", b"aB+/1", 17),
    (b"aws_secret_" + b"access_key = ", b"aB1/+", 8),
    (b"AWS_SECRET_" + b"ACCESS_KEY='", b"aB1/+", 8),
    (b'"Secret' + b'AccessKey": "', b"aB1/+", 8),
]


@pytest.mark.parametrize(("start", "part", "times"), MARKED)
def test_tokens_of_many_services_are_found(start: bytes, part: bytes, times: int) -> None:
    end = b"A==" if start.startswith(b"Account") else b""
    for before in (b"", b"x = '", b"\n", b"# " * 5000):
        assert has_secret(before + start + part * times + end + b"'\n")
    assert not has_secret(start + part + b"'\n")
    if start[:3] in (b"sk-", b"hf_", b"gsk", b"SG.", b"shp", b"dop"):
        assert not has_secret(b"task" + start + part * times)


def test_words_that_only_look_like_tokens_are_none() -> None:
    for text in (
        b"task-list-item-with-a-very-long-name-that-goes-on-and-on",
        b"def hf_load_pretrained_model_with_configuration(name): ...",
        b"https://hooks.slack.com/" + b"services/T00000000/B00000000/" + b"X" * 24,
        b"aws_secret_access_key = readTheKeyFromTheEnvironmentOfThisProcess",
        b"aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']",
        b"AccountName=x;AccountKey=<key>;EndpointSuffix=core.windows.net",
    ):
        assert not has_secret(text), text


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 15_003])
@pytest.mark.parametrize("offset", [0, 1, 4_999, 5_001, 9_998])
def test_a_line_is_endless_beyond_ten_thousand_bytes(length: int, offset: int) -> None:
    ordinary = b"x = 1\n" * 20_000
    data = ordinary[:offset] + b"\n" + b"y" * length + b"\n" + ordinary
    assert (content_reason(data) == "minified") == (length > 10_000)
