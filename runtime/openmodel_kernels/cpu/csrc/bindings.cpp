// The operations as Python sees them: checks shapes, dtypes and devices, allocates outputs, lets go of Python's lock.
#include <torch/extension.h>

#include "arena.h"
#include "ops.h"
#include "threads.h"

namespace openmodel {
namespace bindings {

using at::Tensor;

Dtype dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kFloat16;
    case at::kFloat: return Dtype::kFloat32;
    default: TORCH_CHECK(false, "dtype ", type, " is none of bfloat16, float16, float32");
  }
}

at::ScalarType scalar_type(Dtype dtype) {
  return dtype == Dtype::kBFloat16 ? at::kBFloat16 : dtype == Dtype::kFloat16 ? at::kHalf : at::kFloat;
}

void check(const Tensor& tensor, const char* name, int64_t dims, at::ScalarType type) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(), name, " must be contiguous and on the CPU");
  TORCH_CHECK(tensor.dim() == dims, name, " must have ", dims, " dimensions, not ", tensor.dim());
  TORCH_CHECK(tensor.scalar_type() == type, name, " must be ", type, ", not ", tensor.scalar_type());
}

std::shared_ptr<Weight> pack(const Tensor& dense, bool gated) {
  const Dtype dtype = dtype_of(dense.scalar_type());
  check(dense, "weight", dense.dim() == 3 ? 3 : 2, dense.scalar_type());
  const long groups = dense.dim() == 3 ? dense.size(0) : 1, rows = dense.size(-2), k = dense.size(-1);
  TORCH_CHECK(!gated || rows % 2 == 0, "a gated weight needs an even number of rows, not ", rows);
  auto weight = std::make_shared<Weight>(dtype, groups, rows, k, gated);
  const py::gil_scoped_release release;
  for (long group = 0; group < groups; ++group)
    weight->pack(group, static_cast<const char*>(dense.data_ptr()) + group * rows * k * dense.element_size());
  return weight;
}

Tensor product(const Weight& weight, const Tensor& x, const std::vector<RowGroup>& groups,
               const std::optional<Tensor>& residual, bool as_float) {
  check(x, "x", 2, scalar_type(weight.dtype));
  TORCH_CHECK(x.size(1) == weight.k, "x has ", x.size(1), " columns, the weight ", weight.k);
  TORCH_CHECK(!(as_float && (residual || weight.gated)), "float32 output takes neither gate nor residual");
  Tensor out = at::empty({x.size(0), weight.out_columns}, x.options().dtype(as_float ? at::kFloat : x.scalar_type()));
  if (residual) {
    check(*residual, "residual", 2, x.scalar_type());
    TORCH_CHECK(!weight.gated && residual->sizes() == out.sizes(), "residual must have the output's shape, no gate");
  }
  const Epilogue epilogue = as_float       ? Epilogue::kFloat
                            : weight.gated ? Epilogue::kSwiGLU
                            : residual     ? Epilogue::kResidual
                                           : Epilogue::kStore;
  const void* added = residual ? residual->data_ptr() : nullptr;
  const py::gil_scoped_release release;
  openmodel::linear(weight, x.data_ptr(), groups, epilogue, added, out.data_ptr());
  return out;
}

Tensor linear(const Weight& weight, const Tensor& x, const std::optional<Tensor>& residual, bool as_float) {
  TORCH_CHECK(weight.groups == 1, "the weight has ", weight.groups, " groups: use grouped_linear");
  return product(weight, x, {{0, 0, x.size(0)}}, residual, as_float);
}

// offsets: group g has rows offsets[g] to offsets[g + 1] of x.
Tensor grouped_linear(const Weight& weight, const Tensor& x, const std::vector<int64_t>& offsets) {
  TORCH_CHECK(static_cast<long>(offsets.size()) == weight.groups + 1 && offsets.front() == 0 &&
                  offsets.back() == x.size(0) && std::is_sorted(offsets.begin(), offsets.end()),
              "offsets must rise from 0 to the rows of x, one more than there are groups");
  std::vector<RowGroup> groups;
  for (long g = 0; g < weight.groups; ++g)
    if (offsets[g] < offsets[g + 1]) groups.push_back({g, offsets[g], offsets[g + 1]});
  return product(weight, x, groups, std::nullopt, false);
}

