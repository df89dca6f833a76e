// A thread pool for short parallel loops beside an editor.
//
// Work is handed out piece by piece from one atomic word, and only pieces that somebody holds are waited
// for: a thread that the system takes away before it has taken a piece delays nobody. Idle workers
// spin briefly, because the next loop of a decode step comes within microseconds, and then sleep:
// a pool that only spins stalls whenever cores are shared.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#elif defined(__aarch64__)
static inline void relax() { asm volatile("yield"); }
#else
static inline void relax() {}
#endif

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }

  ~Pool() {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      ending_.store(true);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Leave the workers asleep: for steps so small that waking them takes longer than it saves.
  void alone(bool on) { alone_ = on; }

  // With `wide`, as `run`; otherwise by the caller alone.
  template <class Body>
  void run_if(bool wide, int64_t count, const Body& body) {
    if (wide) return run(count, body);
    for (int64_t i = 0; i < count; ++i) body(i);
  }

  // Calls body(i) for i in [0, count), each once; returns when all are done. Not reentrant.
  template <class Body>
  void run(int64_t count, const Body& body) {
    if (workers_.empty() || alone_ || count <= 1) {
      for (int64_t i = 0; i < count; ++i) body(i);
      return;
    }
    for (int64_t start = 0; start < count; start += kMost) {
      share(start, count - start < kMost ? count - start : kMost, body);
    }
  }

 private:
  static constexpr int kSpins = 4000;  // some tens of microseconds
  static constexpr int kBits = 24;     // of the word: pieces taken, below them pieces there are
  static constexpr int64_t kMost = (1 << kBits) - 1;

  template <class Body>
  void share(int64_t start, int64_t count, const Body& body) {
    call_ = [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); };
    context_ = &body;
    start_ = start;
    done_.store(0, std::memory_order_relaxed);
    // The upper bits tell this loop from the last one, so that nobody takes a piece by mistake.
    const uint64_t loop = static_cast<uint64_t>(++loops_) << (2 * kBits);
    word_.store(loop | static_cast<uint64_t>(count));
    if (sleeping_.load() > 0) {
      std::lock_guard<std::mutex> guard(mutex_);
      wake_.notify_all();
    }
    while (take()) {}
    for (int spins = 0; done_.load(std::memory_order_acquire) < count; ++spins) {
      if (spins < kSpins) relax(); else std::this_thread::yield();
    }
  }

  static bool is_left(uint64_t word) {
    return ((word >> kBits) & kMost) < (word & kMost);
  }

  // Take a piece and do it; false when none is left. While a piece is held its loop does not end, so
  // what describes the loop stays as it is.
  bool take() {
    uint64_t word = word_.load();
    do {
      if (!is_left(word)) return false;
    } while (!word_.compare_exchange_weak(word, word + (uint64_t{1} << kBits)));
    call_(context_, start_ + static_cast<int64_t>((word >> kBits) & kMost));
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }

  void work() {
    while (!ending_.load()) {
      int spins = 0;
      while (spins < kSpins && !is_left(word_.load(std::memory_order_relaxed))) ++spins, relax();
      if (take()) continue;
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, [&] { return ending_.load() || is_left(word_.load()); });
      sleeping_.fetch_sub(1);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> word_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> ending_{false};
  bool alone_ = false;
  uint16_t loops_ = 0;
  void (*call_)(const void*, int64_t) = nullptr;
  const void* context_ = nullptr;
  int64_t start_ = 0;
};
