#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "arena.h"
#include "layout.h"
#include "ops.h"
#include "threads.h"

namespace openmodel {
namespace {

const Isa* chosen = nullptr;

constexpr long kTasksPerThread = 6;

// Rows whose length is no whole number of steps, followed by zeros.
const char* padded(const Weight& w, const void* x, long rows, std::vector<char>& scratch) {
  if (w.k == w.k_padded) return static_cast<const char*>(x);
  const long from = w.k * bytes_of(w.dtype), to = w.k_padded * bytes_of(w.dtype);
  scratch.assign(rows * to, 0);
  for (long row = 0; row < rows; ++row) std::memcpy(&scratch[row * to], static_cast<const char*>(x) + row * from, from);
  return scratch.data();
}

struct Task { RowGroup rows; long panel, panels; };

// A panel, or two where few rows share them, as numbers that are multiplied with.
const void* widened(const Weight& w, long group, long panel, long panels) {
  thread_local std::vector<char> scratch;
  const long count = panels * w.k_padded * kPanel, bytes = count * bytes_of(w.dtype);
  if (static_cast<long>(scratch.size()) < bytes + 64) scratch.resize(bytes + 64);
  char* out = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64);
  isa().widen[static_cast<int>(w.dtype)](reinterpret_cast<const int8_t*>(w.panel(group, panel)), count, out);
  return out;
}

void run_task(const Weight& w, const Task& task, const Task* next, const char* x, Epilogue epilogue,
              const void* residual, void* out) {
  const long element = bytes_of(w.dtype), out_element = epilogue == Epilogue::kFloat ? 4 : element;
  const long row = task.rows.begin, group = task.rows.group, width = w.gated ? kPanel / 2 : kPanel;
  const int rows = static_cast<int>(task.rows.end - row), dtype = static_cast<int>(w.dtype);
  const auto few = isa().product_int8[dtype];
  const bool int8 = w.storage == Storage::kInt8, as_stored = !int8 || (few && rows <= kFewInt8Rows);
  const long together = as_stored ? task.panels : rows <= kFewRows ? isa().few_rows_panels : 1;
  for (long done = 0, some; done < task.panels; done += some) {
    some = std::min(together, task.panels - done);
    const long panel = task.panel + done, column = panel * width, at = row * w.out_columns + column;
    const ProductArgs args{
        x + row * w.k_padded * element, w.k_padded, rows,
        as_stored ? w.panel(group, panel) : widened(w, group, panel, some),
        as_stored ? w.panel_bytes : w.k_padded * kPanel * element, static_cast<int>(some), w.k_padded,
        next && !int8 ? w.panel(next->rows.group, next->panel) : nullptr, w.scales(group, panel), w.bias(group, panel),
        epilogue, static_cast<char*>(out) + at * out_element, w.out_columns, w.out_columns - column,
        residual ? static_cast<const char*>(residual) + at * element : nullptr};
    (int8 && as_stored ? few : isa().product[dtype])(args);
  }
}

}  // namespace

const Isa& isa() {
  if (!chosen) chosen = best_isa();
  return *chosen;
}

bool use_isa(const char* name) {
  const Isa* found = find_isa(name);
  if (found) chosen = found;
  return found;
}

// Panel and column of a row.
static std::pair<long, long> place(const Weight& w, long row) {
  if (!w.gated) return {row / kPanel, row % kPanel};
  const long half = w.rows / 2, index = row % half;
  return {index / 16, index % 16 + (row < half ? 0 : 16)};
}

Weight::Weight(Dtype dtype, long groups, long rows, long k, Gate gate, const float* bias, Storage storage)
    : dtype(dtype), groups(groups), rows(rows), k(k), k_padded(round_up(k, kKStep)), gate(gate),
      gated(gate != Gate::kNone), storage(storage),
      panels(gated ? (rows / 2 + 15) / 16 : (rows + kPanel - 1) / kPanel),
      panel_bytes(k_padded * kPanel * (storage == Storage::kInt8 ? 1 : bytes_of(dtype))), out_columns(gated ? rows / 2 : rows) {
  for (long group = 0; group < groups; ++group) {
    Part part{large_page_memory(std::max<long>(panels * panel_bytes, 1)), nullptr, nullptr};
    if (storage == Storage::kInt8) part.scales = std::make_shared<std::vector<float>>(panels * kPanel, 0.0f);
    if (bias) part.bias = std::make_shared<std::vector<float>>(panels * kPanel, 0.0f);
    for (long row = 0; bias && row < rows; ++row) {
      const auto [panel, column] = place(*this, row);
      (*part.bias)[panel * kPanel + column] = bias[group * rows + row];
    }
    parts_.push_back(std::move(part));
  }
}

