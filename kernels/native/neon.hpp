// NEON with dot products (ARMv8.2, all Apple processors): what `tiles.inc` and `rows.inc` name. Included by
// `instructions.hpp` inside the namespace `neon`.

struct Chunk { uint8x16_t v[4]; };
struct Lanes { int32x4_t v[4]; };
struct Floats { float32x4_t v[4]; };

// int8 weights are turned back to signed, since the dot product takes two signed sides: no correction.
constexpr int32_t kOffset = 0;

#define QCODER_EACH(type, expression)              \
  type out;                                        \
  for (int i = 0; i < 4; ++i) out.v[i] = expression; \
  return out

static inline Lanes lanes(int32_t value) { QCODER_EACH(Lanes, vdupq_n_s32(value)); }
static inline Chunk load(const uint8_t* from) { QCODER_EACH(Chunk, vld1q_u8(from + 16 * i)); }
static inline Chunk low(const Chunk& c) { QCODER_EACH(Chunk, vandq_u8(c.v[i], vdupq_n_u8(15))); }
static inline Chunk high(const Chunk& c) { QCODER_EACH(Chunk, vshrq_n_u8(c.v[i], 4)); }
static inline void dot4(Lanes& sum, const Chunk& c, uint32_t word) {
  const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(word));
  for (int i = 0; i < 4; ++i) sum.v[i] = vdotq_s32(sum.v[i], vreinterpretq_s8_u8(c.v[i]), x);
}
static inline void dot8(Lanes& sum, const Chunk& c, uint32_t word) {
  const uint8x16_t sign = vdupq_n_u8(128);
  Chunk turned;
  for (int i = 0; i < 4; ++i) turned.v[i] = veorq_u8(c.v[i], sign);
  dot4(sum, turned, word);
}
static inline Floats zero() { QCODER_EACH(Floats, vdupq_n_f32(0.f)); }
static inline Floats scales(const uint8_t* from) {
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(from);
  QCODER_EACH(Floats, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves + 4 * i))));
}
static inline void add(Floats& sum, const Lanes& part, const Floats& scale, float factor) {
  for (int i = 0; i < 4; ++i) {
    sum.v[i] = vfmaq_f32(sum.v[i], vcvtq_f32_s32(part.v[i]), vmulq_n_f32(scale.v[i], factor));
  }
}
static inline void store(float* to, const Floats& f) {
  for (int i = 0; i < 4; ++i) vst1q_f32(to + 4 * i, f.v[i]);
}
static inline void fetch(const uint8_t* from) { QCODER_FETCH(from); }
static inline Floats all(float value) { QCODER_EACH(Floats, vdupq_n_f32(value)); }
static inline Floats read(const float* from) { QCODER_EACH(Floats, vld1q_f32(from + 4 * i)); }
static inline Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  QCODER_EACH(Floats, vfmaq_f32(c.v[i], a.v[i], b.v[i]));
}
static inline Floats mul(const Floats& a, const Floats& b) {
  QCODER_EACH(Floats, vmulq_f32(a.v[i], b.v[i]));
}
static inline Floats plus(const Floats& a, const Floats& b) {
  QCODER_EACH(Floats, vaddq_f32(a.v[i], b.v[i]));
}
static inline Floats minus(const Floats& a, const Floats& b) {
  QCODER_EACH(Floats, vsubq_f32(a.v[i], b.v[i]));
}
static inline Floats over(const Floats& a, const Floats& b) {
  QCODER_EACH(Floats, vdivq_f32(a.v[i], b.v[i]));
}
static inline Floats most(const Floats& a, const Floats& b) {
  QCODER_EACH(Floats, vmaxq_f32(a.v[i], b.v[i]));
}
static inline Floats least(const Floats& a, const Floats& b) {
  QCODER_EACH(Floats, vminq_f32(a.v[i], b.v[i]));
}
static inline Floats size_of(const Floats& f) { QCODER_EACH(Floats, vabsq_f32(f.v[i])); }
static inline Floats before(const Floats& f, int count) {
  static constexpr uint32_t kPlaces[4] = {0, 1, 2, 3};
  const uint32x4_t places = vld1q_u32(kPlaces), end = vdupq_n_u32(static_cast<uint32_t>(count));
  QCODER_EACH(Floats, vbslq_f32(vcltq_u32(vaddq_u32(places, vdupq_n_u32(4 * i)), end), f.v[i],
                                vdupq_n_f32(kNever)));
}
static inline Floats whole(const Floats& f) { QCODER_EACH(Floats, vrndnq_f32(f.v[i])); }
static inline Floats power2(const Floats& f) {
  QCODER_EACH(Floats, vreinterpretq_f32_s32(vshlq_n_s32(
                          vaddq_s32(vcvtnq_s32_f32(f.v[i]), vdupq_n_s32(127)), 23)));
}
static inline float sum(const Floats& f) {
  return vaddvq_f32(vaddq_f32(vaddq_f32(f.v[0], f.v[1]), vaddq_f32(f.v[2], f.v[3])));
}
static inline float peak(const Floats& f) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(f.v[0], f.v[1]), vmaxq_f32(f.v[2], f.v[3])));
}
static inline void store_half(uint16_t* to, const Floats& f) {
  for (int i = 0; i < 4; ++i) vst1_u16(to + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(f.v[i])));
}
static inline Lanes bytes(int8_t* to, const Floats& f) {
  Lanes out;
  for (int i = 0; i < 4; ++i) out.v[i] = vcvtnq_s32_f32(f.v[i]);
  const int16x8_t first = vcombine_s16(vqmovn_s32(out.v[0]), vqmovn_s32(out.v[1]));
  const int16x8_t second = vcombine_s16(vqmovn_s32(out.v[2]), vqmovn_s32(out.v[3]));
  vst1q_s8(to, vcombine_s8(vqmovn_s16(first), vqmovn_s16(second)));
  return out;
}
static inline void count(Lanes& total, const Lanes& part) {
  for (int i = 0; i < 4; ++i) total.v[i] = vaddq_s32(total.v[i], part.v[i]);
}
static inline int32_t total(const Lanes& l) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(l.v[0], l.v[1]), vaddq_s32(l.v[2], l.v[3])));
}
#undef QCODER_EACH
#include "tiles.inc"
#include "rows.inc"
#include "delta.inc"
#include "attention.inc"
