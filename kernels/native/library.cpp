// The C interface of the CPU kernels: products with packed int4 and int8 weights, and the experts.
//
// A matrix [rows, columns] is cut into tiles of 16 rows; a tile holds all its columns, group after
// group: the values (`tiles.inc`), then 16 float16 scales. Nothing is unpacked into memory, so a
// matrix runs where it lies, in a memory-mapped file as well. Activations are rounded to int8, with
// a scale a group of the same size. Rows of activations do not influence each other, and sums over
// columns are taken in one order: a token's result does not depend on what it is computed with.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "instructions.hpp"
#include "pool.hpp"

#if defined(_WIN32)
#define QCODER_API extern "C" __declspec(dllexport)
#else
#define QCODER_API extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr int kRows = 16;

struct Matrix {
  const uint8_t* data;
  int64_t rows, columns;
  int bits, group;

  int groups() const { return static_cast<int>(columns / group); }
  int64_t tile_bytes() const {
    return static_cast<int64_t>(groups()) * (static_cast<int64_t>(group) * 2 * bits + 32);
  }
  int64_t tiles() const { return rows / kRows; }
};

// The nearest integer, halves to even, of |x| < 2^22: the addition leaves it in the low bits. Unlike
// a call of the C library it vectorizes.
inline int32_t nearest(float x) {
  const float shifted = x + 12582912.f;  // 1.5 * 2^23
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

struct Rounded {
  std::vector<int8_t> values;
  std::vector<float> scales;
  std::vector<int32_t> corrections;

  void reserve(int64_t tokens, int64_t width, int group) {
    values.resize(static_cast<size_t>(tokens * width));
    scales.resize(static_cast<size_t>(tokens * width / group));
    corrections.resize(static_cast<size_t>(tokens * width / group * 2));
  }

  // Round row `token` of x, times `factor`, to int8 a group: scale = max |x| / 127.
  void round(const float* x, int64_t token, int64_t width, int group, float factor) {
    const int64_t groups = width / group;
    for (int64_t g = 0; g < groups; ++g) {
      const float* from = x + g * group;
      float peak = 0.f;
      for (int i = 0; i < group; ++i) peak = std::max(peak, std::fabs(from[i]));
      const float inverse = peak > 0.f ? 127.f / peak : 0.f;
      int8_t* to = values.data() + token * width + g * group;
      int32_t sum = 0;
      for (int i = 0; i < group; ++i) {
        const int32_t q = nearest(from[i] * inverse);
        to[i] = static_cast<int8_t>(q);
        sum += q;
      }
      scales[token * groups + g] = peak / 127.f * factor;
      corrections[(token * groups + g) * 2] = -8 * sum;
      corrections[(token * groups + g) * 2 + 1] = -128 * sum;
    }
  }

  Activations view(int64_t width) const {
    return {values.data(), scales.data(), corrections.data(), width};
  }
};

struct Engine {
  explicit Engine(int threads, int set) : pool(threads), instructions(set) {}
  Pool pool;
  int instructions;
  Rounded input, inner;
  std::vector<float> hidden;
};

float silu(float x) { return x / (1.f + std::exp(-x)); }

// Tokens of each expert: `places` holds indices into [tokens * top_k], expert after expert.
struct Routing {
  std::vector<int64_t> begins, places, active;

  Routing(const int64_t* chosen, int64_t count, int64_t experts) : begins(experts + 1, 0) {
    for (int64_t i = 0; i < count; ++i) ++begins[chosen[i] + 1];
    for (int64_t e = 0; e < experts; ++e) {
      if (begins[e + 1] > 0) active.push_back(e);
      begins[e + 1] += begins[e];
    }
    places.resize(static_cast<size_t>(count));
    std::vector<int64_t> next(begins.begin(), begins.end() - 1);
    for (int64_t i = 0; i < count; ++i) places[next[chosen[i]]++] = i;
  }
};

}  // namespace

// The best instruction set here: 0 plain, 1 AVX2, 2 AVX-512 with VNNI.
QCODER_API int qcoder_instructions() { return best_instructions(); }

// Threads and scratch memory of one caller; null when there is no memory or the set is not to be had.
QCODER_API void* qcoder_open(int threads, int instructions) {
  if (threads < 1 || instructions < 0 || instructions > best_instructions()) return nullptr;
  try {
    return new Engine(threads, instructions);
  } catch (...) {
    return nullptr;
  }
}

QCODER_API void qcoder_close(void* engine) { delete static_cast<Engine*>(engine); }

