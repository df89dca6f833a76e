// The forward pass of a decoder with attention: all layers in one call, for any number of tokens of
// any number of sequences. What is computed is said in `model/decoder.py`, `attention.py`, `mlp.py`.
#pragma once

#include "products.hpp"

extern "C" {

// Null pointers stand for what a layer does not have. Norms, biases and routers are floats.
struct QcoderLayer {
  const float *input_norm, *post_norm, *query_norm, *key_norm, *qkv_bias, *out_bias, *router;
  const uint8_t *qkv, *out, *gate_up, *down;
  int64_t experts, size, top_k;  // of a dense MLP: 1 expert, no router
  int32_t qkv_bits, qkv_group, out_bits, out_group, up_bits, up_group, down_bits, down_group;
  int64_t renormalize;
};

struct QcoderModel {
  const QcoderLayer* layers;
  int64_t layer_count, hidden, heads, kv_heads, head_dim, rotary_dim, vocab;
  const float* norm;
  const uint8_t *head, *head_residual;  // the second is null or as large as the first
  const float *page_cos, *page_sin;  // [32, rotary_dim]: places of a page
  float eps, rotary_scale;           // rotary_scale: YaRN's, of the rotated part, twice (q and k)
  int32_t head_bits, head_group;
  int64_t kv_bits;  // of keys and values: 16, or 8 (`Page`)
};

// Consecutive tokens of the batch that belong to one sequence and go into the last of its pages.
struct QcoderRun {
  const Page* pages;
  int64_t page_count, first, count;
};

struct QcoderBatch {
  float* x;  // [tokens, hidden]: embeddings
  int64_t tokens;
  const QcoderRun* runs;
  int64_t run_count;
  const int64_t *entries, *places;  // [tokens]: which of its pages, where in it
  int64_t* limits;                  // [tokens]: tokens of its pages that it sees, itself included
  const float *cos, *sin;           // [tokens, rotary_dim]: its position
  const int64_t* kept;              // tokens whose logits are wanted, ascending
  int64_t kept_count;
  float* logits;  // [kept_count, vocab]
  int (*stop)();  // null, or whether nobody wants the rest; asked before each layer
};
}

constexpr int kTile = 8;           // rows of queries that share what is read of keys and values
constexpr int64_t kRange = 64;     // pages whose sums are taken before they are merged

class Forward {
 public:
  Forward(Engine& engine, const QcoderModel& model, const QcoderBatch& batch)
      : engine_(engine), set_(engine.set), m_(model), b_(batch), tokens_(batch.tokens),
        runs_(batch.runs, batch.runs + batch.run_count), limits_(batch.limits) {
    queries_ = m_.heads * m_.head_dim;
    keys_ = m_.kv_heads * m_.head_dim;
    width_ = queries_ + 2 * keys_;
    grow(engine_.normed, tokens_ * m_.hidden);
    grow(engine_.wide, tokens_ * width_);
    grow(engine_.mixed, tokens_ * queries_);
  }

  // Whether it came to its end.
  bool run() {
    for (int64_t l = 0; l < m_.layer_count; ++l) {
      if (b_.stop && b_.stop()) return false;
      const QcoderLayer& layer = m_.layers[l];
      norms(layer.input_norm);
      const Matrix qkv{layer.qkv, width_, m_.hidden, layer.qkv_bits, layer.qkv_group};
      product(engine_, qkv, engine_.normed.data(), tokens_, layer.qkv_bias, false,
              engine_.wide.data(), width_);
      engine_.pool.run_if(tokens_ > 4, tokens_, [&](int64_t t) { place(layer, l, t); });
      // Of the last layer only the tokens count whose logits are wanted; the others' keys are kept.
      if (l + 1 == m_.layer_count) keep();
      attention(l);
      const Matrix out{layer.out, m_.hidden, queries_, layer.out_bits, layer.out_group};
      product(engine_, out, engine_.mixed.data(), tokens_, layer.out_bias, true, b_.x, m_.hidden);
      norms(layer.post_norm);
      mlp(layer);
    }
    norms(m_.norm);
    const Matrix head{m_.head, m_.vocab, m_.hidden, m_.head_bits, m_.head_group};
    product(engine_, head, engine_.normed.data(), tokens_, nullptr, false, b_.logits, m_.vocab);
    if (m_.head_residual) {
      const Matrix residual{m_.head_residual, m_.vocab, m_.hidden, m_.head_bits, m_.head_group};
      refine(engine_, residual, tokens_, b_.logits, m_.vocab);
    }
    return true;
  }

