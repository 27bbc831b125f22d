// The mailbox of ranks on one machine as Python sees it.
#include "bindings.h"
#include "mailbox.h"

namespace openmodel {
namespace bindings {
namespace {

const std::atomic<int32_t>& flag(const Tensor& stop) {
  check(stop, "stop", 1, at::kInt);
  return *reinterpret_cast<const std::atomic<int32_t>*>(stop.data_ptr<int32_t>());
}

char* boxes(const Tensor& memory, int64_t ranks, int64_t rank) {
  check(memory, "memory", 1, at::kByte);
  TORCH_CHECK(0 <= rank && rank < ranks, "rank ", rank, " of ", ranks);
  TORCH_CHECK(memory.numel() >= mailbox_bytes(ranks), "memory has ", memory.numel(), " bytes, ", ranks, " ranks need ",
              mailbox_bytes(ranks));
  TORCH_CHECK(reinterpret_cast<uintptr_t>(memory.data_ptr()) % 64 == 0, "memory must begin at a multiple of 64");
  return static_cast<char*>(memory.data_ptr());
}

std::vector<Letter> letters(const std::vector<Tensor>& tensors, int64_t ranks) {
  TORCH_CHECK(static_cast<int64_t>(tensors.size()) == ranks, tensors.size(), " tensors for ", ranks, " ranks");
  std::vector<Letter> found;
  for (const Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.is_contiguous() && tensor.device().is_cpu(), "what is sent must be contiguous, on the CPU");
    found.push_back({static_cast<char*>(tensor.data_ptr()), static_cast<long>(tensor.nbytes())});
  }
  return found;
}

bool swap(const Tensor& memory, int64_t rank, const std::vector<Tensor>& out, const std::vector<Tensor>& in,
          const Tensor& stop) {
  const int64_t ranks = static_cast<int64_t>(out.size());
  char* shared = boxes(memory, ranks, rank);
  const std::vector<Letter> sent = letters(out, ranks), received = letters(in, ranks);
  const std::atomic<int32_t>& stopped = flag(stop);
  const py::gil_scoped_release release;
  return swap_letters(shared, ranks, rank, sent, received, stopped);
}

bool meet_all(const Tensor& memory, int64_t ranks, int64_t rank, const Tensor& stop) {
  char* shared = boxes(memory, ranks, rank);
  const std::atomic<int32_t>& stopped = flag(stop);
  const py::gil_scoped_release release;
  return meet(shared, ranks, rank, stopped);
}

}  // namespace

void define_mailbox(py::module_& module) {
  module.def("mailbox_bytes", &mailbox_bytes);
  module.def("meet", &meet_all);
  module.def("swap", &swap);
}

}  // namespace bindings
}  // namespace openmodel
