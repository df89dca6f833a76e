"""Training on a workspace: what helps is installed whole, what does not is not, a signal leaves nothing."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from qcoder.model import adapted, registry
from qcoder.model.engine import Engine
from qcoder.model.manifest import verify_checksums
from qcoder.model.mixture import FEATURES, GATE_FILE, SOURCES
from qcoder.training import adaptation, tuning
from qcoder.training.adapt import ProgressLine, as_text
from qcoder.training.adaptation import Plan, WorkspaceError, adapt, excerpts
from qcoder.training.candidate import write_weights
from qcoder.training.export import checksums, hub_config
from qcoder.training.items import Rows, Source
from qcoder.training.network import Network, NetworkConfig
from qcoder.training.tuning import HeldOutLoss, Tuned, learning_rate, tune, weights_of
from qcoder.training.workspace_text import Drawn

SMALL = NetworkConfig(
    vocab_size=400, hidden_size=48, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, head_dim=16, num_experts=2, moe_intermediate_size=32,
)  # fmt: skip


def code(seed: int) -> str:
    """A file whose functions differ from another file's in their numbers."""
    rows = [
        f"def scaled_{seed}_{n}(first_value, second_value):\n"
        f"    total_{n} = first_value * {seed} + second_value * {n}\n"
        f"    return scaled_result(total_{n}, {seed}, {n})\n\n"
        for n in range(24)
    ]
    return "".join(rows)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Twenty-four files of one style."""
    root = tmp_path / "project"
    for seed in range(24):
        path = root / f"part_{seed % 3}" / f"module_{seed}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code(seed))
    return root


@pytest.fixture
def base(tmp_path: Path, tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained small model in the place of the default one, and fresh user folders."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    source, folder = tmp_path / "source", tmp_path / "base"
    source.mkdir()
    folder.mkdir()
    config = {**hub_config(asdict(SMALL)), "max_position_embeddings": 1024}
    (source / "config.json").write_text(json.dumps(config))
    shutil.copyfile(tokenizer_file, source / "tokenizer.json")
    gate = {
        "hidden_weight": torch.zeros(2, FEATURES),
        "hidden_bias": torch.zeros(2),
        "out_weight": torch.zeros(SOURCES, 2),  # the network has nine tenths
        "out_bias": torch.tensor([3.0, 0.0, 0.0]),
    }
    save_file(gate, source / GATE_FILE)
    torch.manual_seed(2)
    write_weights(folder, source, SMALL, weights_of(Network(SMALL, 8)))
    manifest = {"name": "tiny", "fim_order": "spm", "files": checksums(folder)}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(registry, "DEFAULT_FOLDER", folder)
    monkeypatch.setattr(adaptation, "REPORTING_CHARACTERS", 4000)
    monkeypatch.setattr(tuning, "ROW_TOKENS", 256)
    monkeypatch.setattr(tuning, "MATRIX_LR", 0.05)  # from nothing, in seconds
    monkeypatch.setattr(tuning, "OTHER_LR", 0.01)
    return folder


def test_a_better_model_is_installed_for_its_workspace(workspace: Path, base: Path) -> None:
    outcome = adapt(Plan(workspace, minutes=0.25), ProgressLine())
    assert outcome.installed, outcome.reason
    before, after = (outcome.facts[key]["network"]["bits_per_byte"] for key in ("before", "after"))
    assert after < before
    assert outcome.facts["reported_lines"] >= 60
    assert outcome.facts["files"] == {"trained": 21, "choosing": 1, "reporting": 2}
    folder = Path(adapted.model_for(workspace))
    assert (str(folder), folder.name) == (outcome.path, outcome.name)
    assert verify_checksums(folder) == []
    engine = Engine.load(str(folder))
    assert (engine.info.name, engine.info.fim_order) == (outcome.name, "spm")
    manifest = (folder / "MANIFEST.json").read_text()
    assert json.loads(manifest)["adapted"]["tokens_seen"] == outcome.facts["tokens_seen"] > 0
    assert "module_" not in manifest
    assert "do not share" in (folder / "PRIVATE.md").read_text()
    assert f"installed as {outcome.name}" in as_text(outcome)
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    assert [key for key in outcome.as_json() if f"`{key}`" not in page] == []


def test_a_run_without_time_for_a_step_says_so(workspace: Path, base: Path) -> None:
    outcome = adapt(Plan(workspace, minutes=1e-6), ProgressLine())
    assert not outcome.installed
    assert "give more with --minutes" in outcome.reason
    assert f"not installed: {outcome.reason}" in as_text(outcome)
    assert adapted.model_for(workspace) == "default"
    assert list((registry.models_folder().parent / "staging").iterdir()) == []


@pytest.mark.parametrize(
    ("steps", "bits_after", "why_not", "reason"),
    [
        (0, 1.0, "", "no time for a single step"),
        (9, 1.0, "", "did not become easier"),
        (9, 0.9, "fewer lines", "fewer lines"),
        (9, 0.9, "", ""),
    ],
)
def test_what_keeps_a_result_from_being_installed(
    steps: int, bits_after: float, why_not: str, reason: str
) -> None:
    tuned = Tuned({}, 1.0, 1.0, bits_after, 4096 * steps, steps, 1.0, False)
    comparison = SimpleNamespace(why_not=why_not)
    found = adaptation.why_not(tuned, comparison)  # type: ignore[arg-type]
    assert found == reason or (reason and reason in found)


def test_a_failure_while_installing_leaves_the_model_that_was_there(
    workspace: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(adaptation, "write_weights", broken)
    with pytest.raises(OSError, match="no space"):
        adapt(Plan(workspace, minutes=0.01), ProgressLine())
    assert adapted.adapted_models() == []
    assert list((registry.models_folder().parent / "staging").iterdir()) == []


def test_too_little_text_is_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "a.py").write_text(code(1))
    with pytest.raises(WorkspaceError, match="1 source files with 96 lines are too few"):
        adapt(Plan(tmp_path / "few"), ProgressLine())


def test_sigterm_ends_a_run_without_a_trace(workspace: Path, base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "qcoder.training.adapt", "--workspace", str(workspace)]
    child = subprocess.Popen(
        [*command, "--model", str(base)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("judging"):
                child.send_signal(signal.SIGTERM)
        code = child.wait()
    assert code == 130
    assert not list((tmp_path / "XDG_DATA_HOME").rglob("*.safetensors"))


def test_tuning_keeps_the_weights_that_the_held_out_files_like_best(
    tokenizer_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that ticks when it is read: as many steps on a busy machine as on an idle one.
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: 0.1 * next(ticks), perf_counter=time.perf_counter)
    monkeypatch.setattr(tuning, "time", clock)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    torch.manual_seed(0)
    network = Network(SMALL, 1024)
    held_out = HeldOutLoss([Source("w", "held.py", code(9))], tokenizer)
    rows = Rows(Drawn([Source("w", f"{n}.py", code(n)) for n in range(3)]), tokenizer, 1)
    seen: list[float] = []
    tuned = tune(network, rows, held_out, 3.0, lambda now: seen.append(now.bits_per_byte))
    assert tuned.bits_after <= min(seen) < tuned.bits_before
    assert tuned.share in tuning.SHARES
    assert tuned.steps == len(seen) > 1
    restored = Network(SMALL, 1024)
    restored.load_state_dict(tuned.weights, strict=False)
    assert held_out(restored) == pytest.approx(tuned.bits_after, rel=0.01)  # tuned in bfloat16


def test_held_out_loss_counts_every_token_once(tokenizer_file: Path) -> None:
    """A network of zeros gives every token the same probability."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    network = Network(SMALL, 1024)
    for parameter in network.parameters():
        parameter.data.zero_()
    text = code(3) * 3
    bits = HeldOutLoss([Source("w", "a.py", text), Source("w", "b.py", code(1))], tokenizer)(
        network
    )
    tokens = sum(len(tokenizer.encode(t).ids) for t in (text, code(1)))
    expected = tokens * torch.log2(torch.tensor(400.0)).item() / len(text + code(1))
    assert bits == pytest.approx(expected, rel=2e-3)  # the loss holds a little z-loss


def test_learning_rate_warms_up_by_steps_or_time_and_ends_at_zero() -> None:
    assert learning_rate(0.001, 0) == pytest.approx(0.05, rel=0.01)
    assert learning_rate(0.1, 2) == pytest.approx(0.9)
    assert learning_rate(0.05, 50) == pytest.approx(0.95)
    assert learning_rate(1.0, 50) == 0.0


def test_excerpts_end_with_a_line_and_keep_to_the_limits() -> None:
    files = [Source("w", f"{n}.py", code(n) * 10) for n in range(12)]
    found = excerpts(files, 80_000)
    assert all(len(file.text) <= 16_000 and file.text.endswith("\n") for file in found)
    assert sum(len(file.text) for file in found) <= 80_000
    assert excerpts([Source("w", "short.py", code(1))], 80_000) == [
        Source("w", "short.py", code(1))
    ]
