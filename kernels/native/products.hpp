// Products of rounded activations with tiled matrices, and the experts made of them.
//
// A matrix [rows, columns] is cut into tiles of 16 rows; a tile holds all its columns, group after
// group: the values (`tiles.inc`), then 16 float16 scales. Nothing is unpacked into memory, so a
// matrix runs where it lies, in a memory-mapped file as well. Activations are rounded to int8, with
// a scale a group of the same size. Rows of activations do not influence each other, and sums over
// columns are taken in one order: a token's result does not depend on what it is computed with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "instructions.hpp"
#include "pool.hpp"

constexpr int kRows = 16;
constexpr int kBlock = 64;  // tokens that a tile is multiplied with before the next one is read
constexpr int kFew = 32;    // the same for experts, which have fewer
constexpr int64_t kRefined = 16, kLeastRefined = 16;  // see `refine`; REFINED_SHARE of tiled.py
constexpr int64_t kRefinedPiece = 512;                // tiles whose peaks are found together
constexpr int kNeighbours = 8;  // tiles of a piece of work: what is fetched ahead is the same thread's

struct Matrix {
  const uint8_t* data;
  int64_t rows, columns;
  int32_t bits, group;

  int groups() const { return static_cast<int>(columns / group); }
  int64_t tile_bytes() const {
    return static_cast<int64_t>(groups()) * (static_cast<int64_t>(group) * 2 * bits + 32);
  }
  int64_t tiles() const { return rows / kRows; }
};

// Rows of activations, rounded.
struct Rounded {
  std::vector<int8_t> values;
  std::vector<float> scales;
  std::vector<int32_t> corrections;

  void reserve(int64_t tokens, int64_t width, int group) {
    const size_t size = static_cast<size_t>(tokens * width), groups = size / group;
    if (values.size() < size) values.resize(size);
    if (scales.size() < groups) scales.resize(groups), corrections.resize(2 * groups);
  }

  void round(const Functions& set, const float* x, int64_t token, int64_t width, int group,
             float factor) {
    const int64_t at = token * (width / group);
    set.round(x, width, group, factor, values.data() + token * width, scales.data() + at,
              corrections.data() + 2 * at);
  }

  Activations view(int64_t width) const {
    return {values.data(), scales.data(), corrections.data(), width};
  }
};

// Tokens of each expert: `places` holds indices into [tokens * top_k], expert after expert.
struct Routing {
  std::vector<int64_t> begins, places, active, next;

  void sort(const int64_t* chosen, int64_t count, int64_t experts) {
    begins.assign(static_cast<size_t>(experts + 1), 0);
    active.clear();
    for (int64_t i = 0; i < count; ++i) ++begins[chosen[i] + 1];
    for (int64_t e = 0; e < experts; ++e) {
      if (begins[e + 1] > 0) active.push_back(e);
      begins[e + 1] += begins[e];
    }
    places.resize(static_cast<size_t>(count));
    next.assign(begins.begin(), begins.end() - 1);
    for (int64_t i = 0; i < count; ++i) places[next[chosen[i]]++] = i;
  }
};

// Threads and scratch memory of one caller.
struct Engine {
  Engine(int threads, int instructions) : pool(threads), set(functions(instructions)) {}

  Pool pool;
  const Functions& set;
  Rounded input, inner;
  Routing routing;
  std::vector<float> hidden;                           // of experts
  std::vector<float> normed, wide, mixed, scores, weights;  // of layers
  std::vector<float> peaks;                                 // of tiles of logits
  std::vector<int64_t> chosen;
};

