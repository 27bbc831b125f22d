// Where an element lies in a packed weight and in a key/value block.
//
// Two-byte brain floats are kept in pairs along the dimension that is summed over, as the dot-product instructions of
// x86 (VDPBF16PS, TDPBF16PS) and Arm want them; other dtypes are kept plain.
//   weight panel:  [K / 2][kPanel][2]  or  [K][kPanel]
//   keys block:    [C / 2][kBlock][2]  or  [C][kBlock]
//   values block:  [kBlock / 2][C][2]  or  [kBlock][C]
#pragma once

#include "isa.h"

namespace openmodel {

constexpr int pair_of(Dtype dtype) { return dtype == Dtype::kBFloat16 ? 2 : 1; }
constexpr long bytes_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

// Element (row, column) of a matrix of `columns` columns whose rows are interleaved in groups of `pair`.
constexpr long packed_index(long row, long column, long columns, int pair) {
  return (row / pair * columns + column) * pair + row % pair;
}

constexpr long round_up(long value, long multiple) { return (value + multiple - 1) / multiple * multiple; }

// Weights are padded with zeros to whole panels and, along K, to whole steps of the widest instruction.
constexpr long kKStep = 32;

}  // namespace openmodel
