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
from qcoder.context.segments import PackedContext
from qcoder.model.engine import FimOrder
from qcoder.model.request import Prompt, SegmentSpan
from qcoder.model.tokenizer import Tokenizer

SPECIAL_TOKENS = 16
"""Room to leave for the special tokens around the window and the repository line."""


def fim_prompt(
    packed: PackedContext, tokenizer: Tokenizer, order: FimOrder, repository: str = ""
) -> Prompt:
    """The prompt whose continuation is the text at the cursor."""
    special = tokenizer.special
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
    prefix, suffix = tokenizer.encode(window.prefix), tokenizer.encode(window.suffix)
    if order == "spm":
        ids += [special["<|fim_prefix|>"], special["<|fim_suffix|>"], *suffix]
        ids += [special["<|fim_middle|>"], *prefix]
    else:
        ids += [special["<|fim_prefix|>"], *prefix, special["<|fim_suffix|>"], *suffix]
        ids.append(special["<|fim_middle|>"])
    return Prompt(tuple(ids), tuple(spans))
