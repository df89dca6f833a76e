import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from qcoder.model.quant import quantize_int8
from qcoder.training import checkpoints
from qcoder.training.network import SIZES, Network, NetworkConfig
from qcoder.training.plot import draw, read_log
from qcoder.training.pretrain import Plan, start, train
from qcoder.training.rounding import publish_rounded, round_int8
from qcoder.training.schedule import SCHEDULES, Phase, Schedule

TINY = NetworkConfig(
    vocab_size=400, hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
    num_key_value_heads=1, head_dim=16, num_experts=4, moe_intermediate_size=24,
)  # fmt: skip
SCHEDULE = Schedule(
    (Phase(0.0, 32, 4, 1), Phase(0.5, 64, 2, 2)), decay_from=0.5, quantize_from=0.5, warmup_steps=2
)


@pytest.fixture
def plan(
    corpus_folder: Path, tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Plan:
    monkeypatch.setitem(SIZES, "tiny", TINY)
    return Plan(
        corpus_folder, tokenizer_file, tmp_path / "run", 0.0003,
        size="tiny", schedule=SCHEDULE, threads=1, compile=False,
    )  # fmt: skip


def vocab_size(plan: Plan) -> int:
    return Tokenizer.from_file(str(plan.tokenizer)).get_vocab_size()


def test_a_run_ends_with_checkpoint_stable_weights_and_log(plan: Plan) -> None:
    training = train(plan)
    assert training.progress["share"] == 1.0
    assert training.progress["steps"] > 0
    assert (plan.run / checkpoints.STABLE).exists()
    rows = read_log(plan.run / checkpoints.LOG)
    assert rows[0]["tokens"] == 128
    assert {"loss", "load_cv", "tokens_per_second"} <= rows[0].keys()


def test_a_run_goes_on_where_it_stopped(plan: Plan) -> None:
    first = train(plan)
    again = start(plan, vocab_size(plan))
    assert again.progress == first.progress
    for mine, theirs in zip(again.optimizer.masters, first.optimizer.masters, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(again.average, first.average, strict=True):
        assert torch.equal(mine, theirs)
    assert train(plan).progress["steps"] == first.progress["steps"], "its time is spent"


def test_init_keeps_weights_and_tokens_and_begins_the_schedule_anew(
    plan: Plan, tmp_path: Path
) -> None:
    first = train(plan)
    init = plan.run / checkpoints.CHECKPOINT
    second = start(replace(plan, run=tmp_path / "other", init=init), vocab_size(plan))
    assert second.progress == {"seconds": 0.0, "steps": 0, "tokens": first.progress["tokens"]}
    assert torch.equal(second.optimizer.masters[0], first.optimizer.masters[0])


def test_further_training_begins_below_the_full_rate_and_ends_at_zero() -> None:
    further, steps = SCHEDULES["further"], 1000
    assert further.lr_scale(0.0, 0) < 0.05
    assert further.lr_scale(further.decay_from, steps) == further.peak < 1
    assert further.lr_scale(1.0, steps) == 0
    assert SCHEDULES["cpu"].lr_scale(0.5, steps) == 1


def test_tokens_of_an_exported_folder_count_on(tmp_path: Path) -> None:
    assert checkpoints.tokens_seen(tmp_path) == 0
    manifest = tmp_path / "MANIFEST.json"
    manifest.write_text('{"name": "somebody else\'s"}')
    assert checkpoints.tokens_seen(tmp_path) == 0
    manifest.write_text('{"training": {"tokens_seen": 1234}}')
    assert checkpoints.tokens_seen(tmp_path) == 1234


def test_a_damaged_checkpoint_is_named(plan: Plan) -> None:
    plan.run.mkdir()
    (plan.run / checkpoints.CHECKPOINT).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(SystemExit, match=r"checkpoint\.pt is not a readable checkpoint"):
        train(plan)


def test_the_average_of_a_checkpoint_is_read_by_name(plan: Plan) -> None:
    train(plan)
    state = checkpoints.read(plan.run / checkpoints.CHECKPOINT)
    last = checkpoints.masters_by_name(state)
    mean = checkpoints.masters_by_name(state, average=True)
    assert last.keys() == mean.keys() == dict(Network(TINY, 8).named_parameters()).keys()
    assert not torch.equal(last["embedding"], mean["embedding"])


def test_rounded_weights_survive_the_export_unchanged() -> None:
    torch.manual_seed(0)
    weights = torch.randn(3, 5, 33)
    rounded = round_int8(weights)
    assert (rounded - weights).abs().max() < weights.abs().max() / 200
    flat = rounded.view(-1, 33)
    values, scales = quantize_int8(flat)
    assert torch.allclose(values.float() * scales.float().unsqueeze(1), flat, atol=1e-6)


def test_router_and_norms_are_published_exactly() -> None:
    network = Network(TINY, 8)
    named = dict(network.named_parameters())
    masters = {n: torch.randn_like(p) for n, p in named.items()}
    publish_rounded(named, masters)
    exact = {n for n, p in named.items() if torch.equal(p, masters[n])}
    assert exact == {n for n in named if n.endswith(("router", "norm"))}


def test_a_log_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"tokens": 1}) + '\n{"tokens": 2, "lo')
    assert read_log(log) == [{"tokens": 1}]


def test_a_log_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the train extra")
    rows = [{"tokens": n, "loss": 3 - n, "load_cv": 0.1, "tokens_per_second": 9} for n in (1, 2)]
    draw([rows], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_grouped_experts_equal_the_loop() -> None:
    torch.manual_seed(0)
    network = Network(TINY, 8)
    layer = network.layers[0]
    h = torch.randn(37, TINY.hidden_size)
    chosen = torch.stack([torch.randperm(3)[:2] for _ in range(37)])  # expert 3 gets nothing
    weights = torch.rand(37, 2)
    results = []
    for experts in (layer.experts, layer.grouped_experts):
        y, counts = experts(h, chosen, weights)
        (gradient,) = torch.autograd.grad(y.square().sum(), layer.down)
        results.append((y, counts, gradient))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-6)