// y [tokens][stride] (+)= x [tokens][matrix.columns] @ matrix^T (+ bias).
inline void product(Engine& engine, const Matrix& matrix, const float* x, int64_t tokens,
                    const float* bias, bool add, float* y, int64_t stride) {
  const int64_t width = matrix.columns;
  engine.input.reserve(tokens, width, matrix.group);
  engine.pool.run_if(tokens > 8, tokens, [&](int64_t t) {
    engine.input.round(engine.set, x + t * width, t, width, matrix.group, 1.f);
  });
  const TileFunction tiles = engine.set.tiles(matrix.bits, matrix.group);
  const Activations input = engine.input.view(width);
  const int64_t tile_bytes = matrix.tile_bytes();
  const int64_t pieces = (matrix.tiles() + kNeighbours - 1) / kNeighbours;
  engine.pool.run(pieces, [&](int64_t piece) {
    alignas(64) float parts[kBlock][kRows];
    float* out[kBlock];
    int64_t numbers[kBlock];
    for (int i = 0; i < kBlock; ++i) out[i] = parts[i];
    const int64_t end = std::min(matrix.tiles(), (piece + 1) * kNeighbours);
    for (int64_t tile = piece * kNeighbours; tile < end; ++tile) {
      for (int64_t start = 0; start < tokens; start += kBlock) {
        const int64_t count = std::min<int64_t>(kBlock, tokens - start);
        for (int64_t i = 0; i < count; ++i) numbers[i] = start + i;
        tiles(matrix.data + tile * tile_bytes, matrix.groups(), input, numbers, out, count);
        for (int64_t i = 0; i < count; ++i) {
          float* to = y + (start + i) * stride + tile * kRows;
          for (int r = 0; r < kRows; ++r) {
            const float value = bias ? parts[i][r] + bias[tile * kRows + r] : parts[i][r];
            to[r] = add ? to[r] + value : value;
          }
        }
      }
    }
  });
}

// What the `residual` of a matrix adds to its products y [tokens][stride], in a few tiles of each token:
// those where y is largest, a part of `kRefined` of them (`tiled.py`, "Two planes"). Follows `product`,
// whose rounded activations it uses; both matrices have the same shape and groups.
inline void refine(Engine& engine, const Matrix& residual, int64_t tokens, float* y,
                   int64_t stride) {
  const int64_t tiles = residual.tiles();
  const int64_t most = std::min(tiles, std::max(kLeastRefined, tiles / kRefined));
  std::vector<float>& peaks = engine.peaks;
  if (peaks.size() < static_cast<size_t>(tokens * tiles)) peaks.resize(tokens * tiles);
  const int64_t parts = (tiles + kRefinedPiece - 1) / kRefinedPiece;
  engine.pool.run(tokens * parts, [&](int64_t i) {
    const int64_t t = i / parts, end = std::min(tiles, (i % parts + 1) * kRefinedPiece);
    for (int64_t tile = i % parts * kRefinedPiece; tile < end; ++tile) {
      const float* from = y + t * stride + tile * kRows;
      const float peak = *std::max_element(from, from + kRows);
      peaks[t * tiles + tile] = peak == peak ? peak : -1e30f;  // no order among what is no number
    }
  });
  struct Place {
    int64_t token, tile;
  };
  std::vector<Place> places;
  std::vector<float> sorted(tiles);
  for (int64_t t = 0; t < tokens; ++t) {
    const float* of_token = peaks.data() + t * tiles;
    std::copy(of_token, of_token + tiles, sorted.begin());
    std::nth_element(sorted.begin(), sorted.begin() + (tiles - most), sorted.end());
    const float least = sorted[tiles - most];
    for (int64_t tile = 0; tile < tiles; ++tile) {
      if (of_token[tile] >= least) places.push_back({t, tile});
    }
  }
  const TileFunction function = engine.set.tiles(residual.bits, residual.group);
  const Activations input = engine.input.view(residual.columns);
  const int64_t tile_bytes = residual.tile_bytes();
  engine.pool.run(static_cast<int64_t>(places.size()), [&](int64_t i) {
    const Place& place = places[static_cast<size_t>(i)];
    alignas(64) float found[kRows];
    float* out[1] = {found};
    function(residual.data + place.tile * tile_bytes, residual.groups(), input, &place.token, out, 1);
    float* to = y + place.token * stride + place.tile * kRows;
    for (int r = 0; r < kRows; ++r) to[r] += found[r];
  });
}

struct Experts {
  const uint8_t* gate_up;  // experts of [2 * size, hidden], gate rows first
  const uint8_t* down;     // experts of [hidden, size]
  int64_t count, hidden, size, top_k;
  int32_t up_bits, up_group, down_bits, down_group;
};

