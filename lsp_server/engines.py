"""From settings to an engine: scripted, remote, shared with other processes, or in this one."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qcoder.lsp_server.remote_model import remote_engine
from qcoder.lsp_server.settings import ModelSettings, Settings
from qcoder.model.adapted import model_for
from qcoder.model.engine import Engine, ModelInfo
from qcoder.model.registry import find_model
from qcoder.model.request import CancelToken, GenerationRequest, Prompt
from qcoder.model.shared_frames import ModelSpec

if TYPE_CHECKING:
    from qcoder.model.tokenizer import Tokenizer

ENGINE_VARIABLE = "QCODER_ENGINE"
"""Test seam: `fake:TEXT` runs a scripted engine in place of a model.

Further texts, each behind a record separator (0x1E), are its alternatives.
"""


def load_engine(settings: Settings, root: Path | None, _: CancelToken) -> Engine:
    """The engine of the settings for a workspace, warmed up; raises `ModelError`."""
    script = os.environ.get(ENGINE_VARIABLE, "")
    if script.startswith("fake:"):
        from qcoder.model.fake import FakeEngine, by_seed

        return cast(Engine, FakeEngine(by_seed(script.removeprefix("fake:").split("\x1e"))))
    if remote := remote_engine(settings):
        return remote
    wanted = settings.model
    spec = spec_of(wanted, model_for(root, wanted.name) if wanted.adapted else wanted.name)
    return shared_engine(spec) if wanted.shared else load_here(spec)


def spec_of(wanted: ModelSettings, name: str) -> ModelSpec:
    """What to load of a model with this name."""
    return ModelSpec(
        name,
        wanted.device,
        wanted.yarn_factor or None,
        wanted.max_context or None,
        wanted.threads,
        wanted.reuse,
        wanted.kv_cache,
    )


def load_here(spec: ModelSpec) -> Engine:
    """A model in this process, warmed up; raises `ModelError`."""
    engine = Engine.load(
        spec.path,
        spec.device,
        yarn_factor=spec.yarn_factor,
        max_context=spec.max_context,
        threads=spec.threads,
        reuse=spec.reuse,
        kv_cache=spec.kv_cache,
    )
    keep_pages(engine)
    # The first generation pays for lazy set-up inside torch: better now than at a keystroke.
    ids = tuple(engine.tokenizer.encode("def warm_up():\n    return"))
    list(engine.generate(GenerationRequest(Prompt(ids), max_tokens=4)))
    return engine


def keep_pages(engine: Engine) -> None:
    """Let an engine of this process find what it computed before a restart."""
    import platformdirs

    from qcoder.model.local import LocalEngine  # imports torch: only when a model is wanted

    if isinstance(engine, LocalEngine):
        engine.keep_on_disk(platformdirs.user_cache_path("qcoder", appauthor=False) / "pages")


def shared_engine(spec: ModelSpec, socket: Path | None = None) -> Engine:
    """The daemon's, which is started if need be; in this process when that fails.

    Raises `CheckpointError` when there is no such model.
    """
    # After the others: who shares nothing needs none of it.
    from qcoder.lsp_server.daemon_socket import connect_or_start, socket_path
    from qcoder.model.shared import SharedEngine

    # Names mean what they mean to this process.
    spec = replace(spec, path=str(find_model(spec.path).absolute()))
    return SharedEngine.or_else(
        spec,
        partial(connect_or_start, socket or socket_path()),
        tokenizer_of,
        partial(load_here, spec),
    )


def tokenizer_of(info: ModelInfo) -> Tokenizer:
    """The tokenizer of a model that another process runs."""
    from qcoder.model.tokenizer import Tokenizer  # imports torch: only when a model is wanted

    return Tokenizer.load(Path(info.path))
