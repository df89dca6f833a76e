"""Where messages begin and end on a byte stream: headers, a blank line, a JSON body.

The protocol's header names have no fixed case, and a client may get a header wrong. Whatever stands
between two messages that can be read is passed over, so that one bad message costs only itself.
"""

from __future__ import annotations

import logging
import re
from typing import BinaryIO

logger = logging.getLogger(__name__)

LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,18})[ \t]*\r?\n\Z", re.IGNORECASE)
"""At the end of a line: what was left of a message before it may stand in front."""

MAX_LINE_BYTES = 1 << 16
MAX_BODY_BYTES = 1 << 30


def next_length(stream: BinaryIO) -> int | None:
    """Bytes of the next body, which the stream stands at; None at the end of the stream."""
    length = 0
    while line := stream.readline(MAX_LINE_BYTES):
        found = LENGTH.search(line)
        if found is not None:
            length = int(found.group(1))
        elif not line.strip() and 0 < length <= MAX_BODY_BYTES:
            return length
        elif not line.strip() and length:
            logger.warning("a message of %d bytes is passed over", length)
            length = 0
    return None


class FrameReader:
    """A stream for pygls, with the same messages under the only spelling of headers it reads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._blank = False

    def readline(self) -> bytes:
        """The next message's length as a header, then a blank line; empty at the end."""
        if self._blank:
            self._blank = False
            return b"\r\n"
        length = next_length(self._stream)
        if length is None:
            return b""
        self._blank = True
        return b"Content-Length: %d\r\n" % length

    def read(self, size: int) -> bytes:
        """A body."""
        return self._stream.read(size)
