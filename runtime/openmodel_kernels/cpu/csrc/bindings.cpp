// The operations as Python sees them: checks shapes, dtypes and devices, allocates outputs, lets go of Python's lock.
#include "arena.h"
#include "bindings.h"
#include "threads.h"

namespace openmodel {
namespace bindings {
namespace {

Gate gate_of(const std::optional<std::string>& name) {
  if (!name) return Gate::kNone;
  if (*name == "silu") return Gate::kSiLU;
  if (*name == "gelu_tanh") return Gate::kGeLU;
  if (*name == "swigluoai") return Gate::kClampedSiLU;
  TORCH_CHECK(false, "gate ", *name, " is none of silu, gelu_tanh, swigluoai");
}

Epilogue gated_epilogue(Gate gate) {
  return gate == Gate::kGeLU          ? Epilogue::kGeGLU
         : gate == Gate::kClampedSiLU ? Epilogue::kClampedSwiGLU
                                      : Epilogue::kSwiGLU;
}

// bias: a number a row of each group, float32.
std::shared_ptr<Weight> pack(const Tensor& dense, const std::optional<std::string>& gate_name,
                             const std::optional<Tensor>& bias, bool int8) {
  const Dtype dtype = dtype_of(dense.scalar_type());
  check(dense, "weight", dense.dim() == 3 ? 3 : 2, dense.scalar_type());
  const long groups = dense.dim() == 3 ? dense.size(0) : 1, rows = dense.size(-2), k = dense.size(-1);
  const Gate gate = gate_of(gate_name);
  TORCH_CHECK(gate == Gate::kNone || rows % 2 == 0, "a gated weight needs an even number of rows, not ", rows);
  if (bias) {
    check(*bias, "bias", dense.dim() - 1, at::kFloat);
    TORCH_CHECK(bias->numel() == groups * rows, "bias has ", bias->numel(), " elements, the weight ", groups * rows, " rows");
  }
  auto weight = std::make_shared<Weight>(dtype, groups, rows, k, gate, bias ? bias->data_ptr<float>() : nullptr,
                                         int8 ? Storage::kInt8 : Storage::kAsIs);
  const py::gil_scoped_release release;
  for (long group = 0; group < groups; ++group)
    weight->pack(group, static_cast<const char*>(dense.data_ptr()) + group * rows * k * dense.element_size());
  return weight;
}

// Groups of packed weights of one shape, side by side.
std::shared_ptr<Weight> pick(const std::vector<std::pair<std::shared_ptr<Weight>, int64_t>>& picked) {
  TORCH_CHECK(!picked.empty(), "nothing is picked");
  std::vector<std::pair<const Weight*, long>> groups;
  const Weight& first = *picked[0].first;
  for (const auto& [weight, group] : picked) {
    TORCH_CHECK(group >= 0 && group < weight->groups, "group ", group, " of ", weight->groups);
    TORCH_CHECK(weight->dtype == first.dtype && weight->rows == first.rows && weight->k == first.k &&
                    weight->gate == first.gate && weight->storage == first.storage &&
                    !weight->bias(group, 0) == !first.bias(picked[0].second, 0),
                "weights of two kinds do not stand side by side");
    groups.emplace_back(weight.get(), group);
  }
  return std::make_shared<Weight>(groups);
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
                            : weight.gated ? gated_epilogue(weight.gate)
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

std::vector<int64_t> argmax_rows(const Tensor& x, const std::optional<Tensor>& allowed) {
  check(x, "x", 2, at::kFloat);
  if (allowed) {
    check(*allowed, "allowed", 2, at::kByte);
    TORCH_CHECK(allowed->size(0) == x.size(0) && 8 * allowed->size(1) >= x.size(1), "allowed must have a row of x's and a bit a column");
  }
  std::vector<int64_t> out(x.size(0));
  const py::gil_scoped_release release;
  openmodel::argmax_rows(x.data_ptr<float>(), x.size(0), x.size(1), allowed ? allowed->data_ptr<uint8_t>() : nullptr,
                         allowed ? allowed->size(1) : 0, out.data());
  return out;
}

// Memory in large pages as a tensor, with whatever was in it, of the dtype of `like`.
Tensor empty(const std::vector<int64_t>& shape, const Tensor& like) {
  int64_t bytes = like.element_size();
  for (const int64_t size : shape) bytes *= size;
  auto memory = large_page_memory(bytes);
  return at::from_blob(memory.get(), shape, [memory](void*) {}, like.options());
}

std::vector<std::string> capabilities() {
  std::vector<std::string> names;
  for (const char* const* name = isa_names(); *name; ++name) names.emplace_back(*name);
  return names;
}

}  // namespace
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
  m.def("pack", &bindings::pack);
  m.def("linear", &bindings::linear);
  m.def("pick", &bindings::pick);
  m.def("grouped_linear", &bindings::grouped_linear);
  m.def("weight_rows", &bindings::weight_rows);
  m.def("rms_norm", &bindings::rms_norm);
  m.def("argmax_rows", &bindings::argmax_rows);
  m.def("empty", &bindings::empty);
  bindings::define_attention(m);
  bindings::define_experts(m);
  bindings::define_mailbox(m);
}
