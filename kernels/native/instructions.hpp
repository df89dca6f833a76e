// The tile kernels for each instruction set, and the choice among them at run time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// Activations [tokens, width] as int8 with a scale a group, and for each group minus 8 and minus 128
// times the sum of its values.
struct Activations {
  const int8_t* values;
  const float* scales;
  const int32_t* corrections;
  int64_t width;
};

// Products of one tile of weights with `count` rows of activations; each gives 16 floats.
using TileFunction = void (*)(const uint8_t* weights, int groups, const Activations& x,
                              const int64_t* rows, float* const* out, int64_t count);

// Bytes between what is multiplied and what is fetched, one line a group, of tiles at least as long: that finds
// the next page of memory in time, and the processor fetches the lines between by itself.
constexpr int kAhead = 12288;
constexpr int kKeys = 32;      // tokens of a page of the KV cache
constexpr int kKeyGroup = 32;  // columns of an int8 key that share a scale

// Keys and values of up to 32 tokens, all layers: for each layer and head the keys [head_dim][32] and
// the values [32][head_dim] in float16. Keys are rotated by their place in the page alone; `turn`
// rotates the queries back by the page's own position: cos, then sin, [rotary_dim / 2] each. So a page
// holds for any position that it is given.
//
// In int8, stored as value + 128: keys [head_dim / 4][32 tokens][4 columns] and their float16 scales
// [head_dim / 32][32 tokens]; values [head_dim / 16][8][16 columns][4 tokens] and theirs [32 tokens].
struct Page {
  uint16_t* data;
  const float* turn;
  int64_t count;  // tokens in use
};

static inline int64_t int8_head_bytes(int64_t width) {
  return 2 * kKeys * width + 2 * kKeys * (width / kKeyGroup + 1);
}

// What the decoder needs besides tiles, for one instruction set; described in `rows.inc`.
struct Functions {
  TileFunction (*tiles)(int bits, int group);
  void (*norm)(const float* x, const float* weight, float eps, int64_t size, float* to);
  void (*round)(const float* x, int64_t width, int group, float factor, int8_t* values,
                float* scales, int32_t* corrections);
  void (*swiglu)(const float* gate, const float* up, int64_t size, float* to);
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t size, float scale);
  void (*dots)(const float* rows, int64_t width, int64_t count, const float* x, int64_t tokens,
               float* to, int64_t stride);
  void (*halves)(const float* x, int64_t size, uint16_t* to);
  void (*attend)(const Page* pages, int64_t count, int64_t offset, int64_t width, int64_t turned,
                 const float* queries, const int64_t* limits, int rows, int kv_bits, float* peaks,
                 float* sums, float* to);
  void (*merge)(float* peak, float* sum, float* to, float other_peak, float other_sum,
                 const float* other, int64_t width);
  void (*delta)(const float* keys, const float* queries, int64_t stride, const float* values,
                int64_t value_stride, const float* decays, const float* betas,
                int64_t gate_stride, int64_t tokens, int64_t key_dim, const float* before,
                float* after, int64_t memory_stride, float* out);
};

static inline uint32_t four(const int8_t* values) {
  uint32_t word;
  std::memcpy(&word, values, 4);
  return word;
}

static inline float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ff, bits;
  if (exponent == 0) {
    const float small = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -small : small;
  }
  bits = sign | ((exponent == 31 ? 255 : exponent + 112) << 23) | (mantissa << 13);
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

constexpr float kNever = -std::numeric_limits<float>::infinity();

