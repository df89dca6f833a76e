"""The peers without network fill holes: their first choices, one after the other, to the end of the line.

They have all that the model has and more of it: the whole file on both sides of the hole, and the
whole workspace that the server's copy table remembers. The text behind the hole counts as read
before what stands in front of it, so a peer has seen it without continuing it. An unfinished word
in front of the hole is left out and spelled again, a line that is indented not indented further, and
tokens that end the line alike are one, as for the engine (`qcoder.model.healing`, `line_ends`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcoder.context.segments import CursorWindow
from qcoder.lsp_server.prompts import is_indented
from qcoder.model.healing import Healing, PrefixIndex, healable
from qcoder.model.ngram import SuffixTable
from qcoder.model.tokenizer import Tokenizer
from qcoder.training.holes import MAX_TRUTH, Hole
from qcoder.training.left_to_right import COPY, NESTED, TRAINED, Surroundings
from qcoder.training.peers import CopyModel, CountTable, NestedCache, Predictor


@dataclass(frozen=True, slots=True)
class Peers:
    """What all holes of a language share: the tokens, and the trained 5-gram when there is one."""

    tokenizer: Tokenizer
    prefixes: PrefixIndex
    trained: CountTable | None

    @staticmethod
    def of(tokenizer: Tokenizer, trained: CountTable | None) -> Peers:
        """Peers that count the tokens of `tokenizer`."""
        return Peers(tokenizer, PrefixIndex(tokenizer, tokenizer.vocab_size), trained)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file's workspace as the peers look things up in it."""

    table: SuffixTable | None
    levels: list[CountTable]

    @staticmethod
    def of(around: Surroundings) -> Opened:
        """Count the workspace once for all holes of a file."""
        return Opened(around.suffix_table(), around.count_tables())


def fill(hole: Hole, opened: Opened, peers: Peers) -> dict[str, str]:
    """What each peer writes into a hole, by its name."""
    tokenizer = peers.tokenizer
    separator = tokenizer.special["<|file_sep|>"]
    header = [separator, *tokenizer.encode(hole.file.path + "\n")]
    prefix, healed = healable(tokenizer.encode(hole.prefix), tokenizer)
    history = [*tokenizer.encode(hole.suffix), *header, *prefix]
    vocab, levels = tokenizer.vocab_size, [*opened.levels, CountTable.build([history])]
    predictors: dict[str, Predictor] = {
        COPY: CopyModel(vocab, opened.table, history),
        NESTED: NestedCache(vocab, levels, history, learns=False),
    }
    if peers.trained is not None:
        of_corpus = [peers.trained, *levels]
        predictors[TRAINED] = NestedCache(vocab, of_corpus, history, learns=False)
    window = CursorWindow(hole.file.path, hole.file.language, hole.prefix, hole.suffix, 0)
    indented = is_indented(window)
    return {
        name: write(predictor, Healing(peers.prefixes, healed, indented), tokenizer)
        for name, predictor in predictors.items()
    }


def write(predictor: Predictor, healing: Healing, tokenizer: Tokenizer) -> str:
    """First choices to the end of the line, without what `healing` has to spell again."""
    text = b""
    while b"\n" not in text and len(text) <= MAX_TRUTH:
        logprobs = np.log(predictor.probabilities()).astype(np.float32)
        if healing.active:
            logprobs = healing.constrain(logprobs)
        token = int(tokenizer.line_ends.merged(logprobs).argmax())
        data = tokenizer.token_bytes(token)
        if not data:
            break  # the end token stands for all ways to end the line
        text += healing.take(data)
        predictor.push(token)
    return text.partition(b"\n")[0].decode("utf-8", "replace")
