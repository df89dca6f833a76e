"""Plain sentences for docstrings, from names, types and statements: true by construction.

A sentence says what the code shows and nothing else: the verb and nouns of a name, what a default or
a condition is, what is returned. Where a name says nothing, the sentence is short or left out.
"""

from __future__ import annotations

import re

from qcoder.lsp_server.docstring_shape import NULLS, Parameter, Raised, Shape
from qcoder.lsp_server.docstring_style import Prose
from qcoder.lsp_server.docstring_words import (
    ADJECTIVES,
    DANGLING,
    PARTICLES,
    PRODUCERS,
    QUESTIONS,
    article,
    asks,
    indefinite,
    is_plural,
    is_verb,
    plural,
    sentence,
    words_of,
)

LEADS = {
    "test": "test",
    "to": "convert to",
    "as": "convert to",
    "into": "convert to",
    "from": "create from",
    "on": "handle",
    "get": "return",
    "iter": "iterate over",
    "new": "create a new",
}
"""First words of names that are no verbs, and how their sentence begins."""

GIVING_LEADS = frozenset({"to", "as", "into", "get", "iter"})
"""Those of them whose rest says what comes back."""

WHOLE_NAMES = {
    "main": "Run the program.",
    "__call__": "Call the object.",
    "__enter__": "Enter the context.",
    "__exit__": "Leave the context.",
    "__aenter__": "Enter the context.",
    "__aexit__": "Leave the context.",
    "__iter__": "Iterate over the items.",
    "__aiter__": "Iterate over the items.",
    "__next__": "Return the next item.",
    "__len__": "Return the number of items.",
    "__getitem__": "Return the item of a key.",
    "__setitem__": "Set the item of a key.",
    "__delitem__": "Delete the item of a key.",
    "__contains__": "Tell whether an item is inside.",
    "__eq__": "Tell whether both are equal.",
    "__ne__": "Tell whether both differ.",
    "__lt__": "Tell whether this one comes before the other.",
    "__hash__": "Return the hash.",
    "__bool__": "Return the truth value.",
    "__repr__": "Return the representation for debugging.",
    "__str__": "Return the text form.",
    "__del__": "Clean up when the object goes.",
    "__main__": "Run the package as a program.",
    "constructor": "Create an instance.",
}
"""Names whose meaning is fixed, by the language or by custom."""

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
    "NameError": "If a name is not defined.",
    "ImportError": "If a module cannot be imported.",
    "AttributeError": "If an attribute is missing.",
    "AssertionError": "If an assumption does not hold.",
    "IllegalArgumentException": "If an argument is not valid.",
    "IllegalStateException": "If the state does not allow it.",
    "NullPointerException": "If something is null that must not be.",
    "UnsupportedOperationException": "If it is not supported.",
    "RangeError": "If a value is out of range.",
}

_HEAD_LIST = """
id ids key keys name names path paths url uri type types size sizes length width height depth
index indices count color title label text content contents value values format version port
host address offset prefix suffix pattern encoding mode level state status kind root parent
owner date time timestamp duration timeout limit threshold weight rate class file files folder
directory extension message code
"""
HEADS = frozenset(re.findall(r"\w+", _HEAD_LIST))
"""Last words of compound names that read better in front: `user_id` is the id of the user."""

UNITS = {
    "ms": "in milliseconds",
    "seconds": "in seconds",
    "secs": "in seconds",
    "minutes": "in minutes",
    "bytes": "in bytes",
    "px": "in pixels",
}
NUMERIC = re.compile(
    r"|(?:t\.|typing\.)?(?:Optional\[)?(?:int|float|number|long|double|size_t|u?int\d+(?:_t)?|[ui]\d+|usize)\b.*"
)
HALF_SENTENCES = frozenset({"cannot", "not", "no", "too", "already"})
VAGUE = frozenset(
    {"result", "results", "res", "ret", "rv", "out", "output", "value", "val", "r", "x"}
)
BOOLEANS = frozenset({"bool", "boolean", "Boolean", "_Bool", "builtins.bool"})
TRUTHS = frozenset({"True", "False", "true", "false"})
ITSELF = ({"self"}, {"this"}, {"cls"})
TELLING = (["timeout"], ["overflow"], ["abort"], ["exit"], ["disconnect"], ["cancelled"], ["io"])
MAX_NAMED = 3
MAX_MODULE_SUMMARY = 80


def fallback(shape: Shape) -> Prose:
    """Sentences from the names alone."""
    return Prose(
        summary=summary_of(shape),
        parameters={p.name: parameter_text(p) for p in shape.parameters},
        attributes={p.name: attribute_text(p) for p in shape.attributes},
        returns=returns_text(shape) if shape.gives_value or shape.yields else "",
        raises={r.name: raises_text(r) for r in shape.raises},
    )


