// The mixture of experts as Python sees it.
#include "bindings.h"

namespace openmodel {
namespace bindings {
namespace {

std::pair<Tensor, Tensor> route(const Tensor& logits, int64_t top_k, bool sigmoid, bool renormalize, double scale,
                                int64_t groups, int64_t top_groups, int64_t group_best,
                                const std::optional<Tensor>& bias) {
  check(logits, "logits", 2, at::kFloat);
  const int64_t count = logits.size(1);
  TORCH_CHECK(groups > 0 && count % groups == 0, count, " experts do not make ", groups, " groups of one size");
  const int64_t size = count / groups;
  TORCH_CHECK(0 < top_groups && top_groups <= groups && 0 < group_best && group_best <= size, "the best ", top_groups,
              " of ", groups, " groups, by ", group_best, " of ", size, " experts, can not be chosen");
  TORCH_CHECK(0 < top_k && top_k <= std::min<int64_t>(kMaxTopK, top_groups * size), "top_k ", top_k, " of ",
              top_groups * size);
  if (bias) {
    check(*bias, "bias", 1, at::kFloat);
    TORCH_CHECK(bias->size(0) == count, "bias has ", bias->size(0), " elements, there are ", count, " experts");
  }
  const RoutingRule rule{static_cast<int>(top_k),  sigmoid, renormalize, static_cast<float>(scale), static_cast<int>(groups),
                         static_cast<int>(top_groups), static_cast<int>(group_best),
                         bias ? bias->data_ptr<float>() : nullptr};
  Tensor experts = at::empty({logits.size(0), top_k}, logits.options().dtype(at::kInt));
  Tensor weights = at::empty({logits.size(0), top_k}, logits.options());
  const py::gil_scoped_release release;
  openmodel::route(logits.data_ptr<float>(), logits.size(0), count, rule, experts.data_ptr<int32_t>(),
                   weights.data_ptr<float>());
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
  TORCH_CHECK(places.sizes() == weights.sizes() && places.size(1) <= kMaxTopK, "places and weights must have one shape");
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

}  // namespace

void define_experts(py::module_& module) {
  module.def("route", &route);
  module.def("sort_by_expert", &sort_by_expert);
  module.def("gather_rows", &gather_rows);
  module.def("combine", &combine);
}

}  // namespace bindings
}  // namespace openmodel