static inline float from_bits(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// The nearest integer, halves to even, of |x| < 2^22: the addition leaves it in the low bits. Unlike
// a call of the C library it vectorizes.
static inline int32_t nearest(float x) {
  const float shifted = x + 12582912.f;  // 1.5 * 2^23
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

// Float16, halves to even; beyond its range infinity, below its smallest normal number in its steps.
static inline uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
  if (size >= 0x47800000) return static_cast<uint16_t>(sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (size < 0x38800000) {
    const float small = from_bits(static_cast<int32_t>(size)) * 16777216.f;  // in steps of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(nearest(small)));
  }
  const uint32_t rounded = size + 0xfff + ((size >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

// Into the second cache: the first has too few lines under way to keep up with memory (14 GB/s a core
// against 20).
#if defined(__GNUC__) || defined(__clang__)
#define QCODER_FETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define QCODER_FETCH(address)
#endif

namespace plain {  // any processor; compilers vectorize some of it
struct Chunk { uint8_t bytes[64]; };
struct Lanes { int32_t v[16]; };
struct Floats { float v[16]; };
constexpr int32_t kOffset = 128;
static inline Lanes lanes(int32_t value) {
  Lanes out;
  for (auto& lane : out.v) lane = value;
  return out;
}
static inline Chunk load(const uint8_t* from) {
  Chunk out;
  std::memcpy(out.bytes, from, 64);
  return out;
}
static inline Chunk low(const Chunk& c) {
  Chunk out;
  for (int i = 0; i < 64; ++i) out.bytes[i] = c.bytes[i] & 15;
  return out;
}
static inline Chunk high(const Chunk& c) {
  Chunk out;
  for (int i = 0; i < 64; ++i) out.bytes[i] = c.bytes[i] >> 4;
  return out;
}
static inline void dot8(Lanes& sum, const Chunk& c, uint32_t word) {
  int8_t x[4];
  std::memcpy(x, &word, 4);
  for (int r = 0; r < 16; ++r) {
    for (int j = 0; j < 4; ++j) sum.v[r] += c.bytes[4 * r + j] * x[j];
  }
}
static inline void dot4(Lanes& sum, const Chunk& c, uint32_t word) { dot8(sum, c, word); }
static inline Floats zero() { return Floats{}; }
static inline Floats scales(const uint8_t* from) {
  Floats out;
  for (int r = 0; r < 16; ++r) {
    uint16_t half;
    std::memcpy(&half, from + 2 * r, 2);
    out.v[r] = from_half(half);
  }
  return out;
}
static inline void add(Floats& sum, const Lanes& part, const Floats& scale, float factor) {
  for (int r = 0; r < 16; ++r) sum.v[r] += static_cast<float>(part.v[r]) * (scale.v[r] * factor);
}
static inline void store(float* to, const Floats& f) { std::memcpy(to, f.v, 64); }
static inline void fetch(const uint8_t*) {}
static inline Floats all(float value) {
  Floats out;
  for (auto& lane : out.v) lane = value;
  return out;
}
static inline Floats read(const float* from) {
  Floats out;
  std::memcpy(out.v, from, 64);
  return out;
}
#define QCODER_LANES(expression)                      \
  Floats out;                                         \
  for (int r = 0; r < 16; ++r) out.v[r] = expression; \
  return out
static inline Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  QCODER_LANES(a.v[r] * b.v[r] + c.v[r]);
}
static inline Floats mul(const Floats& a, const Floats& b) { QCODER_LANES(a.v[r] * b.v[r]); }
static inline Floats plus(const Floats& a, const Floats& b) { QCODER_LANES(a.v[r] + b.v[r]); }
static inline Floats minus(const Floats& a, const Floats& b) { QCODER_LANES(a.v[r] - b.v[r]); }
static inline Floats over(const Floats& a, const Floats& b) { QCODER_LANES(a.v[r] / b.v[r]); }
static inline Floats most(const Floats& a, const Floats& b) {
  QCODER_LANES(a.v[r] > b.v[r] ? a.v[r] : b.v[r]);
}
static inline Floats least(const Floats& a, const Floats& b) {
  QCODER_LANES(a.v[r] < b.v[r] ? a.v[r] : b.v[r]);
}
static inline Floats size_of(const Floats& a) { QCODER_LANES(a.v[r] < 0 ? -a.v[r] : a.v[r]); }
static inline Floats before(const Floats& a, int count) { QCODER_LANES(r < count ? a.v[r] : kNever); }
static inline Floats whole(const Floats& a) { QCODER_LANES(static_cast<float>(nearest(a.v[r]))); }
static inline Floats power2(const Floats& a) { QCODER_LANES(from_bits((nearest(a.v[r]) + 127) << 23)); }
#undef QCODER_LANES
static inline float sum(const Floats& a) {
  float total = 0.f;
  for (float lane : a.v) total += lane;
  return total;
}
static inline float peak(const Floats& a) {
  float found = a.v[0];
  for (float lane : a.v) found = lane > found ? lane : found;
  return found;
}
static inline void store_half(uint16_t* to, const Floats& f) {
  for (int r = 0; r < 16; ++r) to[r] = to_half(f.v[r]);
}
static inline Lanes bytes(int8_t* to, const Floats& f) {
  Lanes out;
  for (int r = 0; r < 16; ++r) to[r] = static_cast<int8_t>(out.v[r] = nearest(f.v[r]));
  return out;
}
static inline void count(Lanes& total, const Lanes& part) {
  for (int r = 0; r < 16; ++r) total.v[r] += part.v[r];
}
static inline int32_t total(const Lanes& lanes) {
  int32_t found = 0;
  for (int32_t lane : lanes.v) found += lane;
  return found;
}
#include "tiles.inc"
#include "rows.inc"
#include "delta.inc"
#include "attention.inc"
}  // namespace plain

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace avx2 {
struct Chunk { __m256i a, b; };
struct Lanes { __m256i a, b; };
struct Floats { __m256 a, b; };
constexpr int32_t kOffset = 128;
static inline Lanes lanes(int32_t value) {
  const __m256i all = _mm256_set1_epi32(value);
  return {all, all};
}
static inline Chunk load(const uint8_t* from) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32))};
}
static inline Chunk low(const Chunk& c) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(c.a, mask), _mm256_and_si256(c.b, mask)};
}
static inline Chunk high(const Chunk& c) {
  return low({_mm256_srli_epi16(c.a, 4), _mm256_srli_epi16(c.b, 4)});
}
// Half bytes: the sums of two products fit into 16 bits.
static inline __m256i dot(const __m256i& c, const __m256i& x) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(c, x), _mm256_set1_epi16(1));
}
static inline void dot4(Lanes& sum, const Chunk& c, uint32_t word) {
  const __m256i x = _mm256_set1_epi32(static_cast<int>(word));
  sum.a = _mm256_add_epi32(sum.a, dot(c.a, x));
  sum.b = _mm256_add_epi32(sum.b, dot(c.b, x));
}
// Whole bytes would overflow there: both halves of each are multiplied by themselves.
static inline void dot8(Lanes& sum, const Chunk& c, uint32_t word) {
  const __m256i x = _mm256_set1_epi32(static_cast<int>(word));
  const Chunk first = low(c), second = high(c);
  sum.a = _mm256_add_epi32(
      sum.a, _mm256_add_epi32(dot(first.a, x), _mm256_slli_epi32(dot(second.a, x), 4)));
  sum.b = _mm256_add_epi32(
      sum.b, _mm256_add_epi32(dot(first.b, x), _mm256_slli_epi32(dot(second.b, x), 4)));
}
static inline Floats zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline Floats scales(const uint8_t* from) {
  const __m128i* halves = reinterpret_cast<const __m128i*>(from);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
static inline void add(Floats& sum, const Lanes& part, const Floats& scale, float factor) {
  const __m256 all = _mm256_set1_ps(factor);
  sum.a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(part.a), _mm256_mul_ps(scale.a, all), sum.a);
  sum.b = _mm256_fmadd_ps(_mm256_cvtepi32_ps(part.b), _mm256_mul_ps(scale.b, all), sum.b);
}
static inline void store(float* to, const Floats& f) {
  _mm256_storeu_ps(to, f.a);
  _mm256_storeu_ps(to + 8, f.b);
}
static inline void fetch(const uint8_t* from) { QCODER_FETCH(from); }
static inline Floats all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
static inline Floats read(const float* from) {
  return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}