def summary_of(shape: Shape) -> str:
    """One sentence from a definition's name."""
    if shape.name in WHOLE_NAMES:
        return WHOLE_NAMES[shape.name]
    words = words_of(shape.spoken or shape.name)
    if shape.kind == "module":
        return module_summary(shape, words)
    if not words:
        return "Internal."
    if shape.kind == "class":
        return class_summary(words)
    first, rest = words[0], words[1:]
    if shape.kind == "property":
        return (
            f"Whether it {' '.join(question(words))}."
            if first in QUESTIONS
            else sentence(["the", *words])
        )
    if shape.name in ("__init__", "__new__"):
        owner = words_of(shape.symbol.split(".")[-2]) if "." in shape.symbol else ["object"]
        return sentence(["initialize" if shape.name == "__init__" else "create", "the", *owner])
    owner_name = shape.symbol.split(".")[-2] if "." in shape.symbol else ""
    if owner_name and shape.name in ("new", owner_name):
        return sentence(["create", *indefinite(words_of(owner_name) or ["object"])])
    return function_summary(shape, first, rest)


def class_summary(words: list[str]) -> str:
    """The sentence of a class; what an error is called may be half a sentence itself."""
    if words[0] in HALF_SENTENCES and len(words) > 1:
        return sentence(["an", "error:", *[w for w in words if w not in ("error", "exception")]])
    return sentence(indefinite(words))


def function_summary(shape: Shape, first: str, rest: list[str]) -> str:
    """The sentence of a function whose name has the words `first` and `rest`."""
    if not rest and re.fullmatch(r"get(?!ter|away)\w{3,}", first):
        first, rest = "get", [first[3:]]
    words = [first, *rest]
    if asks(first) and (rest or shape.returns in BOOLEANS):
        return f"Tell whether it {' '.join(question(words))}."
    if first == "get" and rest and shape.yields:
        return sentence(["yield", *article(rest)])
    if first in LEADS and rest:
        noun = article(rest) if first in ("get", "iter") else rest
        return sentence([*LEADS[first].split(), *noun])
    if rest and rest[-1].endswith("ed"):
        return sentence(words)
    if is_verb(first):
        return sentence([first, *article(rest)])
    if "to" in rest[:-1]:
        return sentence(["convert", *article(words)])
    if shape.as_context:
        return sentence(["provide", *article(words), "as a context"])
    if shape.yields:
        return sentence(["yield", *article(words)])
    if shape.parameters and set(shape.returned) in ITSELF:
        return sentence(["set", *article(words)])
    return sentence(["return", *article(words)]) if shape.gives_value else sentence(words)


def question(words: list[str]) -> list[str]:
    """`has redirect` as English says it: `has a redirect`."""
    if words[0] == "has" and len(words) > 1 and not is_plural(words[-1]):
        return ["has", *indefinite(words[1:])]
    return words


def module_summary(shape: Shape, words: list[str]) -> str:
    """What a module defines, by name; its own name when that is nothing public."""
    names = [f"`{name}`" for name in shape.contents]
    if not names:
        return sentence(words) if words else "A module."
    for count in range(min(MAX_NAMED, len(names)), 0, -1):
        *head, last = [
            *names[:count],
            *([f"{len(names) - count} more"] if count < len(names) else []),
        ]
        text = f"Provide {', '.join(head)} and {last}." if head else f"Provide {last}."
        if len(text) <= MAX_MODULE_SUMMARY:
            return text
    return sentence(words) if words else "A module."


def parameter_text(parameter: Parameter) -> str:
    """What a parameter's name, type and default say of it."""
    words = words_of(parameter.name)
    if parameter.stars:
        what = "Further keyword arguments" if parameter.stars == "**" else "Further arguments"
        to = f", passed on to `{parameter.passed_to}`" if parameter.passed_to else ""
        return f"{what}{to}."
    if not words:
        return ""
    if is_flag(parameter):
        return flag_text(words)
    if len(words) == 1 and parameter.default not in NULLS | {""}:
        return ""  # type and default say more than the name again
    text = noun_text(words, parameter.type)
    return text.removesuffix(".") + ", if any." if parameter.default in NULLS else text


def is_flag(parameter: Parameter) -> bool:
    """Whether a parameter is yes or no."""
    kind = parameter.type.replace(" ", "").removesuffix("|None")
    if kind:
        return kind in BOOLEANS | {"Optional[bool]", "t.Optional[bool]", "typing.Optional[bool]"}
    return parameter.default in TRUTHS


