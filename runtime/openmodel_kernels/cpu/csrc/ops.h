// The operations over whole tensors: they cut the work into tasks for the team and call the processor's functions.
//
// Raw pointers, row-major, contiguous. Knows no torch; bindings.cpp checks shapes before it calls.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "isa.h"

namespace openmodel {

// Which table the operations use; set once, before the first weight is packed.
const Isa& isa();
bool use_isa(const char* name);

// A weight, or one a group (expert), in panels (layout.h). `gated`: rows are all gates, then all ups.
class Weight {
 public:
  Weight(Dtype dtype, long groups, long rows, long k, bool gated);
  // Takes the rows of one group, [rows][k]; not thread-safe.
  void pack(long group, const void* dense);
  // Row `row` of group 0 as it was packed, [k].
  void unpack_row(long row, void* out) const;
  const char* panel(long group, long index) const { return data_.get() + (group * panels + index) * panel_bytes; }
  long bytes() const { return groups * panels * panel_bytes; }

  const Dtype dtype;
  const long groups, rows, k, k_padded;
  const bool gated;
  const long panels, panel_bytes;
  const long out_columns;  // of the product with its epilogue

 private:
  std::shared_ptr<char> data_;
};

// Rows [begin, end) of the input go to `group`.
struct RowGroup { long group, begin, end; };

void linear(const Weight& weight, const void* x, const std::vector<RowGroup>& groups, Epilogue epilogue,
            const void* residual, void* out);
// Rows of group 0 as they were packed, [count][k].
void weight_rows(const Weight& weight, const int64_t* rows, long count, void* out);
void rms_norm(Dtype dtype, const void* x, const void* weight, long rows, long columns, float eps, void* out);

// The sequences of a step: rows of the step, tokens cached before, blocks.
struct AttentionStep {
  struct Sequence { long row, rows, context; const int32_t* table; };
  std::vector<Sequence> sequences;
  std::vector<int32_t> tables;
  // What every layer's tensors are checked against, found once.
  int32_t lowest_block = 0, highest_block = -1;
  long rows = 0;
};

struct HeadShape { Dtype dtype; int heads, kv_heads, head_dim, rotary_dim; };

// Blocks of one layer: keys and values, each [kv_heads][kBlock * head_dim] a block, `block_stride` bytes apart.
struct LayerCache { char* keys; char* values; long block_stride; };

// Rotates queries and keys of qkv ([rows][(heads + 2 kv_heads) * head_dim]) in place and writes keys and values to their
// blocks. cos, sin: [rows][rotary_dim / 2].
void write_cache(const HeadShape& shape, const AttentionStep& step, void* qkv, const float* cos, const float* sin,
                 const LayerCache& cache);
// out: [rows][heads * head_dim]
void paged_attention(const HeadShape& shape, const AttentionStep& step, const void* qkv, const LayerCache& cache,
                     float scale, void* out);

// Experts of each token: softmax over all logits, the best `top_k`, renormalized when asked for. Ties go to the lower
// expert. experts, weights: [tokens][top_k]
void route_softmax(const float* logits, long tokens, long experts, int top_k, bool renormalize, int32_t* out_experts,
                   float* out_weights);
// Rows of x in the order of `slots` (slot = token * top_k + k): out[i] = x[slots[i] / top_k].
void gather_rows(const void* x, long row_bytes, const int32_t* slots, long count, int top_k, void* out);
// The first of the largest numbers of each row.
void argmax_rows(const float* x, long rows, long columns, int64_t* out);
void combine(Dtype dtype, const void* rows, const int32_t* places, const float* weights, long tokens, int top_k,
             long columns, const void* residual, void* out);

}  // namespace openmodel
