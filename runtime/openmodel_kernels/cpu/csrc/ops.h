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

// How the halves of a gated weight's product are joined.
enum class Gate : int { kNone, kSiLU, kGeLU, kClampedSiLU };

// How a weight's numbers are stored: as they came, or as whole numbers from -127 to 127 with a factor a row.
enum class Storage : int { kAsIs, kInt8 };

// A weight, or one a group (expert), in panels (layout.h). With a gate, rows are all gates, then all ups. `bias`: a number
// a row of each group, or null.
class Weight {
 public:
  Weight(Dtype dtype, long groups, long rows, long k, Gate gate, const float* bias, Storage storage);
  // Groups of weights of one shape, side by side; they are shared, not copied. At least one.
  explicit Weight(const std::vector<std::pair<const Weight*, long>>& picked);
  // Takes the rows of one group, [rows][k]; not thread-safe.
  void pack(long group, const void* dense);
  // Row `row` of group 0 as it was packed, [k].
  void unpack_row(long row, void* out) const;
  const char* panel(long group, long index) const { return parts_[group].panels.get() + index * panel_bytes; }
  // In the order of the panel's columns, or null.
  const float* bias(long group, long index) const { return of_panel(parts_[group].bias, index); }
  const float* scales(long group, long index) const { return of_panel(parts_[group].scales, index); }
  long bytes() const {
    const long numbers = (parts_[0].bias ? 1 : 0) + (parts_[0].scales ? 1 : 0);
    return groups * panels * (panel_bytes + numbers * kPanel * static_cast<long>(sizeof(float)));
  }

  const Dtype dtype;
  const long groups, rows, k, k_padded;
  const Gate gate;
  const bool gated;
  const Storage storage;
  const long panels, panel_bytes;
  const long out_columns;  // of the product with its epilogue

 private:
  // What belongs to one group.
  struct Part {
    std::shared_ptr<char> panels;
    std::shared_ptr<std::vector<float>> bias, scales;
  };
  static const float* of_panel(const std::shared_ptr<std::vector<float>>& numbers, long index) {
    return numbers ? numbers->data() + index * kPanel : nullptr;
  }
  void pack_int8(long group, long index, const char* const* rows);

  std::vector<Part> parts_;
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

// Normalizes each query and key head of qkv ([rows][(heads + 2 kv_heads) * head_dim]) in place, over head_dim.
void norm_heads(const HeadShape& shape, void* qkv, long rows, const void* q_weight, const void* k_weight, float eps);
// Rotates queries and keys of qkv ([rows][(heads + 2 kv_heads) * head_dim]) in place and writes keys and values to their
// blocks. cos, sin: [rows][rotary_dim / 2].
void write_cache(const HeadShape& shape, const AttentionStep& step, void* qkv, const float* cos, const float* sin,
                 const LayerCache& cache);
// What attention does with scores (AttentionArgs); `sinks` has one a query head, or is null.
struct AttentionRule { float scale; long window; float softcap; const float* sinks; };

// out: [rows][heads * head_dim]
void paged_attention(const HeadShape& shape, const AttentionStep& step, const void* qkv, const LayerCache& cache,
                     const AttentionRule& rule, void* out);

// How experts are chosen and weighed.
struct RoutingRule {
  int top_k;
  bool sigmoid;          // an expert's score is the sigmoid of its logit; else the softmax over all
  bool renormalize;      // weights are divided by their sum
  float scale;           // and multiplied with this
  int groups;            // experts stand in so many groups of one size
  int top_groups;        // of which only the best are chosen from
  int group_best;        // a group is as good as so many of its best experts together
  const float* bias;     // added to scores where experts are chosen, not where they are weighed; or null
};
constexpr int kMaxTopK = 64;

// Experts of each token, the best first, and their weights: [tokens][top_k]. Ties go to the lower expert.
void route(const float* logits, long tokens, long experts, const RoutingRule& rule, int32_t* out_experts,
           float* out_weights);
// Rows of x in the order of `slots` (slot = token * top_k + k): out[i] = x[slots[i] / top_k].
void gather_rows(const void* x, long row_bytes, const int32_t* slots, long count, int top_k, void* out);
// The first of the largest numbers of each row: of all, or of those whose bit is set in the row's octets.
void argmax_rows(const float* x, long rows, long columns, const uint8_t* allowed, long octets, int64_t* out);
void combine(Dtype dtype, const void* rows, const int32_t* places, const float* weights, long tokens, int top_k,
             long columns, const void* residual, void* out);

}  // namespace openmodel