def flag_text(words: list[str]) -> str:
    """What a flag of these words switches."""
    if words[0] in QUESTIONS and len(words) > 1:
        return f"Whether it {' '.join(question(words))}."
    if is_verb(words[0]):
        return sentence(["whether", "to", words[0], *article(words[1:])])
    return f"Whether {' '.join(words)} applies."


def noun_text(words: list[str], kind: str) -> str:
    """A noun phrase as a sentence: what a name of several words is the what of.

    `kind` is the type; only a number is measured in a unit.
    """
    first, last = words[0], words[-1]
    if len(words) > 1 and first in ("num", "n"):
        return sentence(["number", "of", *words[1:]])
    if len(words) > 1 and first in ("max", "min"):
        bound = "upper" if first == "max" else "lower"
        return sentence([bound, "limit", "of", *article(words[1:])])
    if len(words) > 1 and last in UNITS and NUMERIC.fullmatch(kind):
        return sentence(["the", *words[:-1], UNITS[last]])
    if len(words) > 1 and last == "count":
        return sentence(["number", "of", *words[:-2], plural(words[-2])])
    plain = first not in HEADS | ADJECTIVES | QUESTIONS and not is_verb(first)
    if len(words) == 2 and last in HEADS and plain:
        return sentence([last, "of", "the", first])
    return sentence(["the", *words])


def attribute_text(attribute: Parameter) -> str:
    """What an attribute's name and type say of it."""
    words = words_of(attribute.name)
    if not words:
        return ""
    return flag_text(words) if is_flag(attribute) else noun_text(words, attribute.type)


def returns_text(shape: Shape) -> str:
    """What is returned or yielded, as far as name, type and return statements say it."""
    words = words_of(shape.spoken or shape.name)
    nouns = given_nouns(words)
    if shape.as_context:
        return sentence(["the", *nouns]) if nouns else "What the block works with."
    if shape.yields:
        return sentence(["the", *nouns, "one at a time"]) if nouns else "The next item."
    values = set(shape.returned)
    yes_or_no = shape.returns in BOOLEANS or (values and values <= TRUTHS)
    if yes_or_no or (words[:1] and words[0] in QUESTIONS and may_be_bool(shape.returns)):
        asked = bool(words) and asks(words[0])
        return f"True if {'it ' + ' '.join(question(words)) if asked else 'so'}, false otherwise."
    if values in ITSELF:
        return "The object itself."
    owner = shape.symbol.split(".")[-2] if "." in shape.symbol else ""
    makes = values == {"cls()"} or (words[:1] in (["from"], ["new"]) and shape.returns == "Self")
    text = value_text({f"{owner}()"} if makes and owner else values - NULLS, nouns)
    missing = sorted(values & NULLS)
    or_none = missing[:1] or (
        ["None"] if re.search(r"\| None\b|^Optional\[", shape.returns) else []
    )
    return f"{text.removesuffix('.')}, or {or_none[0]}." if or_none else text


def may_be_bool(kind: str) -> bool:
    """Whether a type, where there is one, can be a truth value; C has many names for it."""
    return not kind or kind == "int" or "bool" in kind.lower()


def given_nouns(words: list[str]) -> list[str]:
    """The words of a name that say what comes back; none where the name does not say it."""
    if words and is_verb(words[0]):
        words = words[1:] if words[0] in PRODUCERS else []
    elif words and words[0] in LEADS:
        words = words[1:] if words[0] in GIVING_LEADS else []
    return [] if words[:1] and words[0] in DANGLING | PARTICLES else words


def value_text(values: set[str], nouns: list[str]) -> str:
    """The sentence of a result: what is made in every return, the name's nouns, what is named."""
    only = next(iter(values)) if len(values) == 1 else ""
    if only.endswith("()") and only not in ("cls()", "self()"):
        return sentence(["the", "new", *words_of(only[:-2].split(".")[-1])])
    if nouns:
        return sentence(["the", *nouns])
    name = only.removesuffix("()").split(".")[-1]
    if len(name) > 2 and name not in VAGUE | {"cls", "self"} and words_of(name):
        return sentence(["the", *words_of(name)])
    return "The result."


def raises_text(raised: Raised) -> str:
    """When an exception is raised."""
    if raised.condition:
        return f"If `{raised.condition}`."
    if raised.again:
        return "Raised again after it was handled."
    if raised.message:
        return f'With the message "{raised.message.rstrip(".")}".'
    name = re.split(r"[.:\\]", raised.name)[-1]
    words = [w.lower() for w in words_of(re.sub(r"(Error|Exception|Warning)$", "", name))]
    if name in EXCEPTIONS:
        return EXCEPTIONS[name]
    if words[:1] and words[0] in HALF_SENTENCES:
        return sentence(["if", *words])
    return sentence(["on", *words]) if len(words) > 1 or words in TELLING else "On failure."
