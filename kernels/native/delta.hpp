// The gated delta rule of all heads of a layer: what `kernels/delta_net.py` calls.
#pragma once

#include "products.hpp"

// Sizes and arrays are those of `gated_delta_rule_reference`, all float32 and contiguous.
struct Delta {
  const float *q, *k, *v, *decay, *beta, *before;
  float *after, *out;
  int64_t tokens, key_heads, value_heads, key_dim, value_dim;
};

// Rows [key_dim] of unit length times `scale`.
inline void to_units(Engine& engine, const float* x, int64_t rows, int64_t key_dim, float scale,
                     std::vector<float>& to) {
  constexpr float kSmall = 1e-6f;
  if (to.size() < static_cast<size_t>(rows * key_dim)) to.resize(static_cast<size_t>(rows * key_dim));
  engine.pool.run_if(rows > 64, rows, [&](int64_t r) {
    const float* from = x + r * key_dim;
    float squares = 0.f;
    for (int64_t i = 0; i < key_dim; ++i) squares += from[i] * from[i];
    const float factor = scale / std::sqrt(squares + kSmall);
    for (int64_t i = 0; i < key_dim; ++i) to[r * key_dim + i] = from[i] * factor;
  });
}

inline void run_delta(Engine& engine, const Delta& d) {
  constexpr int64_t kColumns = 32;  // as `delta.inc` has them
  const float scale = 1.f / std::sqrt(static_cast<float>(d.key_dim));
  to_units(engine, d.k, d.tokens * d.key_heads, d.key_dim, 1.f, engine.wide);
  to_units(engine, d.q, d.tokens * d.key_heads, d.key_dim, scale, engine.mixed);
  const int64_t served = d.value_heads / d.key_heads, size = d.key_dim * d.value_dim;
  engine.pool.run(d.value_heads, [&](int64_t head) {
    const int64_t key = head / served * d.key_dim;
    // The columns are read in pieces; their rows come from memory as one stream.
    for (int64_t i = 0; i < size; i += 16) {
      QCODER_FETCH(reinterpret_cast<const uint8_t*>(d.before + head * size + i));
    }
    for (int64_t column = 0; column < d.value_dim; column += kColumns) {
      const int64_t value = head * d.value_dim + column, memory = head * size + column;
      engine.set.delta(engine.wide.data() + key, engine.mixed.data() + key,
                       d.key_heads * d.key_dim, d.v + value, d.value_heads * d.value_dim,
                       d.decay + head, d.beta + head, d.value_heads, d.tokens, d.key_dim,
                       d.before + memory, d.after + memory, d.value_dim, d.out + value);
    }
  });
}
