// x86-64 with AVX2 and FMA: the portable code, compiled for it.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

#include "isa.h"
#include "layout.h"

#define ROWS_AT_ONCE 2

namespace openmodel {
namespace avx2 {
namespace {
#include "generic.inc"

inline F16 half_to_float(const Half* p) {
  const __m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
  const __m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)));
  F16 out;
  __builtin_memcpy(&out, &low, 32);
  __builtin_memcpy((char*)&out + 32, &high, 32);
  return out;
}
}  // namespace

Isa plain() { return portable("avx2"); }

}  // namespace avx2
}  // namespace openmodel
#endif