// y [tokens, hidden] += weighted sum of SwiGLU experts of x; chosen, weights: [tokens, top_k].
inline void add_experts(Engine& engine, const Experts& e, const float* x, const int64_t* chosen,
                        const float* weights, int64_t tokens, float* y) {
  const Matrix first{e.gate_up, 2 * e.size, e.hidden, e.up_bits, e.up_group};
  const Matrix second{e.down, e.hidden, e.size, e.down_bits, e.down_group};
  const int64_t pairs = tokens * e.top_k, size = e.size, top_k = e.top_k;
  Routing& routing = engine.routing;
  routing.sort(chosen, pairs, e.count);
  engine.input.reserve(tokens, e.hidden, e.up_group);
  engine.pool.run_if(tokens > 8, tokens, [&](int64_t t) {
    engine.input.round(engine.set, x + t * e.hidden, t, e.hidden, e.up_group, 1.f);
  });
  if (engine.hidden.size() < static_cast<size_t>(pairs * size)) engine.hidden.resize(pairs * size);
  engine.inner.reserve(pairs, size, e.down_group);
  const TileFunction up_tiles = engine.set.tiles(e.up_bits, e.up_group);
  const TileFunction down_tiles = engine.set.tiles(e.down_bits, e.down_group);
  const int64_t first_bytes = first.tile_bytes(), second_bytes = second.tile_bytes();
  const int64_t first_tiles = size / kRows, second_tiles = second.tiles();
  const int64_t active = static_cast<int64_t>(routing.active.size());

  const Activations input = engine.input.view(e.hidden);
  const int64_t across = (first_tiles + kNeighbours - 1) / kNeighbours;
  engine.pool.run(active * across, [&](int64_t piece) {
    const int64_t expert = routing.active[piece / across];
    const int64_t tile = piece % across * kNeighbours;
    const int64_t tiles = std::min<int64_t>(kNeighbours, first_tiles - tile);
    const uint8_t* gate = e.gate_up + (expert * 2 * first_tiles + tile) * first_bytes;
    const uint8_t* up = gate + first_tiles * first_bytes;
    alignas(64) float gates[kFew][kNeighbours * kRows], ups[kFew][kNeighbours * kRows];
    const int64_t end = routing.begins[expert + 1];
    for (int64_t start = routing.begins[expert]; start < end; start += kFew) {
      const int64_t count = std::min<int64_t>(kFew, end - start);
      int64_t numbers[kFew];
      for (int64_t i = 0; i < count; ++i) numbers[i] = routing.places[start + i] / top_k;
      for (auto half : {gates, ups}) {  // each of them lies in one piece
        const uint8_t* from = half == gates ? gate : up;
        for (int64_t n = 0; n < tiles; ++n) {
          float* out[kFew];
          for (int i = 0; i < kFew; ++i) out[i] = half[i] + n * kRows;
          up_tiles(from + n * first_bytes, first.groups(), input, numbers, out, count);
        }
      }
      for (int64_t i = 0; i < count; ++i) {
        float* to = engine.hidden.data() + routing.places[start + i] * size + tile * kRows;
        engine.set.swiglu(gates[i], ups[i], tiles * kRows, to);
      }
    }
  });

  // The routing weight goes into the scale: products and sums of the rounded values stay the same.
  engine.pool.run_if(pairs > 16, pairs, [&](int64_t pair) {
    engine.inner.round(engine.set, engine.hidden.data() + pair * size, pair, size, e.down_group,
                       weights[pair]);
  });

  const Activations inner = engine.inner.view(size);
  const int64_t pieces = (second_tiles + kNeighbours - 1) / kNeighbours;
  engine.pool.run(pieces, [&](int64_t piece) {
    alignas(64) float parts[kFew][kRows];
    float* out[kFew];
    for (int i = 0; i < kFew; ++i) out[i] = parts[i];
    const int64_t last = std::min(second_tiles, (piece + 1) * kNeighbours);
    for (const int64_t expert : routing.active) {
      const int64_t end = routing.begins[expert + 1];
      for (int64_t tile = piece * kNeighbours; tile < last; ++tile) {
        const uint8_t* weights_of = e.down + (expert * second_tiles + tile) * second_bytes;
        for (int64_t start = routing.begins[expert]; start < end; start += kFew) {
          const int64_t count = std::min<int64_t>(kFew, end - start);
          down_tiles(weights_of, second.groups(), inner, routing.places.data() + start, out, count);
          for (int64_t i = 0; i < count; ++i) {
            float* to = y + routing.places[start + i] / top_k * e.hidden + tile * kRows;
            for (int r = 0; r < kRows; ++r) to[r] += parts[i][r];
          }
        }
      }
    }
  });
}
