// The C interface of the CPU kernels.
#include <new>

#include "decoder.hpp"
#include "delta.hpp"

#if defined(_WIN32)
#define QCODER_API extern "C" __declspec(dllexport)
#else
#define QCODER_API extern "C" __attribute__((visibility("default")))
#endif

// `INTERFACE` of native_library.py: changes with the functions and structures below.
QCODER_API int qcoder_interface() { return 3; }

// The best instruction set here: 0 plain, 1 AVX2, 2 AVX-512 with VNNI, 3 NEON with dot products.
QCODER_API int qcoder_instructions() { return best_instructions(); }

// Whether that one is to be had here.
QCODER_API int qcoder_has(int instructions) { return has_instructions(instructions); }

// Threads and scratch memory of one caller; null when there is no memory or the set is not to be had.
QCODER_API void* qcoder_open(int threads, int instructions) {
  if (threads < 1 || !has_instructions(instructions)) return nullptr;
  try {
    return new Engine(threads, instructions);
  } catch (...) {
    return nullptr;
  }
}

QCODER_API void qcoder_close(void* engine) { delete static_cast<Engine*>(engine); }

// y [tokens, rows] = x [tokens, columns] @ matrix^T, refined by `residual` unless that is null. Returns 0,
// or 1 when there is no memory.
QCODER_API int qcoder_linear(void* handle, const uint8_t* data, const uint8_t* residual, int64_t rows,
                             int64_t columns, int bits, int group, const float* x, int64_t tokens,
                             float* y) try {
  Engine& engine = *static_cast<Engine*>(handle);
  product(engine, {data, rows, columns, bits, group}, x, tokens, nullptr, false, y, rows);
  if (residual) refine(engine, {residual, rows, columns, bits, group}, tokens, y, rows);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// y [tokens, hidden] = weighted sum of SwiGLU experts; see `Experts`.
QCODER_API int qcoder_experts(void* handle, const uint8_t* gate_up, const uint8_t* down,
                              int64_t experts, int64_t hidden, int64_t size, int bits, int group,
                              int down_bits, int down_group, const float* x, const int64_t* chosen, const float* weights,
                              int64_t tokens, int64_t top_k, float* y) try {
  std::memset(y, 0, static_cast<size_t>(tokens * hidden) * sizeof(float));
  add_experts(*static_cast<Engine*>(handle),
              {gate_up, down, experts, hidden, size, top_k, bits, group, down_bits, down_group}, x, chosen, weights,
              tokens, y);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// The gated delta rule; see `Delta`. Returns 0, or 1 when there is no memory.
QCODER_API int qcoder_delta(void* handle, const Delta* delta) try {
  run_delta(*static_cast<Engine*>(handle), *delta);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}

// One forward pass; `alone` leaves the other threads asleep. Fills the pages and the logits. Returns 0,
// 1 when there is no memory, or 2 when it was stopped.
QCODER_API int qcoder_forward(void* handle, const QcoderModel* model, const QcoderBatch* batch,
                              int alone) try {
  Engine& engine = *static_cast<Engine*>(handle);
  engine.pool.alone(alone != 0);
  const bool done = Forward(engine, *model, *batch).run();
  engine.pool.alone(false);
  return done ? 0 : 2;
} catch (const std::bad_alloc&) {
  static_cast<Engine*>(handle)->pool.alone(false);
  return 1;
}

// Build tools for Python extensions want this symbol; the library is loaded with ctypes, not imported.
QCODER_API void* PyInit__native() { return nullptr; }