static inline Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
static inline Floats mul(const Floats& a, const Floats& b) {
  return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)};
}
static inline Floats plus(const Floats& a, const Floats& b) {
  return {_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)};
}
static inline Floats minus(const Floats& a, const Floats& b) {
  return {_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)};
}
static inline Floats over(const Floats& a, const Floats& b) {
  return {_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)};
}
static inline Floats most(const Floats& a, const Floats& b) {
  return {_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)};
}
static inline Floats least(const Floats& a, const Floats& b) {
  return {_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)};
}
static inline Floats size_of(const Floats& f) {
  const __m256 sign = _mm256_set1_ps(-0.f);
  return {_mm256_andnot_ps(sign, f.a), _mm256_andnot_ps(sign, f.b)};
}
static inline Floats before(const Floats& f, int count) {
  const __m256 never = _mm256_set1_ps(kNever), end = _mm256_set1_ps(static_cast<float>(count));
  const __m256 place = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 later = _mm256_add_ps(place, _mm256_set1_ps(8));
  return {_mm256_blendv_ps(never, f.a, _mm256_cmp_ps(place, end, _CMP_LT_OQ)),
          _mm256_blendv_ps(never, f.b, _mm256_cmp_ps(later, end, _CMP_LT_OQ))};
}
static inline Floats whole(const Floats& f) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(f.a, kNearest), _mm256_round_ps(f.b, kNearest)};
}
static inline __m256 power2(const __m256& f) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(f), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
static inline Floats power2(const Floats& f) { return {power2(f.a), power2(f.b)}; }
static inline float sum(const Floats& f) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, _mm256_add_ps(f.a, f.b));
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
         ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}
