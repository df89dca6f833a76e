"""From packed context to token ids: fill-in-the-middle prompts in both orders.

    spm  [<|file_sep|>segment]* <|file_sep|>path\\n <|fim_prefix|><|fim_suffix|>suffix<|fim_middle|>prefix
    psm  <|repo_name|>repo\\n[<|file_sep|>segment]* <|file_sep|>path\\n
         <|fim_prefix|>prefix<|fim_suffix|>suffix<|fim_middle|>

The default model reads spm: what is typed lengthens the end of the prompt, so everything before it
keeps its KV. Qwen's checkpoints read psm. Special tokens are placed here and nowhere else; text of
the workspace is encoded as plain characters.
"""

from __future__ import annotations

from qcoder.context.pack import render
from qcoder.context.segments import CursorWindow, PackedContext
from qcoder.lsp_server.postprocess import next_line_indent
from qcoder.model.engine import FimOrder
from qcoder.model.errors import CheckpointError
from qcoder.model.healing import healable
from qcoder.model.request import Prompt, SegmentSpan
from qcoder.model.tokenizer import Tokenizer

FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>")
PRESENT_TOKENS = 6
SPECIAL_TOKENS = 16
"""Room to leave for the special tokens around the window and the repository line."""


def fim_prompt(
    packed: PackedContext, tokenizer: Tokenizer, order: FimOrder, repository: str = ""
) -> Prompt:
    """The prompt whose continuation is the text at the cursor.

    Raises `CheckpointError` for a model whose vocabulary has no tokens to write it with.
    """
    special = tokenizer.special
    if missing := [name for name in FIM_TOKENS if name not in special]:
        raise CheckpointError(
            f"tokenizer.json has no {' '.join(missing)}: the model was not made to fill in the "
            "middle; choose a coder model"
        )
    separator = special["<|file_sep|>"]
    ids: list[int] = []
    spans: list[SegmentSpan] = []
    if order == "psm" and repository and packed.segments:
        ids += [special["<|repo_name|>"], *tokenizer.encode(repository[:40] + "\n")]
    for item in packed.segments:
        start = len(ids)
        ids += [separator, *tokenizer.encode(render(item))]
        spans.append(SegmentSpan(start, len(ids), item.segment.sha))
    window = packed.window
    ids += [separator, *tokenizer.encode(window.path + "\n")]
    whole = tokenizer.encode(window.prefix)
    prefix, healed = healable(whole, tokenizer)
    suffix = tokenizer.encode(window.suffix)
    present = already_present(whole[len(prefix) :], suffix, healed, window.suffix, tokenizer)
    if order == "spm":
        ids += [special["<|fim_prefix|>"], special["<|fim_suffix|>"], *suffix]
        ids += [special["<|fim_middle|>"], *prefix]
    else:
        ids += [special["<|fim_prefix|>"], *prefix, special["<|fim_suffix|>"], *suffix]
        ids.append(special["<|fim_middle|>"])
    return Prompt(tuple(ids), tuple(spans), healed, present, is_indented(window))


def is_indented(window: CursorWindow) -> bool:
    """Whether the cursor's line has only blanks before it, as many as an editor puts there or more."""
    *above, line = window.prefix.split("\n")
    if not line or line.strip():
        return False
    last = next((row for row in reversed(above) if row.strip()), "")
    return len(line) >= len(next_line_indent(last, window.prefix + "x"))


def already_present(
    piece: list[int], suffix: list[int], healed: bytes, suffix_text: str, tokenizer: Tokenizer
) -> tuple[tuple[int, ...], ...]:
    """How the document goes on from the end of the prompt, token by token.

    After each token of the unfinished word `piece` one continuation, and one for the case that
    the word, or as much of it as was there some keys ago, and what follows are cut otherwise. At the
    end of the file nothing follows, and the ways end there.
    """
    ways = {tuple([*piece[at:], *suffix][:PRESENT_TOKENS]) for at in range(len(piece) + 1)}
    word, behind = healed.decode("utf-8", "replace"), suffix_text[: 8 * PRESENT_TOKENS]
    for size in range(1, len(word) + 1):
        ways.add(tuple(tokenizer.encode(word[:size] + behind)[:PRESENT_TOKENS]))
    return tuple(sorted(way for way in ways if way))
