"""Sentences for docstrings: plain ones from the names, and the judgement of a model's.

`fallback` always has an answer that is true by construction. `accepted` lets a model's sentence
through only when it is clean prose that names nothing unknown and says more than the name does.
"""

from __future__ import annotations

import re
from collections.abc import Set
from itertools import pairwise

from qcoder.lsp_server.docstring_shape import Parameter, Raised, Shape
from qcoder.lsp_server.docstring_style import Prose

MAX_SUMMARY = 88
MAX_DESCRIPTION = 100
WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
LOOKS_LIKE_CODE = re.compile(
    r"[=;{}<>\\|@#$^~\[\]]|\"\"\"|->|::|\w\(|__|https?:|\bTODO\b|\bFIXME\b"
    r"|^(?:def|class|import|async|self)\b"
)
DANGLING = frozenset({"a", "an", "the", "of", "to", "in", "on", "for", "with", "and", "or", "by"})
FILLER = DANGLING | {"is", "are", "be", "this", "that", "it", "its", "as", "from", "value", "given"}

_VERB_LIST = """
abort accept add allow follow force ignore overwrite use allocate append apply assert assign attach begin bind build cache call cancel
check clean clear clone close collect combine commit compare compile complete compute
configure connect consume convert copy count create decode delete detach detect disable
disconnect dispatch display download draw drop dump emit enable encode ensure escape evaluate
execute expand export extend extract fetch fill filter find finish fit flush format forward
free generate get give group guess handle hash hide import include increment init initialize
insert install invoke iterate join keep kill limit list load locate lock log look make map
mark match measure merge modify mount move normalize notify open pack parse paste patch pause
perform pick play poll pop post prepare print process produce publish pull purge push put
quote raise read rebuild receive record redirect reduce refresh register reject release reload
remove rename render repeat replace reply report request require reset resize resolve restart
restore resume retry return reverse rotate run save scale scan schedule score search select
send serialize serve set show shut shutdown skip sort spawn split start stop store strip
submit subscribe sum swap sync take tell terminate throw toggle tokenize trace track train
transform translate trim truncate try unbind unlock unpack unregister update upload upsert
validate verify visit wait walk warn watch weigh wrap write yield zip
"""
VERBS = frozenset(re.findall(r"\w+", _VERB_LIST))
QUESTIONS = frozenset({"is", "has", "can", "should", "was"})
LEADS = {
    "test": "test",
    "to": "convert to",
    "as": "convert to",
    "into": "convert to",
    "from": "create from",
    "on": "handle",
    "get": "return",
    "iter": "iterate over",
}
"""First words of names that are no verbs, and how their sentence begins."""

EXCEPTIONS = {
    "ValueError": "If a value is not valid.",
    "TypeError": "If a value has the wrong type.",
    "KeyError": "If a key is missing.",
    "IndexError": "If an index is out of range.",
    "FileNotFoundError": "If a file does not exist.",
    "NotImplementedError": "If a subclass does not implement it.",
    "TimeoutError": "If it takes too long.",
    "PermissionError": "If access is denied.",
    "StopIteration": "If there are no more items.",
}


def words_of(name: str) -> list[str]:
    """`loadUserHTTPConfig` and `load_user_http_config` as words; acronyms keep their capitals."""
    words = WORD.findall(name)
    return [w if len(w) > 1 and w.isupper() and not name.isupper() else w.lower() for w in words]


def fallback(shape: Shape) -> Prose:
    """Sentences from the names alone."""
    return Prose(
        summary=summary_of(shape),
        parameters={p.name: parameter_text(p) for p in shape.parameters},
        returns=returns_text(shape) if shape.gives_value or shape.yields else "",
        raises={r.name: raises_text(r) for r in shape.raises},
    )


