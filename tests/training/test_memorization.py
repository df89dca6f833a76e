"""What a model repeats of its training text is found and counted."""

import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qcoder.model.engine import Engine
from qcoder.model.mixture import BlendResult, Mixture
from qcoder.training import memorization
from qcoder.training.corpus_rows import draw, every_row
from qcoder.training.memorization import (
    CONTINUATION,
    CorpusError,
    Place,
    Reproduced,
    Whereabouts,
    figures,
    places,
    reproduce,
    whereabouts,
)

VOCAB = 300
PERIOD = 60


class Copier:
    """A mixture, and its state, that says what stood `PERIOD` tokens ago."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids = list(ids)

    def start(self, ids: Sequence[int], tables: tuple[()]) -> "Copier":
        assert tables == ()
        return Copier(ids)

    def blend(self, logprobs: NDArray[np.float32]) -> BlendResult:
        certain = np.full_like(logprobs, -20)
        certain[self.ids[-PERIOD]] = 0
        return BlendResult(certain, None)

    def push(self, token: int) -> None:
        self.ids.append(token)


class Bytes:
    """A tokenizer whose tokens are bytes."""

    vocab_size = VOCAB
    special: Mapping[str, int] = MappingProxyType({"<|file_sep|>": 256})

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: tuple[int, ...]) -> str:
        return bytes(ids).decode()


class Parrot:
    """An engine that knows one text by heart and after anything else says 0."""

    tokenizer = Bytes()

    def __init__(self, text: str) -> None:
        self.text = text
        self.info = SimpleNamespace(name="parrot", path="/nowhere", manifest={})

    def logits(self, ids: list[int]) -> torch.Tensor:
        rows = torch.zeros(len(ids), VOCAB)
        for at in range(len(ids)):
            recent = bytes(i for i in ids[max(0, at - 11) : at + 1] if i < 256).decode()
            place = self.text.find(recent)
            following = self.text[place + len(recent) :][:1] if place >= 0 else ""
            rows[at, ord(following) if following else 0] = 9.0
        return rows


def corpus(folder: Path, texts: dict[str, str]) -> Path:
    rows = [{"package": p, "path": f"{p}/a.py", "text": text} for p, text in texts.items()]
    (folder / "python.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def unlike(seed: int, size: int = 400) -> str:
    rng = np.random.default_rng(seed)
    return "".join(chr(97 + int(i)) for i in rng.integers(0, 26, size))


def as_engine(parrot: Parrot) -> Engine:
    return cast(Engine, parrot)


def test_text_known_by_heart_is_reproduced_and_other_text_is_not() -> None:
    known, unknown = unlike(1), unlike(2)
    engine = as_engine(Parrot(known))
    for text, expected in ((known, CONTINUATION), (unknown, 0)):
        ids = tuple(text.encode())
        place = Place("python", ids[:100], ids[100 : 100 + CONTINUATION])
        found = reproduce(place, engine, None)
        assert (found.network, found.mixture) == (expected, expected)


def test_run_ends_at_the_first_wrong_token() -> None:
    known = unlike(1)
    text = known[:120] + "0" + known[121:]
    ids = tuple(text.encode())
    place = Place("python", ids[:100], ids[100 : 100 + CONTINUATION])
    assert reproduce(place, as_engine(Parrot(known)), None).network == 20


def test_mixture_copies_from_the_prefix_alone() -> None:
    text = (unlike(3, PERIOD) * 4).encode()
    place = Place("python", tuple(text[:150]), tuple(text[150 : 150 + CONTINUATION]))
    found = reproduce(place, as_engine(Parrot("")), cast(Mixture, Copier()))
    assert found.network == 0
    assert found.mixture == CONTINUATION


def test_places_are_seeded_and_lie_in_the_corpus(tmp_path: Path) -> None:
    folder = corpus(tmp_path, {"a": unlike(1), "b": unlike(2, 1000), "c": "tiny"})
    engine = as_engine(Parrot(""))
    some = list(places(folder, {"python": 1.0}, engine, 12, 5))
    assert some == list(places(folder, {"python": 1.0}, engine, 12, 5))
    texts = [row.text for row in every_row(folder / "python.jsonl")]
    for place in some:
        assert len(place.truth) == CONTINUATION
        assert any(bytes(place.truth).decode() in text for text in texts)


def test_corpus_without_usable_text_says_so(tmp_path: Path) -> None:
    engine = as_engine(Parrot(""))
    with pytest.raises(CorpusError, match="no text of python"):
        list(places(tmp_path, {"python": 1.0}, engine, 3, 1))
    with pytest.raises(CorpusError, match="too short"):
        list(places(corpus(tmp_path, {"a": "tiny"}), {"python": 1.0}, engine, 3, 1))


def test_common_text_is_counted_in_the_share_and_by_itself(tmp_path: Path) -> None:
    common, rare = unlike(4, CONTINUATION), unlike(5, CONTINUATION)
    folder = corpus(tmp_path, {"a": common + rare, "b": "x" + common, "c": common + "y"})
    one = Reproduced(Place("python", (1,), tuple(common.encode())), CONTINUATION, CONTINUATION)
    two = Reproduced(Place("python", (2,), tuple(rare.encode())), 7, CONTINUATION)
    known = whereabouts(folder, [one, two], as_engine(Parrot("")))
    assert [where.packages for where in known.values()] == [3, 1]
    result = figures([one, two], known)
    assert result["network_verbatim_share"] == result["network_verbatim_common_share"] == 0.5
    assert result["mixture_verbatim_share"] == 1.0
    assert result["mixture_verbatim_neither_share"] == 0.5


def test_repetition_of_the_prefix_is_told_from_memory(tmp_path: Path) -> None:
    periodic = (unlike(3, PERIOD) * 4).encode()
    repeated = Place("python", tuple(periodic[:150]), tuple(periodic[150 : 150 + CONTINUATION]))
    fresh = Place("python", tuple(unlike(6).encode()), tuple(unlike(7, CONTINUATION).encode()))
    found = [Reproduced(place, CONTINUATION, CONTINUATION) for place in (repeated, fresh)]
    known = whereabouts(corpus(tmp_path, {"a": unlike(7)}), found, as_engine(Parrot("")))
    assert known == {repeated: Whereabouts(0, True), fresh: Whereabouts(1, False)}
    assert figures(found, known)["network_verbatim_repeats_prefix_share"] == 0.5


@pytest.mark.parametrize(("text", "code"), [(unlike(1, 300), 1), ("", 0)])
def test_gate_decides_the_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: int,
) -> None:
    folder = corpus(tmp_path, {"a": unlike(1, 300)})
    monkeypatch.setattr(memorization.Engine, "load", staticmethod(lambda _: Parrot(text)))
    monkeypatch.setattr(memorization.Mixture, "load_for", staticmethod(lambda _: None))
    arguments = ["memorization", "--corpus", str(folder), "--prefixes", "5", "--format", "json"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert memorization.main() == code
    printed = json.loads(capsys.readouterr().out)
    assert {t["figure"] for t in printed["targets"]} == {
        "network_verbatim_share", "mixture_verbatim_share",
    }  # fmt: skip


def test_rows_are_drawn_by_length(tmp_path: Path) -> None:
    folder = corpus(tmp_path, {"short": "a" * 90, "long": "b" * 5000, "last": "c" * 90})
    drawn = draw(folder / "python.jsonl", random.Random(1))
    names = [next(drawn).package for _ in range(400)]
    assert names.count("long") > 340
    assert set(names) == {"short", "long", "last"}