Weight::Weight(const std::vector<std::pair<const Weight*, long>>& picked)
    : dtype(picked[0].first->dtype), groups(static_cast<long>(picked.size())), rows(picked[0].first->rows),
      k(picked[0].first->k), k_padded(picked[0].first->k_padded), gate(picked[0].first->gate),
      gated(picked[0].first->gated), storage(picked[0].first->storage), panels(picked[0].first->panels),
      panel_bytes(picked[0].first->panel_bytes), out_columns(picked[0].first->out_columns) {
  for (const auto& [weight, group] : picked) parts_.push_back(weight->parts_[group]);
}

namespace {

// Interleaves the rows of a panel, an element of T (a pair of brain floats, or one other number) at a time: reads as many
// streams as there are columns, writes one. Rows that are not there are zeros.
template <class T>
void interleave(const char* const* rows, long count, long padded, char* to) {
  T* out = reinterpret_cast<T*>(to);
  for (long i = 0; i < count; ++i)
    for (long column = 0; column < kPanel; ++column)
      out[i * kPanel + column] = rows[column] ? reinterpret_cast<const T*>(rows[column])[i] : T{};
  std::memset(out + count * kPanel, 0, (padded - count) * kPanel * sizeof(T));
}

float number(Dtype dtype, const char* row, long i) {
  switch (dtype) {
    case Dtype::kFloat32: return reinterpret_cast<const float*>(row)[i];
    case Dtype::kFloat16: return static_cast<float>(reinterpret_cast<const _Float16*>(row)[i]);
    default: {
      const uint32_t bits = static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(row)[i]) << 16;
      float out;
      std::memcpy(&out, &bits, 4);
      return out;
    }
  }
}

// The other way, for one column.
template <class T>
void pick(const char* panel, long column, long count, void* out) {
  for (long i = 0; i < count; ++i) static_cast<T*>(out)[i] = reinterpret_cast<const T*>(panel)[i * kPanel + column];
}

}  // namespace

void Weight::pack(long group, const void* dense) {
  const long element = bytes_of(dtype), half = rows / 2;
  const int pair = pair_of(dtype);
  team().run(panels, [&](long index, int) {
    const char* from[kPanel];
    std::vector<char> odd;
    for (long column = 0; column < kPanel; ++column) {
      const long gate = index * 16 + column % 16;
      const long row = gated ? gate + (column < 16 ? 0 : half) : index * kPanel + column;
      const bool there = gated ? gate < half : row < rows;
      from[column] = there ? static_cast<const char*>(dense) + row * k * element : nullptr;
    }
    if (storage == Storage::kInt8) return pack_int8(group, index, from);
    if (k % pair) {
      // The last pair of a row would take its second half from the next row.
      const long bytes = (k + 1) * element;
      odd.assign(kPanel * bytes, 0);
      for (long column = 0; column < kPanel; ++column) {
        if (!from[column]) continue;
        std::memcpy(&odd[column * bytes], from[column], k * element);
        from[column] = &odd[column * bytes];
      }
    }
    char* to = const_cast<char*>(panel(group, index));
    const long count = (k + pair - 1) / pair, padded = k_padded / pair;
    if (element * pair == 4) interleave<uint32_t>(from, count, padded, to);
    else interleave<uint16_t>(from, count, padded, to);
  });
}

