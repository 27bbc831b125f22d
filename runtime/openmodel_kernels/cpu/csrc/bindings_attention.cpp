// Attention as Python sees it.
#include "bindings.h"

namespace openmodel {
namespace bindings {
namespace {

// rows: (row, rows, context) of each sequence; tables: block numbers of each.
std::shared_ptr<AttentionStep> attention_step(const std::vector<std::tuple<int64_t, int64_t, int64_t>>& rows,
                                              const std::vector<std::vector<int32_t>>& tables) {
  TORCH_CHECK(rows.size() == tables.size(), "one table a sequence");
  auto step = std::make_shared<AttentionStep>();
  for (const auto& table : tables) step->tables.insert(step->tables.end(), table.begin(), table.end());
  for (const int32_t block : step->tables) {
    step->lowest_block = std::min(step->lowest_block, block);
    step->highest_block = std::max(step->highest_block, block);
  }
  const int32_t* table = step->tables.data();
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& [row, count, context] = rows[i];
    TORCH_CHECK(static_cast<int64_t>(tables[i].size()) * kBlock >= context + count, "sequence ", i, " lacks blocks");
    TORCH_CHECK(row >= 0 && count >= 0 && context >= 0, "sequence ", i, " has a negative row, count or context");
    step->rows = std::max<long>(step->rows, row + count);
    step->sequences.push_back({row, count, context, table});
    table += tables[i].size();
  }
  return step;
}

HeadShape head_shape(const Tensor& qkv, const Tensor& keys, const Tensor& values, int64_t heads, int64_t rotary_dim) {
  check(qkv, "qkv", 2, qkv.scalar_type());
  // [blocks][kv_heads][kBlock * head_dim], blocks at any distance from each other
  for (const Tensor& side : {keys, values})
    TORCH_CHECK(side.device().is_cpu() && side.dim() == 3 && side.scalar_type() == qkv.scalar_type() &&
                    side.stride(2) == 1 && side.stride(1) == side.size(2) && side.stride(0) == keys.stride(0),
                "keys and values must be (blocks, heads, elements) of qkv's dtype, contiguous within a block");
  const int64_t kv_heads = keys.size(1), head_dim = keys.size(2) / kBlock;
  TORCH_CHECK(keys.sizes() == values.sizes() && keys.size(2) % kBlock == 0, "keys and values must have one shape");
  TORCH_CHECK(qkv.size(1) == (heads + 2 * kv_heads) * head_dim, "qkv has ", qkv.size(1), " columns");
  TORCH_CHECK(heads % kv_heads == 0 && head_dim % 16 == 0 && head_dim <= kMaxHeadDim && rotary_dim <= head_dim,
              "a head of ", head_dim, " must be a multiple of 16 and at most ", kMaxHeadDim);
  return {dtype_of(qkv.scalar_type()), static_cast<int>(heads), static_cast<int>(kv_heads), static_cast<int>(head_dim),
          static_cast<int>(rotary_dim)};
}

LayerCache layer_cache(const Tensor& keys, const Tensor& values) {
  return {static_cast<char*>(keys.data_ptr()), static_cast<char*>(values.data_ptr()), keys.stride(0) * keys.element_size()};
}

void check_blocks(const AttentionStep& step, const Tensor& qkv, const Tensor& keys) {
  TORCH_CHECK(step.lowest_block >= 0, "block ", step.lowest_block, " is none");
  TORCH_CHECK(step.highest_block < keys.size(0), "block ", step.highest_block, " of ", keys.size(0));
  TORCH_CHECK(step.rows <= qkv.size(0), "rows beyond qkv");
}

void write_cache(const AttentionStep& step, Tensor qkv, int64_t heads, const Tensor& cos, const Tensor& sin, Tensor keys,
                 Tensor values) {
  check(cos, "cos", 2, at::kFloat);
  check(sin, "sin", 2, at::kFloat);
  const HeadShape shape = head_shape(qkv, keys, values, heads, 2 * cos.size(1));
  TORCH_CHECK(cos.sizes() == sin.sizes() && cos.size(0) == qkv.size(0), "cos and sin need a row for each of qkv");
  check_blocks(step, qkv, keys);
  const LayerCache cache = layer_cache(keys, values);
  const py::gil_scoped_release release;
  openmodel::write_cache(shape, step, qkv.data_ptr(), cos.data_ptr<float>(), sin.data_ptr<float>(), cache);
}

void norm_heads(Tensor qkv, int64_t heads, int64_t kv_heads, const Tensor& q_weight, const Tensor& k_weight, double eps) {
  check(qkv, "qkv", 2, qkv.scalar_type());
  check(q_weight, "q_weight", 1, qkv.scalar_type());
  check(k_weight, "k_weight", 1, qkv.scalar_type());
  const int64_t head_dim = q_weight.size(0);
  TORCH_CHECK(k_weight.size(0) == head_dim, "q_weight has ", head_dim, " elements, k_weight ", k_weight.size(0));
  TORCH_CHECK(qkv.size(1) == (heads + 2 * kv_heads) * head_dim, "qkv has ", qkv.size(1), " columns");
  const HeadShape shape{dtype_of(qkv.scalar_type()), static_cast<int>(heads), static_cast<int>(kv_heads),
                        static_cast<int>(head_dim), 0};
  const py::gil_scoped_release release;
  openmodel::norm_heads(shape, qkv.data_ptr(), qkv.size(0), q_weight.data_ptr(), k_weight.data_ptr(),
                        static_cast<float>(eps));
}

Tensor paged_attention(const AttentionStep& step, const Tensor& qkv, int64_t heads, const Tensor& keys,
                       const Tensor& values, double scale, int64_t window, double softcap,
                       const std::optional<Tensor>& sinks) {
  const HeadShape shape = head_shape(qkv, keys, values, heads, 0);
  check_blocks(step, qkv, keys);
  TORCH_CHECK(window >= 0 && softcap >= 0, "window and softcap must not be negative");
  if (sinks) {
    check(*sinks, "sinks", 1, at::kFloat);
    TORCH_CHECK(sinks->size(0) == heads, "sinks has ", sinks->size(0), " elements, one a head is needed");
  }
  const AttentionRule rule{static_cast<float>(scale), window, static_cast<float>(softcap),
                           sinks ? sinks->data_ptr<float>() : nullptr};
  Tensor out = at::empty({qkv.size(0), heads * shape.head_dim}, qkv.options());
  const LayerCache cache = layer_cache(keys, values);
  const py::gil_scoped_release release;
  openmodel::paged_attention(shape, step, qkv.data_ptr(), cache, rule, out.data_ptr());
  return out;
}

}  // namespace

void define_attention(py::module_& module) {
  py::class_<AttentionStep, std::shared_ptr<AttentionStep>>(module, "AttentionStep");
  module.def("attention_step", &attention_step);
  module.def("norm_heads", &norm_heads);
  module.def("write_cache", &write_cache);
  module.def("paged_attention", &paged_attention);
}

}  // namespace bindings
}  // namespace openmodel
