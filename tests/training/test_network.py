"""The trained network and the exported checkpoint are the same function."""

import argparse
import json
import random
from pathlib import Path

import pytest
import torch

from qcoder.model.engine import Engine
from qcoder.training.checkpoints import make_optimizer, save
from qcoder.training.export import export
from qcoder.training.items import LANGUAGE_SHARE, Corpus, Rows, choose_span, window
from qcoder.training.muon import orthogonalize
from qcoder.training.network import Network, NetworkConfig
from qcoder.training.schedule import SCHEDULES


def small_config(vocab_size: int) -> NetworkConfig:
    return NetworkConfig(
        vocab_size=vocab_size, hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=16, num_experts=4, moe_intermediate_size=24,
    )  # fmt: skip


def test_exported_engine_equals_the_training_network_up_to_int8(
    corpus_folder: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = Network(small_config(400), 64)
    optimizer = make_optimizer(network)
    progress = {"seconds": 1.0, "tokens": 2, "steps": 1}
    save(tmp_path / "checkpoint.pt", network, optimizer, optimizer.masters, progress)
    (tmp_path / "log.jsonl").write_text('{"loss": 1.0, "load_cv": 0.1}\n')
    export(
        argparse.Namespace(
            run=tmp_path, corpus=corpus_folder, tokenizer=tokenizer_file, output=tmp_path / "out"
        )
    )
    engine = Engine.load(str(tmp_path / "out"))
    ids = [random.Random(0).randrange(400) for _ in range(63)]
    with torch.no_grad():
        hidden, _, _ = network.hidden(torch.tensor([ids]))
        expected = hidden[0] @ network.embedding.T
    difference = (engine.logits(ids) - expected).abs().max()
    assert difference < 0.02 * expected.abs().max()
    assert engine.info.fim_order == "spm"


def test_training_lowers_the_loss(corpus_folder: Path, tokenizer_file: Path) -> None:
    from tokenizers import Tokenizer

    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    network = Network(small_config(400), 64)
    optimizer = make_optimizer(network)
    batches = Rows(Corpus(corpus_folder), tokenizer, seed=3).batches(8, 64)
    losses = []
    for _ in range(12):
        batch = torch.from_numpy(next(batches))
        loss, balance, loads = network(batch[:, :-1], batch[:, 1:])
        (loss + 0.01 * balance).backward()
        optimizer.step(1.0)
        assert loads.sum() == 2 * 2 * 8 * 64
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1


def test_rows_are_full_seeded_and_hold_fim_items(corpus_folder: Path, tokenizer_file: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    corpus = Corpus(corpus_folder)
    first, second = (Rows(corpus, tokenizer, seed=5) for _ in range(2))
    rows = [first.row(200) for _ in range(10)]
    assert rows == [second.row(200) for _ in range(10)]
    assert all(len(row) == 201 for row in rows)
    assert any(first.middle in row and first.suffix in row for row in rows)


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 64, 16), (2, 16, 64)])
def test_orthogonalize_gives_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
    assert values.min() > 0.4
    assert values.max() < 1.4


@pytest.mark.parametrize("seed", range(30))
def test_spans_lie_inside_the_text(source_text: str, seed: int) -> None:
    rng = random.Random(seed)
    text = window(source_text, rng.randint(30, 600), rng)
    start, stop = choose_span(text, rng)
    assert 0 <= start <= stop <= len(text)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedule_warms_up_holds_and_cools(name: str) -> None:
    schedule = SCHEDULES[name]
    assert schedule.lr_scale(0.0, 0) < 0.1
    assert schedule.lr_scale(schedule.decay_from, 1000) == schedule.peak
    assert schedule.lr_scale(1.0, 1000) == 0.0
    assert schedule.phase(0.0) == schedule.phases[0]
    assert schedule.phase(1.0) == schedule.phases[-1]


def test_a_share_of_the_draws_takes_the_cleanest_files_only(tmp_path: Path) -> None:
    rows = [{"package": "p", "path": f"{i}", "text": "x" * 50, "quality": i} for i in range(20)]
    for language in LANGUAGE_SHARE:
        text = "".join(json.dumps(row) + "\n" for row in rows) if language == "go" else ""
        (tmp_path / f"{language}.jsonl").write_text(text)
    corpus, rng = Corpus(tmp_path), random.Random(0)
    assert {int(corpus.draw(rng)[1].path) for _ in range(400)} == set(range(20))
    corpus.clean_share = 1.0
    assert {int(corpus.draw(rng)[1].path) for _ in range(100)} == {17, 18, 19}
