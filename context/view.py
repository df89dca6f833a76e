"""What one prompt shows already: the cursor's window, and texts by their hash."""

from __future__ import annotations

from qcoder.context.costs import digest, meet
from qcoder.context.index import Index
from qcoder.context.record import FileRecord
from qcoder.context.window import Window


class View:
    """The texts of one packing, read once, and which of them are shown."""

    def __init__(self, index: Index | None, path: str, text: str, window: Window) -> None:
        self.path = path
        self.window = window
        self._index = index
        self._texts: dict[str, str | None] = {path: text}
        self._shown: set[bytes] = set()
        self._files: dict[bytes, str] = {}

    def text(self, record: FileRecord) -> str | None:
        """The text that a record describes; None when the file has changed since or is refused."""
        if record.path not in self._texts:
            self._texts[record.path] = self._index.text_of(record) if self._index else None
        return self._texts[record.path]

    def in_window(self, path: str, lines: tuple[int, int]) -> bool:
        """Whether the window shows one of the lines."""
        return path == self.path and meet(lines, (self.window.start_line, self.window.end_line))

    def is_shown(self, text: str) -> bool:
        """Whether an equal text is shown, as a file or as a part of one."""
        key = digest(text)
        return key in self._shown or key in self._files

    def show(self, text: str) -> None:
        """Remember that a part of a file is shown."""
        self._shown.add(digest(text))

    def file_with(self, text: str) -> str | None:
        """Path of the whole file that shows an equal text already."""
        return self._files.get(digest(text))

    def show_file(self, path: str, text: str) -> None:
        """Remember that a whole file is shown."""
        self._files[digest(text)] = path