// A row's largest number becomes 127, the others what is nearest in the same measure.
void Weight::pack_int8(long group, long index, const char* const* rows) {
  const int pair = pair_of(dtype);
  const long stride = round_up(k, pair);
  std::vector<int8_t> whole(kPanel * stride, 0);
  const char* from[kPanel];
  for (long column = 0; column < kPanel; ++column) {
    from[column] = reinterpret_cast<const char*>(&whole[column * stride]);
    if (!rows[column]) continue;
    float largest = 0.0f;
    for (long i = 0; i < k; ++i) largest = std::max(largest, std::fabs(number(dtype, rows[column], i)));
    const float factor = largest / 127.0f;
    (*parts_[group].scales)[index * kPanel + column] = factor;
    if (!(factor > 0.0f)) continue;
    for (long i = 0; i < k; ++i)
      whole[column * stride + i] = static_cast<int8_t>(std::lrintf(number(dtype, rows[column], i) / factor));
  }
  char* to = const_cast<char*>(panel(group, index));
  if (pair == 2) interleave<uint16_t>(from, stride / 2, k_padded / 2, to);
  else interleave<uint8_t>(from, stride, k_padded, to);
}

void Weight::unpack_row(long row, void* out) const {
  const auto [index, column] = place(*this, row);
  const long element = bytes_of(dtype);
  const int pair = pair_of(dtype);
  if (storage == Storage::kInt8) {
    const int8_t* numbers = reinterpret_cast<const int8_t*>(panel(0, index));
    std::vector<int8_t> whole(k);
    for (long i = 0; i < k; ++i) whole[i] = numbers[packed_index(i, column, kPanel, pair)];
    isa().scale[static_cast<int>(dtype)](whole.data(), scales(0, index)[column], k, out);
    return;
  }
  if (element * pair == 4) pick<uint32_t>(panel(0, index), column, k / pair, out);
  else pick<uint16_t>(panel(0, index), column, k / pair, out);
  // The first half of a pair whose second is no element.
  if (k % pair)
    std::memcpy(static_cast<char*>(out) + (k - 1) * element,
                panel(0, index) + packed_index(k - 1, column, kPanel, pair) * element, element);
}

void weight_rows(const Weight& weight, const int64_t* rows, long count, void* out) {
  constexpr long kTaskRows = 16;
  const long row_bytes = weight.k * bytes_of(weight.dtype);
  for_rows(count, kTaskRows, [&](long i) { weight.unpack_row(rows[i], static_cast<char*>(out) + i * row_bytes); });
}

void linear(const Weight& w, const void* x, const std::vector<RowGroup>& groups, Epilogue epilogue, const void* residual,
            void* out) {
  std::vector<char> scratch;
  const char* rows = padded(w, x, groups.empty() ? 0 : groups.back().end, scratch);
  long used = 0;
  for (const RowGroup& group : groups) used += group.end > group.begin;
  const long wanted = std::max<long>(1, used * w.panels / (kTasksPerThread * team().size()));
  std::vector<Task> tasks;
  for (const RowGroup& group : groups) {
    const long chunk = group.end - group.begin <= kFewRows ? round_up(wanted, isa().few_rows_panels) : wanted;
    for (long begin = group.begin; begin < group.end; begin += kPanelRows) {
      const RowGroup part{group.group, begin, std::min<long>(group.end, begin + kPanelRows)};
      for (long p = 0; p < w.panels; p += chunk) tasks.push_back({part, p, std::min(chunk, w.panels - p)});
    }
  }
  const long count = static_cast<long>(tasks.size());
  team().run(count, [&](long task, int) {
    run_task(w, tasks[task], task + 1 < count ? &tasks[task + 1] : nullptr, rows, epilogue, residual, out);
  });
}

void argmax_rows(const float* x, long rows, long columns, const uint8_t* allowed, long octets, int64_t* out) {
  team().run(rows, [&](long row, int) {
    out[row] = isa().argmax(x + row * columns, columns, allowed ? allowed + row * octets : nullptr);
  });
}

void rms_norm(Dtype dtype, const void* x, const void* weight, long rows, long columns, float eps, void* out) {
  const long row_bytes = columns * bytes_of(dtype);
  constexpr long kTaskBytes = 16 << 10;
  const long chunk = std::max<long>(1, kTaskBytes / row_bytes);
  for_rows(rows, chunk, [&](long row) {
    isa().rms_norm[static_cast<int>(dtype)](static_cast<const char*>(x) + row * row_bytes, weight, columns, eps,
                                            static_cast<char*>(out) + row * row_bytes);
  });
}

}  // namespace openmodel
