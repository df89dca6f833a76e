"""Whether a model's sentence may go into a docstring: clean prose about this code, and news.

Nothing that looks like code, trails off, repeats itself or names what the file does not have gets
through, nor what says no more than the name does.
"""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import pairwise

from qcoder.lsp_server.docstring_words import DANGLING, stem, words_of

MAX_DESCRIPTION = 100
IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
LOOKS_LIKE_CODE = re.compile(
    r"[=;{}<>\\|@#$^~\[\]]|\"\"\"|->|::|\w\(|__|https?:|\bTODO\b|\bFIXME\b"
    r"|^(?:def|class|import|async|self)\b"
)
FILLER = DANGLING | {"is", "are", "be", "this", "that", "it", "its", "as", "from", "value", "given"}
_GLUE_LIST = """
all also already an and any are as at be been before after between both but by can do each either
else empty equal every exist false first following for from given has have if in into is it its
last like must new next no none not nothing number object of on one only optional or other out
over per same should single so such than that the their them then there this to true two under
until used using value values was when where whether which while whose will with without
function method class argument parameter name returns return
"""
GLUE = frozenset(stem(word) for word in re.findall(r"\w+", _GLUE_LIST))
"""Stems of words that claim nothing."""


def stems_of(text: str) -> frozenset[str]:
    """Stems of all words in a piece of code, names taken apart."""
    return frozenset(
        stem(word.lower()) for name in re.findall(r"[A-Za-z_]\w*", text) for word in words_of(name)
    )


def accepted(
    text: str,
    name: str,
    known: Set[str],
    limit: int = MAX_DESCRIPTION,
    said_by_code: Set[str] | None = None,
) -> str | None:
    """A model's sentence, tidied, or None when it is not worth printing.

    `name` is what the sentence describes, `known` the identifiers of the file. With `said_by_code`,
    the stems of what the definition itself says, a sentence must hold every word of the name and
    may say nothing else: a small model that leaves them is off topic or makes things up.
    """
    text = re.sub(r"\s+", " ", text.split("\n")[0]).strip().strip('"').strip()
    text = re.split(r"(?<=[a-z)])\. (?=[A-Z])", text)[0].rstrip(" .:;,-")
    words = re.findall(r"[A-Za-z][\w'-]*", text)
    if len(words) < 3 or len(text) >= limit or LOOKS_LIKE_CODE.search(text):
        return None
    if text.count("`") % 2 or text.count("(") != text.count(")") or not text[0].isalpha():
        return None
    lowered = [w.lower() for w in words]
    if lowered[-1] in DANGLING or repeats(lowered) or not names_known(text, known):
        return None
    said, named = ({stem(w.lower()) for w in ws} for ws in (lowered, words_of(name)))
    new = said - FILLER - named
    if said_by_code is not None and not (named <= said and new <= said_by_code | GLUE):
        return None
    if not new - {stem(w) for w in ("return", "returns", "function", "method", "class", "object")}:
        return None
    return text[0].upper() + text[1:] + "."


def repeats(words: list[str]) -> bool:
    """Whether a word follows itself or one word makes up much of the sentence."""
    doubled = any(a == b for a, b in pairwise(words))
    content = [w for w in words if w not in FILLER]
    return doubled or any(content.count(w) > 2 for w in content)


def names_known(text: str, known: Set[str]) -> bool:
    """Whether everything that looks like an identifier is one of the file."""
    for name in IDENTIFIER.findall(text):
        name = name.rstrip(".")
        code_like = "_" in name or "." in name or re.search(r"[a-z][A-Z]|[A-Za-z]\d", name)
        if code_like and not set(name.split(".")) <= known:
            return False
    return True
