// A team of threads that share the tasks of one operation after another.
//
// A step of a small model is hundreds of operations of a few microseconds each, so a member that has run out of tasks
// spins for a moment before it sleeps; an idle team costs nothing. A member takes the tasks of its own share one by one, in
// order, so that it reads memory from end to end, and then what is left of the others': a member that the kernel puts aside
// holds up one task, not its share. Which member runs a task never changes what the task computes.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace openmodel {

class ThreadTeam {
 public:
  static constexpr int kMaxThreads = 256;

  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, member) once for each task in [0, tasks); returns when all have returned. `member` is less than
  // size() and is the caller's own while the body runs. Not reentrant; of several callers one waits for another.
  template <class Body>
  void run(long tasks, Body&& body) {
    auto call = [](void* context, long task, int member) { (*static_cast<Body*>(context))(task, member); };
    run_tasks(tasks, call, &body);
  }

 private:
  // Next task of a member's share. The job's number stands in the upper half: taking a task of a job that is over fails.
  struct alignas(64) Share {
    std::atomic<uint64_t> ticket{0};
    std::atomic<uint32_t> end{0};
  };

  using Call = void (*)(void*, long, int);

  void run_tasks(long tasks, Call call, void* context);
  void work(int member);
  void run_shares(uint32_t job, int member);
  bool take(uint32_t job, Share& share, uint32_t& task);

  std::mutex turn_;
  std::vector<Share> shares_;
  std::atomic<uint32_t> job_{0};
  std::atomic<uint32_t> done_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// The process's team, of the size that was set last; made at its first use.
ThreadTeam& team();

// Calls body(row) for each row in [0, rows), `chunk` of them a task.
template <class Body>
void for_rows(long rows, long chunk, Body&& body) {
  team().run((rows + chunk - 1) / chunk, [&](long task, int) {
    for (long row = task * chunk; row < std::min(rows, (task + 1) * chunk); ++row) body(row);
  });
}

void set_num_threads(int threads);

}  // namespace openmodel