static inline float peak(const Floats& f) {
  const __m256 both = _mm256_max_ps(f.a, f.b);
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
}
static inline void store_half(uint16_t* to, const Floats& f) {
  __m128i* halves = reinterpret_cast<__m128i*>(to);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(f.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(f.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline Lanes bytes(int8_t* to, const Floats& f) {
  const Lanes out = {_mm256_cvtps_epi32(f.a), _mm256_cvtps_epi32(f.b)};
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(out.a, out.b), 0xd8);
  const __m128i packed =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  return out;
}
static inline void count(Lanes& total, const Lanes& part) {
  total.a = _mm256_add_epi32(total.a, part.a);
  total.b = _mm256_add_epi32(total.b, part.b);
}
static inline int32_t total(const Lanes& l) {
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi32(l.a, l.b));
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + lanes[4] + lanes[5] + lanes[6] + lanes[7];
}
#include "tiles.inc"
#include "rows.inc"
#include "delta.inc"
#include "attention.inc"
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")
#endif
namespace vnni {
using Chunk = __m512i;
using Lanes = __m512i;
using Floats = __m512;
constexpr int32_t kOffset = 128;
static inline Lanes lanes(int32_t value) { return _mm512_set1_epi32(value); }
static inline Chunk load(const uint8_t* from) { return _mm512_loadu_si512(from); }
static inline Chunk low(const Chunk& c) { return _mm512_and_si512(c, _mm512_set1_epi8(15)); }
static inline Chunk high(const Chunk& c) { return low(_mm512_srli_epi16(c, 4)); }
static inline void dot8(Lanes& sum, const Chunk& c, uint32_t word) {
  sum = _mm512_dpbusd_epi32(sum, c, _mm512_set1_epi32(static_cast<int>(word)));
}
static inline void dot4(Lanes& sum, const Chunk& c, uint32_t word) { dot8(sum, c, word); }
static inline Floats zero() { return _mm512_setzero_ps(); }
static inline Floats scales(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
static inline void add(Floats& sum, const Lanes& part, const Floats& scale, float factor) {
  sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part), _mm512_mul_ps(scale, _mm512_set1_ps(factor)), sum);
}
static inline void store(float* to, const Floats& f) { _mm512_storeu_ps(to, f); }
static inline void fetch(const uint8_t* from) { QCODER_FETCH(from); }
static inline Floats all(float value) { return _mm512_set1_ps(value); }
static inline Floats read(const float* from) { return _mm512_loadu_ps(from); }
static inline Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline Floats mul(const Floats& a, const Floats& b) { return _mm512_mul_ps(a, b); }
static inline Floats plus(const Floats& a, const Floats& b) { return _mm512_add_ps(a, b); }
static inline Floats minus(const Floats& a, const Floats& b) { return _mm512_sub_ps(a, b); }
static inline Floats over(const Floats& a, const Floats& b) { return _mm512_div_ps(a, b); }
static inline Floats most(const Floats& a, const Floats& b) { return _mm512_max_ps(a, b); }
static inline Floats least(const Floats& a, const Floats& b) { return _mm512_min_ps(a, b); }
static inline Floats size_of(const Floats& f) { return _mm512_abs_ps(f); }
static inline Floats before(const Floats& f, int count) {
  const __mmask16 kept = static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
  return _mm512_mask_mov_ps(_mm512_set1_ps(kNever), kept, f);
}
static inline Floats whole(const Floats& f) {
  return _mm512_roundscale_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline Floats power2(const Floats& f) {
  const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(f), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}
static inline float sum(const Floats& f) { return _mm512_reduce_add_ps(f); }
static inline float peak(const Floats& f) { return _mm512_reduce_max_ps(f); }
static inline void store_half(uint16_t* to, const Floats& f) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline Lanes bytes(int8_t* to, const Floats& f) {
  const Lanes out = _mm512_cvtps_epi32(f);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(out));
  return out;
}
static inline void count(Lanes& total, const Lanes& part) { total = _mm512_add_epi32(total, part); }
static inline int32_t total(const Lanes& l) { return _mm512_reduce_add_epi32(l); }
#include "tiles.inc"
#include "rows.inc"
#include "delta.inc"
#include "attention.inc"
}  // namespace vnni
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

