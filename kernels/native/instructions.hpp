// The tile kernels for each instruction set, and the choice among them at run time.
#pragma once

#include <cstdint>
#include <cstring>

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

constexpr int kAhead = 4096;  // bytes between what is multiplied and what is fetched

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

#if defined(__GNUC__) || defined(__clang__)
#define QCODER_FETCH(address) __builtin_prefetch(address)
#else
#define QCODER_FETCH(address)
#endif

namespace plain {  // any processor; compilers vectorize some of it
struct Chunk { uint8_t bytes[64]; };
struct Lanes { int32_t v[16]; };
struct Floats { float v[16]; };
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
#include "tiles.inc"
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
#include "tiles.inc"
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
#include "tiles.inc"
}  // namespace vnni
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

enum Instructions { kPlain = 0, kAvx2 = 1, kVnni = 2 };

// The best set that this processor has.
static inline int best_instructions() {
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

static inline TileFunction tile_function(int instructions, int bits, int group) {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  if (instructions == kVnni) return vnni::choose(bits, group);
  if (instructions == kAvx2) return avx2::choose(bits, group);
#endif
  return plain::choose(bits, group);
}
