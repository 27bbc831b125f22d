#include <algorithm>
#include <cmath>
#include <cstring>

#include "layout.h"
#include "ops.h"
#include "threads.h"

namespace openmodel {
namespace {

constexpr long kTaskTokens = 32;

}  // namespace

void route_softmax(const float* logits, long tokens, long experts, int top_k, bool renormalize, int32_t* out_experts,
                   float* out_weights) {
  for_rows(tokens, kTaskTokens, [&](long t) {
    const float* row = logits + t * experts;
    int32_t* chosen = out_experts + t * top_k;
    float* weights = out_weights + t * top_k;
    for (int k = 0; k < top_k; ++k) {
      long best = -1;
      for (long e = 0; e < experts; ++e) {
        if (std::find(chosen, chosen + k, static_cast<int32_t>(e)) != chosen + k) continue;
        if (best < 0 || row[e] > row[best]) best = e;
      }
      chosen[k] = static_cast<int32_t>(best);
    }
    const float top = row[chosen[0]];
    float total = 0.0f, kept = 0.0f;
    for (long e = 0; e < experts; ++e) total += std::exp(row[e] - top);
    for (int k = 0; k < top_k; ++k) kept += weights[k] = std::exp(row[chosen[k]] - top) / total;
    if (renormalize)
      for (int k = 0; k < top_k; ++k) weights[k] /= kept;
  });
}

void gather_rows(const void* x, long row_bytes, const int32_t* slots, long count, int top_k, void* out) {
  for_rows(count, kTaskTokens, [&](long i) {
    std::memcpy(static_cast<char*>(out) + i * row_bytes, static_cast<const char*>(x) + slots[i] / top_k * row_bytes,
                row_bytes);
  });
}

void combine(Dtype dtype, const void* rows, const int32_t* places, const float* weights, long tokens, int top_k,
             long columns, const void* residual, void* out) {
  const long row_bytes = columns * bytes_of(dtype);
  for_rows(tokens, kTaskTokens, [&](long t) {
    const void* slots[64];
    for (int k = 0; k < top_k; ++k) slots[k] = static_cast<const char*>(rows) + places[t * top_k + k] * row_bytes;
    isa().combine[static_cast<int>(dtype)](slots, weights + t * top_k, top_k, columns,
                                           residual ? static_cast<const char*>(residual) + t * row_bytes : nullptr,
                                           static_cast<char*>(out) + t * row_bytes);
  });
}

}  // namespace openmodel