 private:
  template <class T>
  static void grow(std::vector<T>& buffer, int64_t size) {
    if (buffer.size() < static_cast<size_t>(size)) buffer.resize(static_cast<size_t>(size));
  }

  void norms(const float* weight) {
    engine_.pool.run_if(tokens_ > 8, tokens_, [&](int64_t t) {
      set_.norm(b_.x + t * m_.hidden, weight, m_.eps, m_.hidden,
                engine_.normed.data() + t * m_.hidden);
    });
  }

  // Norm and rotate the heads of one token; its keys and values go into its page.
  void place(const QcoderLayer& layer, int64_t number, int64_t t) {
    const int64_t d = m_.head_dim, turned = m_.rotary_dim;
    float* row = engine_.wide.data() + t * width_;
    const float scale = 1.f / std::sqrt(static_cast<float>(d));
    for (int64_t h = 0; h < m_.heads; ++h) {
      float* head = row + h * d;
      if (layer.query_norm) set_.norm(head, layer.query_norm, m_.eps, d, head);
      set_.rotate(head, b_.cos + t * turned, b_.sin + t * turned, turned, m_.rotary_scale);
      for (int64_t i = 0; i < d; ++i) head[i] *= scale;
    }
    const int64_t at = b_.places[t];
    uint16_t* data = page_of(t).data;
    uint16_t* page = data + number * 2 * keys_ * kKeys;
    alignas(64) uint16_t halves[kMostHead];
    for (int64_t h = 0; h < m_.kv_heads; ++h) {
      float* head = row + queries_ + h * d;
      if (layer.key_norm) set_.norm(head, layer.key_norm, m_.eps, d, head);
      set_.rotate(head, m_.page_cos + at * turned, m_.page_sin + at * turned, turned, 1.f);
      if (m_.kv_bits == 8) {
        place8(head, head + keys_, at,
               reinterpret_cast<uint8_t*>(data) + (number * m_.kv_heads + h) * int8_head_bytes(d));
        continue;
      }
      uint16_t* keys = page + h * 2 * d * kKeys;
      set_.halves(head, d, halves);
      for (int64_t i = 0; i < d; ++i) keys[i * kKeys + at] = halves[i];
      set_.halves(row + queries_ + keys_ + h * d, d, keys + d * kKeys + at * d);
    }
  }

  // The same in int8; `to`: of the layer and head.
  void place8(const float* key, const float* value, int64_t at, uint8_t* to) {
    const int64_t d = m_.head_dim, groups = d / kKeyGroup;
    alignas(64) int8_t rounded[kMostHead];
    alignas(64) float scales[16] = {};  // of at most 8 groups; halves are made 16 at a time
    alignas(64) uint16_t halves[16];
    int32_t unused[2 * kMostHead / kKeyGroup];
    uint16_t* key_scales = reinterpret_cast<uint16_t*>(to + kKeys * d);
    uint8_t* values = reinterpret_cast<uint8_t*>(key_scales + kKeys * groups);
    set_.round(key, d, kKeyGroup, 1.f, rounded, scales, unused);
    set_.halves(scales, 16, halves);
    for (int64_t g = 0; g < groups; ++g) key_scales[g * kKeys + at] = halves[g];
    for (int64_t i = 0; i < d; ++i) to[(i / 4 * kKeys + at) * 4 + i % 4] = unsigned_of(rounded[i]);
    set_.round(value, d, static_cast<int>(d), 1.f, rounded, scales, unused);
    set_.halves(scales, 16, halves);
    reinterpret_cast<uint16_t*>(values + kKeys * d)[at] = halves[0];
    for (int64_t i = 0; i < d; ++i) {
      values[((i / 16 * (kKeys / 4) + at / 4) * 16 + i % 16) * 4 + at % 4] = unsigned_of(rounded[i]);
    }
  }