// y [tokens, rows] = x [tokens, columns] @ matrix^T. Returns 0, or 1 when there is no memory.
QCODER_API int qcoder_linear(void* handle, const uint8_t* data, int64_t rows, int64_t columns,
                             int bits, int group, const float* x, int64_t tokens, float* y) try {
  Engine& engine = *static_cast<Engine*>(handle);
  const Matrix matrix{data, rows, columns, bits, group};
  engine.input.reserve(tokens, columns, group);
  for (int64_t t = 0; t < tokens; ++t) engine.input.round(x + t * columns, t, columns, group, 1.f);
  const TileFunction tiles = tile_function(engine.instructions, bits, group);
  const Activations activations = engine.input.view(columns);
  const int64_t tile_bytes = matrix.tile_bytes();
  std::vector<int64_t> numbers(static_cast<size_t>(tokens));
  for (int64_t t = 0; t < tokens; ++t) numbers[t] = t;
  engine.pool.run(matrix.tiles(), [&](int64_t tile) {
    float* out[64];
    for (int64_t start = 0; start < tokens; start += 64) {
      const int64_t count = std::min<int64_t>(64, tokens - start);
      for (int64_t i = 0; i < count; ++i) out[i] = y + (start + i) * rows + tile * kRows;
      tiles(data + tile * tile_bytes, matrix.groups(), activations, numbers.data() + start, out,
            count);
    }
  });
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// Weighted sum of SwiGLU experts. x, y: [tokens, hidden]; chosen, weights: [tokens, top_k];
// gate_up: experts of [2 * size, hidden], gate rows first; down: experts of [hidden, size].
QCODER_API int qcoder_experts(void* handle, const uint8_t* gate_up, const uint8_t* down,
                              int64_t experts, int64_t hidden, int64_t size, int bits, int group,
                              const float* x, const int64_t* chosen, const float* weights,
                              int64_t tokens, int64_t top_k, float* y) try {
  Engine& engine = *static_cast<Engine*>(handle);
  const Matrix first{gate_up, 2 * size, hidden, bits, group};
  const Matrix second{down, hidden, size, bits, group};
  const int64_t pairs = tokens * top_k;
  const Routing routing(chosen, pairs, experts);
  engine.input.reserve(tokens, hidden, group);
  for (int64_t t = 0; t < tokens; ++t) engine.input.round(x + t * hidden, t, hidden, group, 1.f);
  engine.hidden.resize(static_cast<size_t>(pairs * size));
  engine.inner.reserve(pairs, size, group);
  const TileFunction tiles = tile_function(engine.instructions, bits, group);
  const int64_t first_bytes = first.tile_bytes(), second_bytes = second.tile_bytes();
  const int64_t first_tiles = size / kRows, second_tiles = second.tiles();
  const int64_t active = static_cast<int64_t>(routing.active.size());

  const Activations input = engine.input.view(hidden);
  engine.pool.run(active * first_tiles, [&](int64_t piece) {
    const int64_t expert = routing.active[piece / first_tiles], tile = piece % first_tiles;
    const uint8_t* gate = gate_up + (expert * 2 * first_tiles + tile) * first_bytes;
    const uint8_t* up = gate + first_tiles * first_bytes;
    alignas(64) float gates[32][kRows], ups[32][kRows];
    float *gate_out[32], *up_out[32];
    for (int i = 0; i < 32; ++i) gate_out[i] = gates[i], up_out[i] = ups[i];
    const int64_t end = routing.begins[expert + 1];
    for (int64_t start = routing.begins[expert]; start < end; start += 32) {
      const int64_t count = std::min<int64_t>(32, end - start);
      int64_t numbers[32];
      for (int64_t i = 0; i < count; ++i) numbers[i] = routing.places[start + i] / top_k;
      tiles(gate, first.groups(), input, numbers, gate_out, count);
      tiles(up, first.groups(), input, numbers, up_out, count);
      for (int64_t i = 0; i < count; ++i) {
        float* to = engine.hidden.data() + routing.places[start + i] * size + tile * kRows;
        for (int r = 0; r < kRows; ++r) to[r] = silu(gates[i][r]) * ups[i][r];
      }
    }
  });

  // The routing weight goes into the scale: products and sums of the rounded values stay the same.
  engine.pool.run(pairs, [&](int64_t pair) {
    engine.inner.round(engine.hidden.data() + pair * size, pair, size, group, weights[pair]);
  });

  const Activations inner = engine.inner.view(size);
  engine.pool.run(second_tiles, [&](int64_t tile) {
    for (int64_t t = 0; t < tokens; ++t) {
      std::memset(y + t * hidden + tile * kRows, 0, kRows * sizeof(float));
    }
    alignas(64) float parts[32][kRows];
    float* out[32];
    for (int i = 0; i < 32; ++i) out[i] = parts[i];
    for (const int64_t expert : routing.active) {
      const uint8_t* weights_of = down + (expert * second_tiles + tile) * second_bytes;
      const int64_t end = routing.begins[expert + 1];
      for (int64_t start = routing.begins[expert]; start < end; start += 32) {
        const int64_t count = std::min<int64_t>(32, end - start);
        tiles(weights_of, second.groups(), inner, routing.places.data() + start, out, count);
        for (int64_t i = 0; i < count; ++i) {
          float* to = y + routing.places[start + i] / top_k * hidden + tile * kRows;
          for (int r = 0; r < kRows; ++r) to[r] += parts[i][r];
        }
      }
    }
  });
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// Build tools for Python extensions want this symbol; the library is loaded with ctypes, not imported.
QCODER_API void* PyInit__native() { return nullptr; }