// Compilers that make dot products: by their own choice, or told so for a part of a file.
#if defined(__aarch64__) && (defined(__ARM_FEATURE_DOTPROD) || (defined(__GNUC__) && !defined(__clang__)))
#define QCODER_NEON
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#if !defined(__ARM_FEATURE_DOTPROD)
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#define QCODER_POP
#endif
namespace neon {
#include "neon.hpp"
}  // namespace neon
#if defined(QCODER_POP)
#pragma GCC pop_options
#undef QCODER_POP
#endif
#endif

enum Instructions { kPlain = 0, kAvx2 = 1, kVnni = 2, kNeon = 3 };

// The best set that this processor has.
static inline int best_instructions() {
#if defined(QCODER_NEON) && defined(__linux__)
  constexpr unsigned long kDotProducts = 1UL << 20;  // HWCAP_ASIMDDP
  if (getauxval(AT_HWCAP) & kDotProducts) return kNeon;
#elif defined(QCODER_NEON) && defined(__APPLE__)
  return kNeon;
#endif
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    return kVnni;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
  return kPlain;
}

// Whether this processor has a set: those of its own kind up to the best.
static inline bool has_instructions(int instructions) {
  const int best = best_instructions();
  if (best == kNeon) return instructions == kPlain || instructions == kNeon;
  return instructions >= kPlain && instructions <= best;
}

static inline const Functions& functions(int instructions) {
#if defined(QCODER_NEON)
  if (instructions == kNeon) return neon::kFunctions;
#endif
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  if (instructions == kVnni) return vnni::kFunctions;
  if (instructions == kAvx2) return avx2::kFunctions;
#endif
  return plain::kFunctions;
}
