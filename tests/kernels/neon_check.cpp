// Every function of the NEON set beside the plain one, on random numbers. Run by `test_neon.py`, in an
// emulator where there is no such processor.
#include <cstdio>
#include <random>

#include "../../kernels/native/library.cpp"

static std::mt19937 source(7);
static int failures = 0;

static std::vector<float> normal(size_t size, float width = 1.f) {
  std::normal_distribution<float> draw(0.f, width);
  std::vector<float> out(size);
  for (float& x : out) x = draw(source);
  return out;
}

// Halves that are finite and of moderate size.
static std::vector<uint16_t> halves_of(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float value : values) out.push_back(to_half(value));
  return out;
}

static void check(const char* name, const float* found, const float* expected, size_t size,
                  float bound) {
  float worst = 0.f, most = 1e-20f;
  for (size_t i = 0; i < size; ++i) {
    worst = std::max(worst, std::fabs(found[i] - expected[i]));
    most = std::max(most, std::fabs(expected[i]));
    if (!(std::fabs(found[i] - expected[i]) < 1e30f)) worst = 1e30f;
  }
  if (worst > bound * most) {
    std::printf("%s: off by %g of %g\n", name, worst, most);
    ++failures;
  }
}

static void check(const char* name, const std::vector<float>& found,
                  const std::vector<float>& expected, float bound) {
  check(name, found.data(), expected.data(), expected.size(), bound);
}

static void products() {
  constexpr int64_t kWidth = 384;
  for (const int bits : {4, 8}) {
    for (const int group : {32, 128}) {
      for (const int64_t tokens : {1, 2, 3, 4, 7, 13}) {
        const Matrix matrix{nullptr, 48, kWidth, bits, group};
        std::vector<uint8_t> data(static_cast<size_t>(matrix.tile_bytes() * matrix.tiles()));
        for (uint8_t& byte : data) byte = static_cast<uint8_t>(source());
        const int64_t values = static_cast<int64_t>(group) * 2 * bits;
        for (int64_t g = 0; g < matrix.tiles() * matrix.groups(); ++g) {
          const auto scales = halves_of(normal(16, 0.01f));
          std::memcpy(data.data() + g * (values + 32) + values, scales.data(), 32);
        }
        const auto x = normal(static_cast<size_t>(tokens * kWidth));
        std::vector<float> out[2];
        for (const int set : {kPlain, kNeon}) {
          Engine engine(1, set);
          auto& to = out[set == kNeon];
          to.resize(static_cast<size_t>(tokens * 48));
          product(engine, {data.data(), 48, kWidth, bits, group}, x.data(), tokens, nullptr, false,
                  to.data(), 48);
        }
        check("product", out[1], out[0], 1e-5f);
      }
    }
  }
}

static void rows(const Functions& set, const Functions& other) {
  const auto x = normal(256), weight = normal(256), gate = normal(256, 20.f);
  std::vector<float> a(256), b(256);
  set.norm(x.data(), weight.data(), 1e-6f, 256, a.data());
  other.norm(x.data(), weight.data(), 1e-6f, 256, b.data());
  check("norm", a, b, 1e-6f);
  set.swiglu(gate.data(), x.data(), 256, a.data());
  other.swiglu(gate.data(), x.data(), 256, b.data());
  check("swiglu", a, b, 1e-6f);
  a = b = x;
  set.rotate(a.data(), weight.data(), gate.data(), 64, 1.5f);
  other.rotate(b.data(), weight.data(), gate.data(), 64, 1.5f);
  check("rotate", a, b, 1e-6f);
  for (const int64_t tokens : {1, 5}) {
    const auto matrix = normal(7 * 32), y = normal(static_cast<size_t>(tokens) * 32);
    std::vector<float> one(static_cast<size_t>(tokens) * 7), two(one.size());
    set.dots(matrix.data(), 32, 7, y.data(), tokens, one.data(), 7);
    other.dots(matrix.data(), 32, 7, y.data(), tokens, two.data(), 7);
    check("dots", one, two, 1e-5f);
  }
  std::vector<uint16_t> first(256), second(256);
  set.halves(gate.data(), 256, first.data());
  other.halves(gate.data(), 256, second.data());
  if (first != second) std::puts("halves differ"), ++failures;
  int8_t values[2][256];
  float scales[2][8];
  int32_t corrections[2][16];
  set.round(x.data(), 256, 32, 0.5f, values[0], scales[0], corrections[0]);
  other.round(x.data(), 256, 32, 0.5f, values[1], scales[1], corrections[1]);
  check("scales", scales[0], scales[1], 8, 1e-7f);
  for (int i = 0; i < 256; ++i) {
    if (values[0][i] != values[1][i]) std::puts("rounded values differ"), ++failures;
  }
}

