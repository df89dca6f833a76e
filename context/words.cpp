// The words of a text, window by window: `chunk_words` of words.py, which says what the results mean
// and has made spaces of all that is beyond ASCII and no part of a word. A C interface, loaded with
// ctypes; no part of Python's.
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#if defined(_WIN32)
#define QCODER_API extern "C" __declspec(dllexport)
#else
#define QCODER_API extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr int64_t kMostNames = 1 << 16;
constexpr int64_t kLeastCharacters = 3;

// 0: ends a word; 1: a digit; 2: a letter, the underscore or a byte of a letter beyond ASCII.
struct Kinds {
  uint8_t of[256] = {};
  Kinds() {
    for (int c = '0'; c <= '9'; ++c) of[c] = 1;
    for (int c = 'a'; c <= 'z'; ++c) of[c] = of[c - 'a' + 'A'] = 2;
    of[static_cast<int>('_')] = 2;
    for (int c = 128; c < 256; ++c) of[c] = 2;
  }
};

const Kinds kinds;

// Names by first occurrence; open addressing over their hashes.
class Names {
 public:
  Names(const uint8_t* text, uint8_t* out) : text_(text), out_(out), slots_(1024, -1) {}

  // The position of a name, or -1 where there are too many.
  int64_t position(int64_t start, int64_t size, uint64_t hash) {
    uint64_t slot = hash & (slots_.size() - 1);
    for (; slots_[slot] >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
      const Name& name = names_[static_cast<size_t>(slots_[slot])];
      if (name.hash == hash && name.size == size &&
          std::memcmp(text_ + name.start, text_ + start, static_cast<size_t>(size)) == 0) {
        return slots_[slot];
      }
    }
    if (static_cast<int64_t>(names_.size()) == kMostNames) return -1;
    slots_[slot] = static_cast<int64_t>(names_.size());
    names_.push_back({start, size, hash});
    if (names_.size() > 1) out_[written_++] = ' ';
    std::memcpy(out_ + written_, text_ + start, static_cast<size_t>(size));
    written_ += size;
    if (2 * names_.size() > slots_.size()) grow();
    return static_cast<int64_t>(names_.size()) - 1;
  }

  int64_t written() const { return written_; }

 private:
  struct Name {
    int64_t start, size;
    uint64_t hash;
  };

  void grow() {
    std::vector<int64_t> wider(4 * slots_.size(), -1);
    for (size_t at = 0; at < names_.size(); ++at) {
      uint64_t slot = names_[at].hash & (wider.size() - 1);
      while (wider[slot] >= 0) slot = (slot + 1) & (wider.size() - 1);
      wider[slot] = static_cast<int64_t>(at);
    }
    slots_.swap(wider);
  }

  const uint8_t* text_;
  uint8_t* out_;
  int64_t written_ = 0;
  std::vector<Name> names_;
  std::vector<int64_t> slots_;
};

}  // namespace

// `names` has room for size + 1 bytes, `positions` for size / 2 + 1 numbers, `counts` for one a
// window. Returns the bytes of `names`, or -1 when there is no memory.
QCODER_API int64_t qcoder_chunk_words(const uint8_t* text, int64_t size, int64_t window_lines,
                                      uint8_t* names, uint16_t* positions, uint32_t* counts) try {
  Names known(text, names);
  std::vector<int64_t> last_window;
  int64_t window = 0, lines = 0, at = 0;
  uint32_t count = 0;
  while (at < size) {
    const uint8_t kind = kinds.of[text[at]];
    if (kind == 0) {
      if (text[at++] == '\n' && ++lines % window_lines == 0) {
        counts[window++] = count;
        count = 0;
      }
      continue;
    }
    const int64_t start = at;
    uint64_t hash = 0;
    int64_t characters = 0;
    for (; at < size && kinds.of[text[at]] != 0; ++at) {
      hash = (hash ^ text[at]) * 0x9E3779B97F4A7C15u;
      characters += (text[at] & 0xC0) != 0x80;
    }
    hash ^= hash >> 29;
    if (kind != 2 || characters < kLeastCharacters) continue;
    const int64_t position = known.position(start, at - start, hash);
    if (position < 0) continue;
    if (position == static_cast<int64_t>(last_window.size())) last_window.push_back(-1);
    if (last_window[static_cast<size_t>(position)] == window) continue;
    last_window[static_cast<size_t>(position)] = window;
    *positions++ = static_cast<uint16_t>(position);
    ++count;
  }
  counts[window] = count;
  return known.written();
} catch (const std::bad_alloc&) {
  return -1;
}
