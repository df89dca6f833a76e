// A thread pool for short parallel loops beside an editor.
//
// Work is handed out by an atomic counter, so a thread that the system takes away delays only the
// pieces it holds. Idle workers spin briefly, because the next loop of a decode step comes within
// microseconds, and then sleep: a pool that only spins stalls whenever cores are shared.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
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
      ending_ = true;
      generation_.fetch_add(1);
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
    call_ = [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); };
    context_ = &body;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    // A worker that comes late finds no piece left; it still has to say that it has seen this loop.
    busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> guard(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load(std::memory_order_acquire) > 0) wake_.notify_all();
    take();
    for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; ++spins) {
      if (spins < kSpins) relax(); else std::this_thread::yield();
    }
  }

 private:
  static constexpr int kSpins = 4000;  // some tens of microseconds

  void take() {
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      call_(context_, i);
    }
  }

  void work() {
    uint64_t seen = 0;
    for (;;) {
      for (int spins = 0; spins < kSpins && generation_.load(std::memory_order_acquire) == seen;
           ++spins) {
        relax();
      }
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleeping_.fetch_add(1);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
        sleeping_.fetch_sub(1);
      }
      if (ending_) return;
      ++seen;  // a loop ends only when every worker has seen it, so none is skipped
      take();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> sleeping_{0}, busy_{0};
  std::atomic<int64_t> next_{0};
  bool ending_ = false, alone_ = false;
  void (*call_)(const void*, int64_t) = nullptr;
  const void* context_ = nullptr;
  int64_t count_ = 0;
};
