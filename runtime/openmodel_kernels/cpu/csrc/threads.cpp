#include "threads.h"

#include <memory>
#include <mutex>
#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace openmodel {
namespace {

// About 0.1 ms on the machines at hand: longer than the pause between two operations of a step.
constexpr int kSpins = 2000;

inline void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

std::mutex team_mutex;
std::unique_ptr<ThreadTeam> process_team;
int wanted_threads = 1;

}  // namespace

ThreadTeam::ThreadTeam(int threads) : shares_(threads) {
  for (int member = 1; member < threads; ++member) workers_.emplace_back([this, member] { work(member); });
}

ThreadTeam::~ThreadTeam() {
  stop_.store(true);
  job_.fetch_add(1);
  job_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadTeam::run_tasks(long tasks, Call call, void* context) {
  if (workers_.empty() || tasks <= 1) {
    for (long task = 0; task < tasks; ++task) call(context, task, 0);
    return;
  }
  const std::lock_guard<std::mutex> turn(turn_);
  const uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  const uint64_t number = static_cast<uint64_t>(job) << 32;
  // Closed while it is described: a member that comes late to the last job must not take a task of this one for it.
  for (Share& share : shares_) share.ticket.store(number | UINT32_MAX, std::memory_order_seq_cst);
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  for (size_t member = 0; member < shares_.size(); ++member) {
    const long begin = tasks * member / shares_.size(), end = tasks * (member + 1) / shares_.size();
    shares_[member].end.store(static_cast<uint32_t>(end), std::memory_order_relaxed);
    shares_[member].ticket.store(number | static_cast<uint64_t>(begin), std::memory_order_release);
  }
  job_.store(job, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) job_.notify_all();
  run_shares(job, 0);
  for (int spins = 0; done_.load(std::memory_order_acquire) != tasks; ++spins) {
    // A member that was put aside with a task needs this core more than the spinning does.
    if (spins < kSpins) pause_briefly();
    else std::this_thread::yield();
  }
}

void ThreadTeam::run_shares(uint32_t job, int member) {
  for (size_t i = 0; i < shares_.size(); ++i) {
    Share& share = shares_[(member + i) % shares_.size()];
    for (uint32_t task; take(job, share, task);) {
      // The job lives until this task is done, so what describes it stands still.
      call_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed), task, member);
      done_.fetch_add(1, std::memory_order_release);
    }
  }
}

bool ThreadTeam::take(uint32_t job, Share& share, uint32_t& task) {
  uint64_t ticket = share.ticket.load(std::memory_order_acquire);
  do {
    task = static_cast<uint32_t>(ticket);
    if (ticket >> 32 != job || task >= share.end.load(std::memory_order_relaxed)) return false;
  } while (!share.ticket.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
  return true;
}

void ThreadTeam::work(int member) {
  uint32_t seen = 0;
  while (true) {
    uint32_t job = job_.load(std::memory_order_acquire);
    for (int spins = 0; job == seen && spins < kSpins; ++spins) {
      pause_briefly();
      job = job_.load(std::memory_order_acquire);
    }
    if (job == seen) {
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      job_.wait(seen, std::memory_order_seq_cst);
      sleeping_.fetch_sub(1, std::memory_order_relaxed);
      continue;
    }
    if (stop_.load()) return;
    seen = job;
    run_shares(job, member);
  }
}

ThreadTeam& team() {
  const std::lock_guard<std::mutex> lock(team_mutex);
  if (!process_team) process_team = std::make_unique<ThreadTeam>(wanted_threads);
  return *process_team;
}

void set_num_threads(int threads) {
  if (threads < 1 || threads > ThreadTeam::kMaxThreads) throw std::invalid_argument("threads must be between 1 and 256");
  const std::lock_guard<std::mutex> lock(team_mutex);
  if (process_team && process_team->size() == threads) return;
  process_team.reset();
  wanted_threads = threads;
}

}  // namespace openmodel
