"""config.json and tokenizer.json out of the metadata of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from qcoder.model.gguf_names import ARCHITECTURES

HUB_TOKENIZER = "tokenizer.huggingface.json"
"""The whole tokenizer.json, where a file has it."""

WORDS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
"""`tokenizer.ggml.pre` -> how text is cut into words before merging."""

CONTROL, USER_DEFINED = 3, 4
"""Types of tokens that are no result of merging."""


def hub_config(metadata: Mapping[str, Any], vocab_size: int, tied: bool) -> dict[str, Any]:
    """config.json in the hub's style; raises KeyError or ValueError with what is missing."""
    kind = str(metadata["general.architecture"])
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"architecture {kind!r} is not supported by this version; "
            f"supported: {', '.join(ARCHITECTURES)}"
        )

    def get(key: str, default: Any = None) -> Any:
        return metadata.get(f"{kind}.{key}", default)

    def need(key: str) -> Any:
        return metadata[f"{kind}.{key}"]

    heads, hidden = need("attention.head_count"), need("embedding_length")
    kv_heads = get("attention.head_count_kv", heads)
    head_dim = get("attention.key_length", hidden // heads)
    config: dict[str, Any] = {
        "model_type": ARCHITECTURES[kind],
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": get("feed_forward_length", 0),
        "num_hidden_layers": need("block_count"),
        "num_attention_heads": heads,
        # A number a layer where some have no attention: those that have it agree.
        "num_key_value_heads": max(kv_heads) if isinstance(kv_heads, list) else kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": need("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon", 1e-6),
        "rope_theta": get("rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(kind, metadata),
        "tie_word_embeddings": tied,
        "hidden_act": "silu",
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "gguf"},
    }
    if kind in ("qwen3moe", "qwen3next"):
        config |= {
            "num_experts": need("expert_count"),
            "num_experts_per_tok": need("expert_used_count"),
            "moe_intermediate_size": need("expert_feed_forward_length"),
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    if kind == "qwen3next":
        value_heads = need("ssm.time_step_rank")
        config |= {
            "shared_expert_intermediate_size": need("expert_shared_feed_forward_length"),
            "linear_num_key_heads": need("ssm.group_count"),
            "linear_num_value_heads": value_heads,
            "linear_key_head_dim": need("ssm.state_size"),
            "linear_value_head_dim": need("ssm.inner_size") // value_heads,
            "linear_conv_kernel_dim": need("ssm.conv_kernel"),
            "full_attention_interval": get("full_attention_interval", 4),
            "partial_rotary_factor": get("rope.dimension_count", head_dim // 4) / head_dim,
        }
    return config


def _rope_scaling(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    scaling = metadata.get(f"{kind}.rope.scaling.type", "none")
    if scaling == "none":
        return None
    return {
        "rope_type": scaling,
        "factor": metadata[f"{kind}.rope.scaling.factor"],
        "original_max_position_embeddings": metadata[
            f"{kind}.rope.scaling.original_context_length"
        ],
    }


def hub_tokenizer(metadata: Mapping[str, Any]) -> str:
    """tokenizer.json; raises KeyError or ValueError with what is missing."""
    if HUB_TOKENIZER in metadata:
        return str(metadata[HUB_TOKENIZER])
    words = str(metadata.get("tokenizer.ggml.pre", ""))
    if metadata.get("tokenizer.ggml.model") != "gpt2" or words not in WORDS:
        raise ValueError(
            f"tokenizer {metadata.get('tokenizer.ggml.model')!r} with words {words!r} is not known; "
            "put the model's tokenizer.json beside the GGUF file"
        )
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS[words]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = [
        AddedToken(token, special=kind == CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in (CONTROL, USER_DEFINED)
    ]
    tokenizer.add_tokens(added)
    return tokenizer.to_str()


def tokenizer_metadata(tokenizer_json: str, vocab_size: int) -> dict[str, Any]:
    """The same for writing: tokens, their types and merges of a tokenizer.json.

    The vocabulary is filled up to `vocab_size` with tokens that no text gives.
    """
    data = json.loads(tokenizer_json)
    vocab: dict[str, int] = data["model"]["vocab"]
    tokens = [f"[PAD{number}]" for number in range(vocab_size)]
    types = [5] * vocab_size
    for token, number in vocab.items():
        tokens[number], types[number] = token, 1
    for added in data.get("added_tokens", []):
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    return {"tokens": tokens, "types": types, "merges": merges}
