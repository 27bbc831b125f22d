#include "mailbox.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

namespace openmodel {
namespace {

// A piece is in the box while more were written than read.
struct alignas(64) Box {
  std::atomic<uint64_t> written;
  alignas(64) std::atomic<uint64_t> read;
  alignas(64) char data[kBoxBytes];
};
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int32_t>::is_always_lock_free);

struct alignas(64) Seat { std::atomic<uint64_t> taken; };

Box& box_of(char* memory, long ranks, long from, long to) {
  return *reinterpret_cast<Box*>(memory + ranks * sizeof(Seat) + (from * ranks + to) * sizeof(Box));
}

// Waits a little, longer the longer nothing has happened.
class Patience {
 public:
  void reset() { waits_ = 0; }
  void wait() {
    ++waits_;
    if (waits_ < kSpins) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else if (waits_ < kSpins + kYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

 private:
  static constexpr long kSpins = 20000, kYields = 2000;  // some milliseconds
  long waits_ = 0;
};

// The next piece into an empty box, or out of a full one; false when there is nothing to do now.
bool send_piece(Box& box, const Letter& letter, long& done) {
  if (done == letter.bytes) return false;
  const uint64_t written = box.written.load(std::memory_order_relaxed);
  if (written != box.read.load(std::memory_order_acquire)) return false;
  const long bytes = std::min(kBoxBytes, letter.bytes - done);
  std::memcpy(box.data, letter.data + done, bytes);
  box.written.store(written + 1, std::memory_order_release);
  done += bytes;
  return true;
}

bool receive_piece(Box& box, const Letter& letter, long& done) {
  if (done == letter.bytes) return false;
  const uint64_t read = box.read.load(std::memory_order_relaxed);
  if (read == box.written.load(std::memory_order_acquire)) return false;
  const long bytes = std::min(kBoxBytes, letter.bytes - done);
  std::memcpy(letter.data + done, box.data, bytes);
  box.read.store(read + 1, std::memory_order_release);
  done += bytes;
  return true;
}

}  // namespace

long mailbox_bytes(long ranks) {
  return static_cast<long>(ranks * sizeof(Seat) + ranks * ranks * sizeof(Box));
}

bool swap_letters(char* memory, long ranks, long rank, const std::vector<Letter>& out, const std::vector<Letter>& in,
                  const std::atomic<int32_t>& stop) {
  std::vector<long> sent(ranks, 0), got(ranks, 0);
  Patience patience;
  while (true) {
    bool moved = false, left = false;
    for (long other = 0; other < ranks; ++other) {
      if (other == rank) continue;
      moved |= send_piece(box_of(memory, ranks, rank, other), out[other], sent[other]);
      moved |= receive_piece(box_of(memory, ranks, other, rank), in[other], got[other]);
      left |= sent[other] != out[other].bytes || got[other] != in[other].bytes;
    }
    if (!left) return true;
    if (stop.load(std::memory_order_relaxed)) return false;
    if (moved) patience.reset();
    else patience.wait();
  }
}

bool meet(char* memory, long ranks, long rank, const std::atomic<int32_t>& stop) {
  Seat* seats = reinterpret_cast<Seat*>(memory);
  seats[rank].taken.store(1, std::memory_order_release);
  for (long other = 0; other < ranks; ++other) {
    while (!seats[other].taken.load(std::memory_order_acquire)) {
      if (stop.load(std::memory_order_relaxed)) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return true;
}

}  // namespace openmodel
