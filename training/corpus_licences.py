"""Which licences the training text may have, decided mechanically from what a package declares.

Owns: reading licence expressions (SPDX, PyPI classifiers, Debian names) and Debian's
machine-readable `copyright` files. Does not own: where packages lie (`corpus_sources.py`).

In doubt a package is refused: a name that is in no list counts as not permissive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

PERMISSIVE = re.compile(
    r"\b(MIT|X11|EXPAT|ISC|BSD|FREEBSD|0BSD|APACHE|PSF|PYTHON|HPND|ZLIB|UNLICENSE"
    r"|BSL|BOOST|CC0|CREATIVE-COMMONS-(0|PUBLIC)|PUBLIC.DOMAIN|NCSA|U-OF-I-BSD|CURL|GO"
    r"|UNICODE|W3C|BLUEOAK|LLVM|ZERO.CLAUSE|MPEG|POSTGRESQL|WTFPL)(?![A-Z])",
    re.IGNORECASE,
)
COPYLEFT = re.compile(
    r"\b([AL]?GPL|GNU|MPL|MOZILLA|SSPL|EPL|CDDL|EUPL|OSL|BUSL|BSL-1\.1|BUSINESS|ELASTIC"
    r"|COMMONS CLAUSE|CC-BY|BSD-4|GFDL|FDL|ARTISTIC|PROPRIETARY|NON-?COMMERCIAL|NODERIV)",
    re.IGNORECASE,
)
COPYLEFT_HEADER = re.compile(
    r"(GNU (Lesser |Library |Affero )?General Public Licen|Mozilla Public Licen|Eclipse Public Licen"
    r"|SPDX-License-Identifier:.*\b([AL]?GPL|MPL|EPL|CDDL|SSPL|BUSL)"
    r"|Server Side Public Licen|Business Source Licen|Elastic Licen)",
    re.IGNORECASE,
)
SOURCE_SUFFIXES = frozenset(
    (
        *("", "py", "js", "mjs", "cjs", "jsx", "ts", "tsx", "go", "rs", "c", "h", "cc", "cpp"),
        *("cxx", "hpp", "hh", "hxx", "inl", "ipp", "inc"),
    )
)


def is_permissive(expression: str) -> bool:
    """Whether a licence expression lets the text be used under permissive terms alone.

    `A or B` needs one permissive side, `A and B` both. With parentheses every name has to be
    permissive: they are too rare to earn a parser.
    """
    expression = re.sub(r"\bWITH\s+[\w.-]+|, Version", "", expression, flags=re.IGNORECASE)
    if "(" in expression and re.search(r"\band\b", expression, re.IGNORECASE):
        alternatives = [re.split(r"\band\b|\bor\b|[;,/|]", expression, flags=re.IGNORECASE)]
    else:
        alternatives = [
            re.split(r"\band\b|[;,&]", side, flags=re.IGNORECASE)
            for side in re.split(r"\bor\b|[/|]", expression, flags=re.IGNORECASE)
        ]
    return any(
        all(PERMISSIVE.search(name) and not COPYLEFT.search(name) for name in side)
        for side in alternatives
    )


def debian_licences(copyright_text: str) -> list[str]:
    """Licences of the source files that a Debian `copyright` file lists; empty when not in its format.

    Stanzas that cover only the packaging (`debian/*`) or only documents, images and fonts do not
    count: neither reaches the corpus.
    """
    if not re.match(r"\s*Format(-Specification)?:", copyright_text):
        return []
    found = []
    for stanza in _stanzas(copyright_text):
        patterns = stanza.get("files", "").split()
        if "files" in stanza and any(_may_be_source(p) for p in patterns):
            found.append(stanza.get("license", "").strip().split("\n")[0].strip())
    return list(dict.fromkeys(found))


def _may_be_source(pattern: str) -> bool:
    """Whether a `Files:` pattern can match a source file outside of Debian's own folder."""
    pattern = pattern.removeprefix("./").rstrip(",")
    name = pattern.rsplit("/", 1)[-1]
    suffix = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    return not pattern.startswith(("debian/", "doc/", "docs/")) and (
        suffix in SOURCE_SUFFIXES or "*" in suffix
    )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Paragraphs of a Debian control file as fields in lower case; continuation lines stay inside."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[name] = fields.get(name, "") + "\n" + line.strip()
            elif ":" in line and not line.startswith("#"):
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        yield fields