def summary_of(shape: Shape) -> str:
    """One sentence from a definition's name."""
    words = words_of(shape.name)
    if not words:
        return "Internal."
    if shape.kind == "class":
        return sentence([indefinite(words[0]), *words])
    first, rest = words[0], words[1:]
    if shape.kind == "property":
        return f"Whether it {' '.join(words)}." if first in QUESTIONS else sentence(["the", *words])
    if shape.name == "__init__":
        owner = words_of(shape.symbol.split(".")[-2]) if "." in shape.symbol else ["object"]
        return sentence(["initialize", "the", *owner])
    if rest and first in QUESTIONS:
        return f"Tell whether it {' '.join(words)}."
    if rest and first in LEADS:
        noun = article(rest) if first in ("get", "iter") else rest
        return sentence([*LEADS[first].split(), *noun])
    if first in VERBS:
        return sentence([first, *article(rest)])
    if shape.yields:
        return sentence(["yield", *words])
    return sentence(["return", *article(words)]) if shape.gives_value else sentence(words)


def article(words: list[str]) -> list[str]:
    """`the` before a noun phrase; not before plurals of unknown things, particles and digits."""
    if not words or words[0] in DANGLING | {"all", "if", "up", "down", "out", "from", "until"}:
        return words
    return words if words[0].isdigit() else ["the", *words]


def indefinite(word: str) -> str:
    """`a` or `an` by the sound of the word: `a user`, `an HTTP client`."""
    if word.isupper():
        return "an" if word[0] in "AEFHILMNORSX" else "a"
    return "an" if word[0] in "aeio" or re.match(r"u(?!ni|s[eu]|til)", word) else "a"


def sentence(words: list[str]) -> str:
    """Words as a sentence."""
    text = " ".join(words)
    return text[:1].upper() + text[1:] + "."


def parameter_text(parameter: Parameter) -> str:
    """What a parameter's name and type say of it."""
    words = words_of(parameter.name)
    if parameter.stars:
        return "Further keyword arguments." if parameter.stars == "**" else "Further arguments."
    if not words:
        return ""
    if parameter.type == "bool" or parameter.default in ("True", "False"):
        if words[0] in QUESTIONS and len(words) > 1:
            return f"Whether it {' '.join(words)}."
        if words[0] in VERBS:
            return f"Whether to {' '.join(words)}."
        return f"Whether {' '.join(words)} applies."
    if len(words) == 1 and parameter.default not in ("", "None"):
        return ""  # type and default say more than the name again
    return sentence(["the", *words])


def returns_text(shape: Shape) -> str:
    """What is returned or yielded, as far as the name says it."""
    words = words_of(shape.name)
    if shape.returns == "bool":
        subject = f"it {' '.join(words)}" if words[:1] and words[0] in QUESTIONS else "so"
        return f"True if {subject}, False otherwise."
    if words and words[0] in VERBS | {"to", "as", "from"}:
        words = words[1:]
    return sentence(["the", *words]) if words and not shape.yields else "The result."


def raises_text(raised: Raised) -> str:
    """When an exception is raised."""
    if raised.condition:
        return f"If `{raised.condition}`."
    name = raised.name.split(".")[-1]
    words = [w.lower() for w in words_of(re.sub(r"(Error|Exception|Warning)$", "", name))]
    return EXCEPTIONS.get(name, f"On {' '.join(words) or 'failure'}.")


def accepted(
    text: str,
    name: str,
    known: Set[str],
    limit: int = MAX_DESCRIPTION,
    anchored: bool = False,
) -> str | None:
    """A model's sentence, tidied, or None when it is not worth printing.

    `name` is what the sentence describes, `known` the identifiers of the file. `anchored` asks for
    every word of the name in it: a small model that does not come back to the name is off topic.
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
    if anchored and not named <= said:
        return None
    new = said - FILLER - named
    if not new - {stem(w) for w in ("return", "returns", "function", "method", "class", "object")}:
        return None
    return text[0].upper() + text[1:] + "."


def stem(word: str) -> str:
    """A word without its ending, good enough to see a restated name."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


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
