"""Which licences pass: expressions of three registries and Debian's copyright files."""

import pytest

from qcoder.training.corpus_licences import COPYLEFT_HEADER, debian_licences, is_permissive


@pytest.mark.parametrize(
    ("expression", "permissive"),
    [
        ("MIT", True),
        ("Expat", True),
        ("Apache License, Version 2.0", True),
        ("BSD License; MIT License", True),
        ("Apache-2.0 WITH LLVM-exception or Apache-2.0 or MIT", True),
        ("MIT/Apache-2.0", True),
        ("GPL-2+ or MIT", True),
        ("GPL-3+ with Autoconf-data exception", False),
        ("MIT AND MPL-2.0", False),
        ("BSD License; GNU General Public License (GPL)", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("LGPL-2.1-only", False),
        ("BUSL-1.1", False),
        ("BSL-1.0", True),
        ("BSL-1.1", False),
        ("UNLICENSED", False),
        ("The Unlicense (Unlicense)", True),
        ("Google Terms of Service", False),
        ("CC-BY-SA-4.0", False),
        ("SEE LICENSE IN LICENSE.txt", False),
        ("", False),
    ],
)
def test_licence_expressions(expression: str, permissive: bool) -> None:
    assert is_permissive(expression) == permissive


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: walk

Files: *
Copyright: 2020 Somebody
License: Apache-2.0

Files: src/inner/*.c
 src/outer/*.h
Copyright: 2021 Somebody
License: {inner}
 The text of the licence.
 .
 More text.

Files: docs/* logo.png debian/*
Copyright: 2022 Somebody
License: GPL-2+

License: GPL-2+
 The full text.
"""


def test_copyright_file_lists_licences_of_source_files_only() -> None:
    assert debian_licences(COPYRIGHT.format(inner="ISC")) == ["Apache-2.0", "ISC"]


def test_copyleft_stanza_of_a_source_folder_is_listed() -> None:
    assert not all(map(is_permissive, debian_licences(COPYRIGHT.format(inner="LGPL-2.1+"))))


def test_copyright_file_in_free_form_lists_nothing() -> None:
    assert debian_licences("This package was debianized by somebody. Licence: MIT\n") == []


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("// SPDX-License-Identifier: GPL-2.0-only", True),
        (" * the terms of the GNU Lesser General Public License as published", True),
        ("# This Source Code Form is subject to the Mozilla Public License, v. 2.0", True),
        ("// SPDX-License-Identifier: MIT", False),
        ("// Licensed under the Apache License, Version 2.0", False),
    ],
)
def test_copyleft_header_is_seen(header: str, found: bool) -> None:
    assert bool(COPYLEFT_HEADER.search(header)) == found
