#include <algorithm>
#include <cstring>

#include "layout.h"
#include "ops.h"
#include "threads.h"

namespace openmodel {
namespace {

constexpr long kNormRows = 8;

long head_block_bytes(const HeadShape& shape) { return static_cast<long>(kBlock) * shape.head_dim * bytes_of(shape.dtype); }

template <class T, int kPair>
void put_token(int head_dim, const char* k, const char* v, char* keys, char* values, int offset) {
  for (int c = 0; c < head_dim; ++c) {
    reinterpret_cast<T*>(keys)[packed_index(c, offset, kBlock, kPair)] = reinterpret_cast<const T*>(k)[c];
    reinterpret_cast<T*>(values)[packed_index(offset, c, head_dim, kPair)] = reinterpret_cast<const T*>(v)[c];
  }
}

constexpr decltype(&put_token<uint16_t, 2>) kPutToken[kDtypes] = {
    put_token<uint16_t, pair_of(Dtype::kBFloat16)>, put_token<uint16_t, pair_of(Dtype::kFloat16)>,
    put_token<uint32_t, pair_of(Dtype::kFloat32)>};

// The rows of one sequence that lie in one block.
struct BlockRows { long row, rows; int offset; int32_t block; };

std::vector<BlockRows> rows_by_block(const AttentionStep& step) {
  std::vector<BlockRows> parts;
  for (const auto& sequence : step.sequences) {
    for (long done = 0; done < sequence.rows;) {
      const long position = sequence.context + done;
      const int offset = static_cast<int>(position % kBlock);
      const long rows = std::min<long>(sequence.rows - done, kBlock - offset);
      parts.push_back({sequence.row + done, rows, offset, sequence.table[position / kBlock]});
      done += rows;
    }
  }
  return parts;
}

struct HeadTask { long sequence; int kv_head; long first_row; int rows; long cost; };

std::vector<HeadTask> head_tasks(const HeadShape& shape, const AttentionStep& step, long window) {
  std::vector<HeadTask> tasks;
  const int group = shape.heads / shape.kv_heads;
  for (size_t s = 0; s < step.sequences.size(); ++s) {
    const auto& sequence = step.sequences[s];
    const long grid = sequence.rows * group;
    for (long first = 0; first < grid; first += kRows) {
      const int rows = static_cast<int>(std::min<long>(kRows, grid - first));
      const long all = (sequence.context + (first + rows - 1) / group) / kBlock + 1;
      const long blocks = window ? std::min(all, (window + rows) / kBlock + 2) : all;
      for (int head = 0; head < shape.kv_heads; ++head)
        tasks.push_back({static_cast<long>(s), head, first, rows, blocks * (rows > 16 ? 2 : 1)});
    }
  }
  // The longest first, so that none is left alone at the end.
  std::stable_sort(tasks.begin(), tasks.end(), [](const HeadTask& a, const HeadTask& b) { return a.cost > b.cost; });
  return tasks;
}

}  // namespace

void norm_heads(const HeadShape& shape, void* qkv, long rows, const void* q_weight, const void* k_weight, float eps) {
  const long head_bytes = shape.head_dim * bytes_of(shape.dtype);
  for_rows(rows, kNormRows, [&](long row) {
    char* at = static_cast<char*>(qkv) + row * (shape.heads + 2 * shape.kv_heads) * head_bytes;
    for (int head = 0; head < shape.heads + shape.kv_heads; ++head, at += head_bytes)
      isa().rms_norm[static_cast<int>(shape.dtype)](at, head < shape.heads ? q_weight : k_weight, shape.head_dim, eps, at);
  });
}

void write_cache(const HeadShape& shape, const AttentionStep& step, void* qkv, const float* cos, const float* sin,
                 const LayerCache& cache) {
  const long element = bytes_of(shape.dtype), bytes = head_block_bytes(shape);
  const long q_bytes = shape.heads * shape.head_dim * element, kv_bytes = shape.kv_heads * shape.head_dim * element;
  const long row_bytes = q_bytes + 2 * kv_bytes;
  const auto parts = rows_by_block(step);
  team().run(static_cast<long>(parts.size()), [&](long task, int) {
    const BlockRows& part = parts[task];
    char* keys = cache.keys + part.block * cache.block_stride;
    char* values = cache.values + part.block * cache.block_stride;
    // What another sequence left behind has weight 0, and 0 times a NaN would be one.
    if (part.offset == 0) std::memset(values, 0, shape.kv_heads * bytes);
    for (long i = 0; i < part.rows; ++i) {
      const long row = part.row + i;
      char* at = static_cast<char*>(qkv) + row * row_bytes;
      const long angles = row * (shape.rotary_dim / 2);
      isa().rotary[static_cast<int>(shape.dtype)](at, shape.heads + shape.kv_heads, shape.head_dim, shape.rotary_dim,
                                                  cos + angles, sin + angles);
      for (int head = 0; head < shape.kv_heads; ++head) {
        const char* k = at + q_bytes + head * shape.head_dim * element;
        const char* v = k + kv_bytes;
        kPutToken[static_cast<int>(shape.dtype)](shape.head_dim, k, v, keys + head * bytes, values + head * bytes,
                                                 part.offset + static_cast<int>(i));
      }
    }
  });
}

void paged_attention(const HeadShape& shape, const AttentionStep& step, const void* qkv, const LayerCache& cache,
                     const AttentionRule& rule, void* out) {
  const long element = bytes_of(shape.dtype), bytes = head_block_bytes(shape);
  const int group = shape.heads / shape.kv_heads;
  const long in_stride = static_cast<long>(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  const long out_stride = static_cast<long>(shape.heads) * shape.head_dim;
  const auto tasks = head_tasks(shape, step, rule.window);
  // The first that any of the task's rows sees.
  const auto first_block = [&](const HeadTask& task) {
    const long position = step.sequences[task.sequence].context + task.first_row / group;
    return rule.window && position >= rule.window ? (position + 1 - rule.window) / kBlock : 0;
  };
  const auto start_of = [&](const HeadTask* task, const char* of) -> const char* {
    if (!task) return nullptr;
    const int32_t block = step.sequences[task->sequence].table[first_block(*task)];
    return of + task->kv_head * bytes + block * cache.block_stride;
  };
  const long count = static_cast<long>(tasks.size());
  team().run(count, [&](long index, int) {
    const HeadTask& task = tasks[index];
    const HeadTask* next = index + 1 < count ? &tasks[index + 1] : nullptr;
    const auto& sequence = step.sequences[task.sequence];
    const long head = static_cast<long>(task.kv_head) * group * shape.head_dim;
    isa().attention[static_cast<int>(shape.dtype)](AttentionArgs{
        static_cast<const char*>(qkv) + (sequence.row * in_stride + head) * element, in_stride, shape.head_dim, group,
        static_cast<int>(task.first_row), task.rows, sequence.context, first_block(task), sequence.table,
        cache.keys + task.kv_head * bytes, cache.values + task.kv_head * bytes, cache.block_stride,
        start_of(next, cache.keys), start_of(next, cache.values), rule.scale, rule.window, rule.softcap,
        rule.sinks ? rule.sinks + task.kv_head * group : nullptr,
        static_cast<char*>(out) + (sequence.row * out_stride + head) * element, out_stride});
  });
}

}  // namespace openmodel
