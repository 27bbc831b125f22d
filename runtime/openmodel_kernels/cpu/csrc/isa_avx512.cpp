// x86-64 with AVX-512: the portable code, compiled for it; brain floats by VDPBF16PS where the processor has it.
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c,avx2")
#include <immintrin.h>

#include "isa.h"
#include "layout.h"

#define ROWS_AT_ONCE 6

namespace openmodel {
namespace avx512 {
namespace {
#include "generic.inc"

inline F16 half_to_float(const Half* p) { return (F16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }

#include "avx512_bf16.inc"
#include "avx512_int8.inc"
}  // namespace

Isa plain() { return portable("avx512"); }

Isa with_bf16(bool vbmi) {
  Isa isa = portable("avx512_bf16");
  isa.product[(int)Dtype::kBFloat16] = product<BFloat, dot_panel>;
  isa.attention[(int)Dtype::kBFloat16] = attention<BFloat, DotProducts>;
  if (!vbmi) return isa;
  isa.product_int8[(int)Dtype::kBFloat16] = product<BFloat, dot_panel_int8>;
  isa.widen[(int)Dtype::kBFloat16] = widen_bfloats;
  return isa;
}

}  // namespace avx512
}  // namespace openmodel
#endif
