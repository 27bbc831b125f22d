// Any processor that the compiler knows: the portable code, compiled for its baseline.
#include "isa.h"
#include "layout.h"

#define ROWS_AT_ONCE 2

namespace openmodel {
namespace baseline {
namespace {
#include "generic.inc"

inline F16 half_to_float(const Half* p) {
  F16 out;
  for (int i = 0; i < 16; ++i) out[i] = scalar(p[i]);
  return out;
}
}  // namespace

Isa plain() { return portable("baseline"); }

}  // namespace baseline
}  // namespace openmodel
