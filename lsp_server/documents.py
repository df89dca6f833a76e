"""Text documents that split lines where the protocol does, and nowhere else.

pygls splits with `str.splitlines`, which also breaks at form feeds, U+2028 and others, so edits
after such a character land on the wrong line. The protocol knows \\n, \\r\\n and \\r only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lsprotocol import types
from pygls.workspace import TextDocument, Workspace

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")


def split_lines(text: str) -> list[str]:
    """Lines with their ends; an empty last line is left out, as pygls expects."""
    return LINE.findall(text)


def normalized(text: str) -> str:
    """The text with every line end as \\n: line numbers and columns stay what they were."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class ProtocolTextDocument(TextDocument):
    """A pygls document with the protocol's idea of lines."""

    @property
    def lines(self) -> Sequence[str]:
        """Lines with their ends."""
        return split_lines(self.source)


class ProtocolWorkspace(Workspace):
    """A pygls workspace that makes such documents."""

    @staticmethod
    def replacing(old: Workspace, folders: Sequence[types.WorkspaceFolder]) -> ProtocolWorkspace:
        """A workspace in the place of the one that pygls made at `initialize`."""
        return ProtocolWorkspace(
            old.root_uri, types.TextDocumentSyncKind.Incremental, folders, old.position_encoding
        )

    def _create_text_document(
        self,
        doc_uri: str,
        source: str | None = None,
        version: int | None = None,
        language_id: str | None = None,
    ) -> TextDocument:
        return ProtocolTextDocument(
            doc_uri,
            source=source,
            version=version,
            language_id=language_id,
            sync_kind=self._sync_kind,
            position_codec=self._position_codec,
        )
