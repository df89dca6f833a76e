"""Names in a suggestion that nothing around it knows: a sign that the model made them up.

Known is what stands in the file, in the packed context or among the language's own words, and what
the suggestion itself introduces.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable
from functools import cache

from qcoder.context.languages import grammar
from qcoder.context.words import identifiers_of
from qcoder.lsp_server.around import Around

DOUBT = 0.8
"""What each unknown name leaves of the confidence."""

MAX_COUNTED = 3
INTRODUCED = re.compile(
    r"\b(?:def|class|fn|func|function|let|const|var|val|mut|struct|enum|trait|interface|type|import|"
    r"from|as|for|package|module)\s+(\w+)|\b(\w+)\s*(?::=|=(?!=)|:(?!:))"
)
QUOTED = re.compile(r"\"[^\"\n]*\"?|'[^'\n]*'?|`[^`\n]*`?|(?:#|//).*")


def novel_names(text: str, around: Around, packed: Iterable[str]) -> tuple[str, ...]:
    """The unknown names of a suggestion at the cursor, in order.

    A word that the cursor stands in counts as a whole. Names in strings and comments do not count.
    """
    typed = re.search(r"\w*\Z", around.line_prefix)
    code = (typed.group() if typed else "") + QUOTED.sub(" ", text)
    wanted = list(dict.fromkeys(identifiers_of(code)))
    if not wanted:
        return ()
    own = language_words(around.language)
    introduced = {name for pair in INTRODUCED.findall(code) for name in pair if name}
    texts = (around.prefix, around.suffix, *packed)
    return tuple(
        name
        for name in wanted
        if name not in own and name not in introduced and not any(has(t, name) for t in texts)
    )


def doubted(confidence: float, novel: tuple[str, ...]) -> float:
    """The confidence in a suggestion with these unknown names."""
    return confidence * DOUBT ** min(len(novel), MAX_COUNTED)


def has(text: str, name: str) -> bool:
    """Whether a name stands in a text as a word; quicker than an expression on long texts."""
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        before, after = text[at - 1 : at] if at else "", text[end : end + 1]
        if not (is_word(before) or is_word(after)):
            return True
        at = text.find(name, end)
    return False


def is_word(character: str) -> bool:
    """Whether a character belongs to a word."""
    return character.isalnum() or character == "_"


@cache
def language_words(language: str) -> frozenset[str]:
    """Keywords of a language, which are the unnamed words of its grammar; Python's built-ins too."""
    spoken = grammar(language)
    words = set(dir(builtins)) if language == "python" else set()
    if spoken is not None:
        kinds = range(spoken.node_kind_count)
        words |= {
            kind
            for number in kinds
            if not spoken.node_kind_is_named(number)
            and (kind := spoken.node_kind_for_id(number))
            and kind.isidentifier()
        }
    return frozenset(words)