Tensor weight_rows(const Weight& weight, const Tensor& rows) {
  check(rows, "rows", 1, at::kLong);
  Tensor out = at::empty({rows.size(0), weight.k}, at::TensorOptions().dtype(scalar_type(weight.dtype)));
  const int64_t* index = rows.data_ptr<int64_t>();
  const int64_t count = rows.size(0);
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK(index[i] >= 0 && index[i] < weight.rows, "row ", index[i], " of ", weight.rows);
  const py::gil_scoped_release release;
  openmodel::weight_rows(weight, index, count, out.data_ptr());
  return out;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Dtype dtype = dtype_of(x.scalar_type());
  check(x, "x", 2, x.scalar_type());
  check(weight, "weight", 1, x.scalar_type());
  TORCH_CHECK(weight.size(0) == x.size(1), "weight has ", weight.size(0), " elements, x ", x.size(1), " columns");
  Tensor out = at::empty_like(x);
  const py::gil_scoped_release release;
  openmodel::rms_norm(dtype, x.data_ptr(), weight.data_ptr(), x.size(0), x.size(1), static_cast<float>(eps), out.data_ptr());
  return out;
}

std::vector<int64_t> argmax_rows(const Tensor& x) {
  check(x, "x", 2, at::kFloat);
  std::vector<int64_t> out(x.size(0));
  const py::gil_scoped_release release;
  openmodel::argmax_rows(x.data_ptr<float>(), x.size(0), x.size(1), out.data());
  return out;
}

// Memory in large pages as a tensor, with whatever was in it, of the dtype of `like`.
Tensor empty(const std::vector<int64_t>& shape, const Tensor& like) {
  int64_t bytes = like.element_size();
  for (const int64_t size : shape) bytes *= size;
  auto memory = large_page_memory(bytes);
  return at::from_blob(memory.get(), shape, [memory](void*) {}, like.options());
}

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

Tensor paged_attention(const AttentionStep& step, const Tensor& qkv, int64_t heads, const Tensor& keys,
                       const Tensor& values, double scale) {
  const HeadShape shape = head_shape(qkv, keys, values, heads, 0);
  check_blocks(step, qkv, keys);
  Tensor out = at::empty({qkv.size(0), heads * shape.head_dim}, qkv.options());
  const LayerCache cache = layer_cache(keys, values);
  const py::gil_scoped_release release;
  openmodel::paged_attention(shape, step, qkv.data_ptr(), cache, static_cast<float>(scale), out.data_ptr());
  return out;
}

std::pair<Tensor, Tensor> route_softmax(const Tensor& logits, int64_t top_k, bool renormalize) {
  check(logits, "logits", 2, at::kFloat);
  TORCH_CHECK(0 < top_k && top_k <= std::min<int64_t>(64, logits.size(1)), "top_k ", top_k, " of ", logits.size(1));
  Tensor experts = at::empty({logits.size(0), top_k}, logits.options().dtype(at::kInt));
  Tensor weights = at::empty({logits.size(0), top_k}, logits.options());
  const py::gil_scoped_release release;
  openmodel::route_softmax(logits.data_ptr<float>(), logits.size(0), logits.size(1), static_cast<int>(top_k), renormalize,
                           experts.data_ptr<int32_t>(), weights.data_ptr<float>());
  return {experts, weights};
}

// Slots (token * top_k + k) sorted by expert, the place of each slot in that order, and where each expert's begin.
std::tuple<Tensor, Tensor, std::vector<int64_t>> sort_by_expert(const Tensor& experts, int64_t count) {
  check(experts, "experts", 2, at::kInt);
  Tensor slots = at::empty({experts.numel()}, experts.options()), places = at::empty_like(experts);
  const int32_t* chosen = experts.data_ptr<int32_t>();
  std::vector<int64_t> offsets(count + 1, 0);
  for (int64_t i = 0; i < experts.numel(); ++i) {
    TORCH_CHECK(chosen[i] >= 0 && chosen[i] < count, "expert ", chosen[i], " of ", count);
    ++offsets[chosen[i] + 1];
  }
  for (int64_t e = 0; e < count; ++e) offsets[e + 1] += offsets[e];
  std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
  for (int64_t i = 0; i < experts.numel(); ++i) {
    const int64_t place = next[chosen[i]]++;
    slots.data_ptr<int32_t>()[place] = static_cast<int32_t>(i);
    places.data_ptr<int32_t>()[i] = static_cast<int32_t>(place);
  }
  return {slots, places, offsets};
}

