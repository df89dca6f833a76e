"""Tensor names of GGUF files and of the hub, and what GGUF changes on the way.

    hub                                          GGUF
    model.layers.3.self_attn.q_proj.weight       blk.3.attn_q.weight
    model.layers.3.mlp.experts.*.up_proj.weight  blk.3.ffn_up_exps.weight, experts stacked

Qwen3-Next: norms are stored as 1 + w, A_log as -exp(A_log), the convolution without its middle
dimension, and queries, keys, values and gates of the linear attention in two matrices.
"""

from __future__ import annotations

import re

ARCHITECTURES = {
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "qwen3next": "qwen3_next",
}
"""`general.architecture` of GGUF -> `model_type` of the hub."""

LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
    "ssm_in": "linear_attn.in_proj_qkvz",
    "ssm_ba": "linear_attn.in_proj_ba",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
}
"""Layers of a block, before `.weight` or `.bias`."""

WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

TOGETHER = ("attn_qkv.weight", "attn_gate.weight")
"""The two matrices that are `linear_attn.in_proj_qkvz` on the hub."""

UNUSED = ("rope_freqs.weight",)
"""Tensors that hold nothing the config does not say."""

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


def hub_name(name: str) -> str | None:
    """The hub's name of a GGUF tensor, None where there is none."""
    if name in WHOLE:
        return WHOLE[name]
    found = _BLOCK.fullmatch(name)
    if found is None:
        return None
    stem = f"model.layers.{found[1]}."
    if found[2] in ("ssm_a", "ssm_dt.bias"):
        return stem + ("linear_attn.A_log" if found[2] == "ssm_a" else "linear_attn.dt_bias")
    layer, _, last = found[2].rpartition(".")
    return f"{stem}{LAYER[layer]}.{last}" if layer in LAYER else None


def gguf_name(name: str) -> str | None:
    """The GGUF name of a tensor of the hub, for architectures other than Qwen3-Next."""
    for theirs, ours in WHOLE.items():
        if name == ours:
            return theirs
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if found is None:
        return None
    for theirs, ours in LAYER.items():
        if found[2] == ours:
            return f"blk.{found[1]}.{theirs}.{found[3]}"
    return None


def change_of(name: str, architecture: str) -> str:
    """What has to be undone for a tensor (by its hub name), "" for nothing."""
    if architecture != "qwen3next":
        return ""
    if name.endswith("A_log"):
        return "log_negative"
    if name.endswith(("conv1d.weight", "shared_expert_gate.weight")):
        return "reshaped"
    if name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight"):
        return "minus_one"
    return ""
