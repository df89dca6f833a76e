"""What a file says again and again of a parameter, so that a new docstring may say it too."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from qcoder.lsp_server.docstring_drift import DEFAULT
from qcoder.lsp_server.docstring_reading import read
from qcoder.lsp_server.docstring_shape import Shape
from qcoder.lsp_server.docstring_style import Prose

FEWEST = 2
"""Docstrings that have to agree: one alone may speak of its own function only."""

MAX_CHARACTERS = 200


def descriptions(shapes: Sequence[Shape], language: str) -> dict[str, str]:
    """Descriptions by parameter name, where all docstrings of a file that have one say the same."""
    said: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for shape in shapes:
        if shape.existing is None:
            continue
        for entry in read(shape.existing.text, language).of("parameter"):
            text = cleaned(entry.text)
            if text:
                said[entry.name][text] += 1
    return {
        name: texts.most_common(1)[0][0]
        for name, texts in said.items()
        if len(texts) == 1 and texts.total() >= FEWEST
    }


def cleaned(text: str) -> str:
    """A description without its default, which belongs to one signature; "" when little is left."""
    text = re.sub(r"^\s*[-:]\s*", "", text.strip())
    sentences = re.split(r"(?<=[.;])\s+", text)
    kept = " ".join(s for s in sentences if not DEFAULT.search(s)).strip()
    fits = kept and len(kept) <= MAX_CHARACTERS and not re.search(r"[@\\<>]|\"\"\"|\*/", kept)
    return kept if fits else ""


def with_habits(prose: Prose, habits: Mapping[str, str]) -> Prose:
    """The prose with the file's own descriptions of its parameters."""
    known = {name: habits[name] for name in prose.parameters if name in habits}
    return replace(prose, parameters={**prose.parameters, **known})
