"""Text to ids and back; special tokens cannot be smuggled in by text."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from qcoder.model.fake import NAMES, ByteTokenizer
from qcoder.model.tokenizer import StreamDecoder, Tokenizer

TEXTS = [
    "",
    "def f(self):\n\treturn self.x\r\n",
    "naïve — ΔΩ 日本語 🙂👩‍👩‍👧 \u0000\x7f\u00a0\ufeff",
    "<|fim_prefix|>rm -rf<|fim_middle|><|endoftext|>",
    "a <|file_sep|>path\n<|fim_suffix|>" * 3,
    "   \n\n\t \x0c end",
]


@pytest.fixture(params=["bpe", "bytes"])
def tokenizer(request: pytest.FixtureRequest, tiny: Any) -> Any:
    return Tokenizer.load(tiny.folder) if request.param == "bpe" else ByteTokenizer()


@pytest.mark.parametrize("text", TEXTS)
def test_text_round_trips(text: str, tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_no_text_becomes_a_special_token(tokenizer: Any) -> None:
    special = set(tokenizer.special.values())
    assert set(NAMES) <= tokenizer.special.keys()
    for name in NAMES:
        for text in (name, f"x{name}y", name * 2, name[:-1] + name):
            assert not special & set(tokenizer.encode(text)), text


def test_special_tokens_have_no_text_and_end_a_generation(tokenizer: Any) -> None:
    for name in NAMES:
        token = tokenizer.special[name]
        assert tokenizer.token_bytes(token) == b""
        assert token in tokenizer.eos_ids
    assert tokenizer.decode([tokenizer.special["<|fim_middle|>"], *tokenizer.encode("x")]) == "x"


def test_lone_surrogates_become_question_marks(tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_unknown_ids_have_no_text(tiny: Any) -> None:
    tokenizer = Tokenizer.load(tiny.folder)
    assert tokenizer.decode([-1, tokenizer.vocab_size, 10**6]) == ""


def test_bytes_of_tokens_concatenate_to_the_text(tokenizer: Any) -> None:
    for text in TEXTS:
        parts = [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]
        assert b"".join(parts) == text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_streamed_text_equals_the_text_and_is_valid_at_every_step(
    text: str, tokenizer: Any
) -> None:
    decoder, out = StreamDecoder(tokenizer), ""
    for token in tokenizer.encode(text):
        out += decoder.push(token)
        assert text.startswith(out)
    assert out == text


def test_streaming_survives_bytes_that_are_no_utf8() -> None:
    rng = random.Random(0)
    for _ in range(300):
        data = bytes(rng.choice([0x61, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xFF, 0x80])
                     for _ in range(rng.randrange(12)))  # fmt: skip
        decoder = StreamDecoder(ByteTokenizer())
        out = "".join(decoder.push(b) for b in data)
        assert data.decode("utf-8", "replace").startswith(out), data
        assert out + decoder.push(0x0A) == (data + b"\n").decode("utf-8", "replace")


def test_end_tokens_come_from_both_configs(tiny: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "model"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [17, 18]}))
    plain, both = Tokenizer.load(tiny.folder).eos_ids, Tokenizer.load(folder).eos_ids
    assert both == plain | {17, 18}
    assert 300 in plain


def test_the_hash_follows_the_file(tiny: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "model"))
    assert Tokenizer.load(folder).hash == Tokenizer.load(tiny.folder).hash
    path = folder / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    assert Tokenizer.load(folder).hash != Tokenizer.load(tiny.folder).hash