  static uint8_t unsigned_of(int8_t value) { return static_cast<uint8_t>(value + 128); }

  const Page& page_of(int64_t t) const {
    for (const QcoderRun& run : runs_) {
      if (t < run.first + run.count) return run.pages[b_.entries[t]];
    }
    return runs_.back().pages[b_.entries[t]];
  }

  // Move the kept tokens to the front; each run keeps those of its own.
  void keep() {
    if (b_.kept_count == tokens_) return;
    std::vector<QcoderRun> runs;
    int64_t at = 0;
    for (const QcoderRun& run : runs_) {
      const int64_t first = at;
      for (; at < b_.kept_count && b_.kept[at] < run.first + run.count; ++at) {
        const int64_t from = b_.kept[at];
        std::memmove(b_.x + at * m_.hidden, b_.x + from * m_.hidden, bytes(m_.hidden));
        std::memmove(engine_.wide.data() + at * width_, engine_.wide.data() + from * width_,
                     bytes(width_));
        limits_[at] = limits_[from];
      }
      if (at > first) runs.push_back({run.pages, run.page_count, first, at - first});
    }
    runs_ = runs;
    tokens_ = b_.kept_count;
  }

  static size_t bytes(int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); }

  void attention(int64_t number) {
    const int64_t shared = m_.heads / m_.kv_heads;
    struct Task {
      const QcoderRun* run;
      int64_t head, row;
    };
    std::vector<Task> tasks;
    for (const QcoderRun& run : runs_) {
      for (int64_t h = 0; h < m_.kv_heads; ++h) {
        for (int64_t r = 0; r < run.count * shared; r += kTile) tasks.push_back({&run, h, r});
      }
    }
    engine_.pool.run(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
      const Task& task = tasks[static_cast<size_t>(i)];
      attend(*task.run, number, task.head, task.row, shared);
    });
  }

  // Rows [row, row + 8) of a run and a head of keys: (token, query head of that group).
  void attend(const QcoderRun& run, int64_t number, int64_t head, int64_t row, int64_t shared) {
    const int64_t d = m_.head_dim;
    const int rows = static_cast<int>(std::min<int64_t>(kTile, run.count * shared - row));
    alignas(64) float queries[kTile * kMostHead], found[kTile * kMostHead], total[kTile * kMostHead];
    float peaks[kTile], sums[kTile], more_peaks[kTile], more_sums[kTile];
    int64_t limits[kTile], most = 0;
    float* to[kTile];
    for (int r = 0; r < rows; ++r) {
      const int64_t t = run.first + (row + r) / shared, h = head * shared + (row + r) % shared;
      std::memcpy(queries + r * d, engine_.wide.data() + t * width_ + h * d, bytes(d));
      limits[r] = limits_[t];
      most = std::max(most, limits[r]);
      to[r] = engine_.mixed.data() + t * queries_ + h * d;
    }
    const int64_t place = number * m_.kv_heads + head;
    const int kv_bits = static_cast<int>(m_.kv_bits);
    const int64_t offset = place * (kv_bits == 8 ? int8_head_bytes(d) : 2 * d * kKeys);
    for (int64_t start = 0; start < run.page_count && most > 0; start += kRange) {
      int64_t count = 0, tokens = 0;  // pages and their tokens in this range, none behind the last row
      while (count < kRange && start + count < run.page_count && tokens < most) {
        tokens += run.pages[start + count++].count;
      }
      const Page* pages = run.pages + start;
      if (start == 0) {
        set_.attend(pages, count, offset, d, m_.rotary_dim, queries, limits, rows, kv_bits,
                    peaks, sums, total);
      } else {
        set_.attend(pages, count, offset, d, m_.rotary_dim, queries, limits, rows, kv_bits,
                    more_peaks, more_sums, found);
        for (int r = 0; r < rows; ++r) {
          set_.merge(peaks + r, sums + r, total + r * d, more_peaks[r], more_sums[r],
                     found + r * d, d);
        }
      }
      for (int r = 0; r < rows; ++r) limits[r] -= tokens;
      most -= tokens;
    }
    for (int r = 0; r < rows; ++r) {
      const float factor = 1.f / sums[r];
      for (int64_t i = 0; i < d; ++i) to[r][i] = total[r * d + i] * factor;
    }
  }

  void mlp(const QcoderLayer& layer) {
    const int64_t top_k = layer.top_k;
    grow(engine_.weights, tokens_ * top_k);
    grow(engine_.chosen, tokens_ * top_k);
    if (layer.router) {
      grow(engine_.scores, tokens_ * layer.experts);
      route(layer);
    } else {
      std::fill_n(engine_.weights.begin(), tokens_, 1.f);
      std::fill_n(engine_.chosen.begin(), tokens_, 0);
    }
    const Experts experts{layer.gate_up, layer.down,     layer.experts,   m_.hidden,
                          layer.size,    top_k,          layer.up_bits,   layer.up_group,
                          layer.down_bits, layer.down_group};
    add_experts(engine_, experts, engine_.normed.data(), engine_.chosen.data(),
                engine_.weights.data(), tokens_, b_.x);
  }

  void route(const QcoderLayer& layer) {
    constexpr int64_t kExperts = 16, kTokens = 32;  // of a piece of work
    const int64_t across = (layer.experts + kExperts - 1) / kExperts;
    const int64_t down = (tokens_ + kTokens - 1) / kTokens;
    engine_.pool.run(across * down, [&](int64_t i) {
      const int64_t e = i % across * kExperts, t = i / across * kTokens;
      set_.dots(layer.router + e * m_.hidden, m_.hidden,
                std::min(kExperts, layer.experts - e), engine_.normed.data() + t * m_.hidden,
                std::min(kTokens, tokens_ - t), engine_.scores.data() + t * layer.experts + e,
                layer.experts);
    });
    engine_.pool.run_if(tokens_ > 8, tokens_, [&](int64_t t) { choose(layer, t); });
  }

  // Softmax over all experts, then the `top_k` largest, the first of equal ones.
  void choose(const QcoderLayer& layer, int64_t t) {
    float* scores = engine_.scores.data() + t * layer.experts;
    float* weights = engine_.weights.data() + t * layer.top_k;
    int64_t* chosen = engine_.chosen.data() + t * layer.top_k;
    const float peak = *std::max_element(scores, scores + layer.experts);
    float total = 0.f, kept = 0.f;
    for (int64_t e = 0; e < layer.experts; ++e) total += scores[e] = std::exp(scores[e] - peak);
    for (int64_t k = 0; k < layer.top_k; ++k) {
      const int64_t best = std::max_element(scores, scores + layer.experts) - scores;
      chosen[k] = best;
      weights[k] = scores[best] / total;
      kept += weights[k];
      scores[best] = -1.f;
    }
    if (!layer.renormalize) return;
    for (int64_t k = 0; k < layer.top_k; ++k) weights[k] /= kept;
  }

  static constexpr int kMostHead = 256;

  Engine& engine_;
  const Functions& set_;
  const QcoderModel& m_;
  const QcoderBatch& b_;
  int64_t tokens_, queries_, keys_, width_;
  std::vector<QcoderRun> runs_;
  int64_t* limits_;
};