// Pages of int8: bytes are whatever the halves are made of, scales are around a hundredth.
static std::vector<uint16_t> int8_pages(int64_t pages, int64_t width) {
  const int64_t halves = int8_head_bytes(width) / 2, groups = width / kKeyGroup;
  auto memory = halves_of(normal(static_cast<size_t>(pages * halves)));
  const auto scales = halves_of(normal(static_cast<size_t>(kKeys * (groups + 1)), 0.01f));
  for (int64_t p = 0; p < pages; ++p) {
    uint16_t* keys = memory.data() + p * halves;
    for (int64_t i = 0; i < kKeys * groups; ++i) keys[kKeys * width / 2 + i] = scales[i] & 0x7fff;
    for (int64_t i = 0; i < kKeys; ++i) keys[halves - kKeys + i] = scales[i] & 0x7fff;
  }
  return memory;
}

static void attention(const Functions& set, const Functions& other, int bits) {
  constexpr int64_t kWidth = 64, kPages = 5;
  const int64_t halves = bits == 8 ? int8_head_bytes(kWidth) / 2 : 2 * kWidth * kKeys;
  const auto memory = bits == 8 ? int8_pages(kPages, kWidth)
                                : halves_of(normal(static_cast<size_t>(kPages * halves)));
  auto turns = normal(static_cast<size_t>(kPages) * 32);
  std::vector<Page> pages;
  for (int64_t p = 0; p < kPages; ++p) {
    float* turn = turns.data() + p * 32;
    for (int i = 0; i < 16; ++i) turn[16 + i] = std::sin(turn[i]), turn[i] = std::cos(turn[i]);
    auto* data = const_cast<uint16_t*>(memory.data()) + p * halves;
    pages.push_back({data, turn, p == 4 ? 19 : 32});
  }
  for (int rows = 1; rows <= 8; ++rows) {
    const auto queries = normal(static_cast<size_t>(rows * kWidth), 0.1f);
    std::vector<int64_t> limits;
    for (int r = 0; r < rows; ++r) limits.push_back(140 + r);
    std::vector<float> out[2], peaks[2], sums[2];
    for (int i = 0; i < 2; ++i) {
      out[i].resize(static_cast<size_t>(rows * kWidth));
      peaks[i].resize(8), sums[i].resize(8);
      (i ? other : set).attend(pages.data(), kPages, 0, kWidth, 32, queries.data(), limits.data(),
                               rows, bits, peaks[i].data(), sums[i].data(), out[i].data());
      (i ? other : set).merge(peaks[i].data(), sums[i].data(), out[i].data(), 0.25f, 3.f,
                              queries.data(), kWidth);
    }
    // A query's value at the edge between two steps may round to either.
    check("attention", out[0], out[1], bits == 8 ? 5e-3f : 1e-5f);
    check("weights", sums[0], sums[1], bits == 8 ? 5e-3f : 1e-5f);
  }
}

static void memories() {
  constexpr int64_t kTokens = 9, kKeyHeads = 2, kHeads = 4, kDim = 33, kWidth = 64;
  const auto q = normal(kTokens * kKeyHeads * kDim), k = normal(kTokens * kKeyHeads * kDim);
  const auto v = normal(kTokens * kHeads * kWidth), memory = normal(kHeads * kDim * kWidth);
  auto decay = normal(kTokens * kHeads), beta = normal(kTokens * kHeads);
  for (float& x : decay) x = -std::fabs(x);
  for (float& x : beta) x = 1.f / (1.f + std::exp(-x));
  std::vector<float> out[2], after[2];
  for (const int set : {kPlain, kNeon}) {
    Engine engine(1, set);
    auto &to = out[set == kNeon], &left = after[set == kNeon];
    to.resize(v.size()), left.resize(memory.size());
    run_delta(engine, {q.data(), k.data(), v.data(), decay.data(), beta.data(), memory.data(),
                       left.data(), to.data(), kTokens, kKeyHeads, kHeads, kDim, kWidth});
  }
  check("delta", out[1], out[0], 1e-5f);
  check("memory", after[1], after[0], 1e-5f);
}

int main() {
  if (!has_instructions(kNeon)) {
    std::puts("no NEON with dot products here");
    return 2;
  }
  products();
  rows(functions(kNeon), functions(kPlain));
  attention(functions(kNeon), functions(kPlain), 16);
  attention(functions(kNeon), functions(kPlain), 8);
  memories();
  return failures ? 1 : 0;
}
