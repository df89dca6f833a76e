"""Generations that follow a JSON schema, by llguidance, where it is installed.

Of every step's distribution only the tokens stay with which the text can still become what the schema
asks for. Without the package (`pip install qcoder[guidance]`) a schema is a wish, and whoever
reads the answer checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

COMPACT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""No blanks but those that JSON is usually written with: a model at a loss would add them for ever."""

IMPOSSIBLE = np.float32(-1e30)
"""Finite, so that its product with a probability of zero is a number."""


class Vocabulary(Protocol):
    """What guidance needs of a tokenizer, which is one object as long as it lives."""

    def __hash__(self) -> int:
        """Of the object."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Ids that end a generation."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of one token; empty for special tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""
        ...


class Guide:
    """The grammar of one generation, as far as it has come."""

    __slots__ = ("_matcher", "_words")

    def __init__(self, matcher: Any, words: NDArray[np.int32]) -> None:
        self._matcher, self._words = matcher, words

    def constrain(self, logprobs: FloatArray) -> FloatArray:
        """The log-probabilities [vocab] of tokens that may come next as they are, others next to none."""
        from llguidance.numpy import fill_next_token_bitmask  # optional, and loaded by now

        if self._matcher.is_error():
            return logprobs
        fill_next_token_bitmask(self._matcher, self._words)
        bits = np.unpackbits(self._words.view(np.uint8).reshape(-1), bitorder="little")
        allowed = np.zeros(len(logprobs), np.bool_)
        shared = min(len(bits), len(logprobs))
        allowed[:shared] = bits[:shared]
        if not allowed.any():
            return logprobs
        kept: FloatArray = np.where(allowed, logprobs, IMPOSSIBLE)
        return kept

    def push(self, token: int) -> None:
        """The token that was chosen."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)


def guide_for(tokenizer: Vocabulary, json_schema: str) -> Guide | None:
    """The guide of a generation; None without llguidance, or for a schema that it does not know."""
    try:
        from llguidance import LLMatcher
        from llguidance.numpy import allocate_token_bitmask
    except ImportError:
        return None
    try:
        grammar = LLMatcher.grammar_from_json_schema(json_schema, overrides=COMPACT)
    except ValueError:
        return None
    matcher = LLMatcher(backend_of(tokenizer), grammar)
    if matcher.is_error():
        return None
    return Guide(matcher, allocate_token_bitmask(1, tokenizer.vocab_size))


@lru_cache(maxsize=2)
def backend_of(tokenizer: Vocabulary) -> Any:
    """The vocabulary as llguidance keeps it; made once, since it sorts all tokens."""
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Wrapped(tokenizer)))


class _Wrapped:
    """A tokenizer under the names that llguidance asks for."""

    def __init__(self, tokenizer: Vocabulary) -> None:
        ends = tokenizer.eos_ids
        self.tokens: Sequence[bytes] = [
            tokenizer.token_bytes(i) or f"<{i}>".encode() for i in range(tokenizer.vocab_size)
        ]
        self.special_token_ids = [
            i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i)
        ]
        self.eos_token_id = min(ends)
        self.bos_token_id = None
        self._encode = tokenizer.encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))
