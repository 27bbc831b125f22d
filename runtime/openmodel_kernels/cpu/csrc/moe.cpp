#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "layout.h"
#include "ops.h"
#include "threads.h"

namespace openmodel {
namespace {

constexpr long kTaskTokens = 32;
// Nothing is worth less, so what is set to this was taken.
constexpr float kTaken = -std::numeric_limits<float>::infinity();

// The first of the most worthy, which is taken.
long take_best(float* worth, long count) {
  const long best = std::max_element(worth, worth + count) - worth;
  worth[best] = kTaken;
  return best;
}

void score(const float* logits, long experts, const RoutingRule& rule, float* scores) {
  if (rule.sigmoid) {
    for (long e = 0; e < experts; ++e) scores[e] = 1.0f / (1.0f + std::exp(-logits[e]));
    return;
  }
  const float top = *std::max_element(logits, logits + experts);
  float total = 0.0f;
  for (long e = 0; e < experts; ++e) total += scores[e] = std::exp(logits[e] - top);
  for (long e = 0; e < experts; ++e) scores[e] /= total;
}

// Takes every expert that is in none of the best groups.
void keep_best_groups(float* worth, long experts, const RoutingRule& rule) {
  const long size = experts / rule.groups;
  std::vector<float> groups(rule.groups), members(size);
  for (int g = 0; g < rule.groups; ++g) {
    members.assign(worth + g * size, worth + (g + 1) * size);
    std::partial_sort(members.begin(), members.begin() + rule.group_best, members.end(), std::greater<>());
    groups[g] = std::accumulate(members.begin(), members.begin() + rule.group_best, 0.0f);
  }
  std::vector<bool> kept(rule.groups, false);
  for (int k = 0; k < rule.top_groups; ++k) kept[take_best(groups.data(), rule.groups)] = true;
  for (long e = 0; e < experts; ++e)
    if (!kept[e / size]) worth[e] = kTaken;
}

}  // namespace

void route(const float* logits, long tokens, long experts, const RoutingRule& rule, int32_t* out_experts,
           float* out_weights) {
  for_rows(tokens, kTaskTokens, [&](long t) {
    const float* row = logits + t * experts;
    int32_t* chosen = out_experts + t * rule.top_k;
    float* weights = out_weights + t * rule.top_k;
    std::vector<float> scores(experts), worth(experts);
    score(row, experts, rule, scores.data());
    // Without a bias logits are in the order of their scores, and finer.
    const bool plain = !rule.bias && rule.group_best == 1;
    for (long e = 0; e < experts; ++e) worth[e] = plain ? row[e] : scores[e] + (rule.bias ? rule.bias[e] : 0.0f);
    if (rule.top_groups < rule.groups) keep_best_groups(worth.data(), experts, rule);
    for (int k = 0; k < rule.top_k; ++k) chosen[k] = static_cast<int32_t>(take_best(worth.data(), experts));
    float kept = 0.0f;
    for (int k = 0; k < rule.top_k; ++k) kept += weights[k] = scores[chosen[k]];
    for (int k = 0; k < rule.top_k; ++k) {
      if (rule.renormalize) weights[k] /= kept;
      weights[k] *= rule.scale;
    }
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
    const void* slots[kMaxTopK];
    for (int k = 0; k < top_k; ++k) slots[k] = static_cast<const char*>(rows) + places[t * top_k + k] * row_bytes;
    isa().combine[static_cast<int>(dtype)](slots, weights + t * top_k, top_k, columns,
                                           residual ? static_cast<const char*>(residual) + t * row_bytes : nullptr,
                                           static_cast<char*>(out) + t * row_bytes);
  });
}

}  // namespace openmodel