Tensor gather_rows(const Tensor& x, const Tensor& slots, int64_t top_k) {
  check(x, "x", 2, x.scalar_type());
  check(slots, "slots", 1, at::kInt);
  TORCH_CHECK(slots.size(0) == x.size(0) * top_k, "slots must be tokens times top_k");
  Tensor out = at::empty({slots.size(0), x.size(1)}, x.options());
  const py::gil_scoped_release release;
  openmodel::gather_rows(x.data_ptr(), x.size(1) * x.element_size(), slots.data_ptr<int32_t>(), slots.size(0),
                         static_cast<int>(top_k), out.data_ptr());
  return out;
}

Tensor combine(const Tensor& rows, const Tensor& places, const Tensor& weights, const std::optional<Tensor>& residual) {
  check(rows, "rows", 2, rows.scalar_type());
  check(places, "places", 2, at::kInt);
  check(weights, "weights", 2, at::kFloat);
  TORCH_CHECK(places.sizes() == weights.sizes() && places.size(1) <= 64, "places and weights must have one shape");
  Tensor out = at::empty({places.size(0), rows.size(1)}, rows.options());
  if (residual) {
    check(*residual, "residual", 2, rows.scalar_type());
    TORCH_CHECK(residual->sizes() == out.sizes(), "residual must have the output's shape");
  }
  const Dtype dtype = dtype_of(rows.scalar_type());
  const void* added = residual ? residual->data_ptr() : nullptr;
  const py::gil_scoped_release release;
  openmodel::combine(dtype, rows.data_ptr(), places.data_ptr<int32_t>(), weights.data_ptr<float>(), places.size(0),
                     static_cast<int>(places.size(1)), rows.size(1), added, out.data_ptr());
  return out;
}

std::vector<std::string> capabilities() {
  std::vector<std::string> names;
  for (const char* const* name = isa_names(); *name; ++name) names.emplace_back(*name);
  return names;
}

}  // namespace bindings
}  // namespace openmodel

PYBIND11_MODULE(_cpu, m) {
  using namespace openmodel;
  m.attr("BLOCK_TOKENS") = kBlock;
  m.attr("MAX_HEAD_DIM") = kMaxHeadDim;
  m.def("capabilities", &bindings::capabilities);
  m.def("capability", [] { return std::string(isa().name); });
  m.def("use_capability", [](const std::string& name) {
    TORCH_CHECK(use_isa(name.c_str()), "capability ", name, " is not one of this processor");
  });
  m.def("set_num_threads", &set_num_threads);
  py::class_<Weight, std::shared_ptr<Weight>>(m, "Weight")
      .def_readonly("groups", &Weight::groups)
      .def_readonly("rows", &Weight::rows)
      .def_readonly("k", &Weight::k)
      .def_readonly("gated", &Weight::gated)
      .def_property_readonly("nbytes", &Weight::bytes);
  py::class_<AttentionStep, std::shared_ptr<AttentionStep>>(m, "AttentionStep");
  m.def("pack", &bindings::pack);
  m.def("linear", &bindings::linear);
  m.def("grouped_linear", &bindings::grouped_linear);
  m.def("weight_rows", &bindings::weight_rows);
  m.def("rms_norm", &bindings::rms_norm);
  m.def("attention_step", &bindings::attention_step);
  m.def("write_cache", &bindings::write_cache);
  m.def("paged_attention", &bindings::paged_attention);
  m.def("route_softmax", &bindings::route_softmax);
  m.def("sort_by_expert", &bindings::sort_by_expert);
  m.def("gather_rows", &bindings::gather_rows);
  m.def("argmax_rows", &bindings::argmax_rows);
  m.def("empty", &bindings::empty);
  m.def("combine", &bindings::combine);
}
