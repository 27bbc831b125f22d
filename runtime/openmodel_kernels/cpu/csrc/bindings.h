// What the bindings share: dtypes, and the checks of a tensor.
#pragma once

#include <torch/extension.h>

#include "ops.h"

namespace openmodel {
namespace bindings {

using at::Tensor;

inline Dtype dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kFloat16;
    case at::kFloat: return Dtype::kFloat32;
    default: TORCH_CHECK(false, "dtype ", type, " is none of bfloat16, float16, float32");
  }
}

inline at::ScalarType scalar_type(Dtype dtype) {
  return dtype == Dtype::kBFloat16 ? at::kBFloat16 : dtype == Dtype::kFloat16 ? at::kHalf : at::kFloat;
}

inline void check(const Tensor& tensor, const char* name, int64_t dims, at::ScalarType type) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(), name, " must be contiguous and on the CPU");
  TORCH_CHECK(tensor.dim() == dims, name, " must have ", dims, " dimensions, not ", tensor.dim());
  TORCH_CHECK(tensor.scalar_type() == type, name, " must be ", type, ", not ", tensor.scalar_type());
}

// Tells Python of the operations of one kind.
void define_attention(py::module_& module);
void define_experts(py::module_& module);
void define_mailbox(py::module_& module);

}  // namespace bindings
}  // namespace openmodel
