// x86-64 with AMX: brain-float products by TDPBF16PS, tiles of 16 rows by 16 columns; the rest as on AVX-512.
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c,avx2,amx-tile,amx-bf16")
#include <immintrin.h>

#include "isa.h"
#include "layout.h"

#define ROWS_AT_ONCE 6

namespace openmodel {
namespace amx {
namespace {
#include "generic.inc"

inline F16 half_to_float(const Half* p) { return (F16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }

#include "avx512_bf16.inc"

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

// Tiles: 0-3 sums (0, 1 the upper rows, 2, 3 the lower; or 0-3 four panels' halves of the upper), 4 and 5 rows of `a`, 6 and
// 7 columns of the weight.
void configure(int upper, int lower) {
  TileConfig config;
  const int rows[8] = {upper, upper, lower ? lower : upper, lower ? lower : upper, upper, lower ? lower : upper, 16, 16};
  for (int tile = 0; tile < 8; ++tile) config.rows[tile] = (uint8_t)rows[tile], config.bytes_per_row[tile] = 64;
  // GCC's intrinsic names the first bytes alone as read, so the others would be left unwritten.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

void configure_rows(int rows) {
  if (rows >= 32) configure(16, 16);
  else if (rows > 16) configure(16, rows - 16);
  else configure(rows, 0);
}

constexpr int kTileRows = 32;                     // rows of two tiles
constexpr long kPiece = 576;                      // of K
constexpr long kStepBytes = kKStep * kPanel * 2;  // of a panel, a step of K
constexpr long kWeightRow = kPanel * 4;           // bytes from a pair of K to the next

// The weight comes from memory, in order; asking for it ahead keeps the loads of `a` from standing in its way.
constexpr long kAhead = 1;  // steps of K; more was slower, less left the core waiting
inline void ask_ahead(const char* w) {
  for (int line = 0; line < kStepBytes; line += 64) _mm_prefetch(w + kAhead * kStepBytes + line, _MM_HINT_T0);
}

// A piece of K; `kFirst`: its beginning, else it adds up to what `sums` holds (floats leave the tiles and come back as
// they were). `kFresh`: the weight is not in the cache yet.
template <bool kFirst>
void upper_rows(const BFloat* a, long lda, const char* w, long k, float* sums, long ld) {
  if constexpr (kFirst) {
    _tile_zero(0);
    _tile_zero(1);
  } else {
    _tile_loadd(0, sums, ld * 4);
    _tile_loadd(1, sums + 16, ld * 4);
  }
  for (long i = 0; i < k; i += kKStep, w += kStepBytes) {
    _tile_loadd(4, a + i, lda * 2);
    _tile_loadd(6, w, kWeightRow);
    _tile_loadd(7, w + 64, kWeightRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, sums, ld * 4);
  _tile_stored(1, sums + 16, ld * 4);
}

template <bool kFirst, bool kFresh>
void both_rows(const BFloat* a, long lda, const char* w, long k, float* sums, long ld) {
  float* below = sums + 16 * ld;
  if constexpr (kFirst) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, ld * 4);
    _tile_loadd(1, sums + 16, ld * 4);
    _tile_loadd(2, below, ld * 4);
    _tile_loadd(3, below + 16, ld * 4);
  }
  const BFloat* lower = a + 16 * lda;
  for (long i = 0; i < k; i += kKStep, w += kStepBytes) {
    if constexpr (kFresh) ask_ahead(w);
    _tile_loadd(4, a + i, lda * 2);
    _tile_loadd(5, lower + i, lda * 2);
    _tile_loadd(6, w, kWeightRow);
    _tile_loadd(7, w + 64, kWeightRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, ld * 4);
  _tile_stored(1, sums + 16, ld * 4);
  _tile_stored(2, below, ld * 4);
  _tile_stored(3, below + 16, ld * 4);
}

// Two panels at once: four sums are under way, so that a short `a` does not wait for one instruction after another.
void two_panels(const BFloat* a, long lda, const char* w, const char* v, long k, float* sums, long ld) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (long i = 0; i < k; i += kKStep, w += kStepBytes, v += kStepBytes) {
    ask_ahead(w);
    ask_ahead(v);
    _tile_loadd(4, a + i, lda * 2);
    _tile_loadd(6, w, kWeightRow);
    _tile_loadd(7, w + 64, kWeightRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, v, kWeightRow);
    _tile_loadd(7, v + 64, kWeightRow);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 7);
  }
  _tile_stored(0, sums, ld * 4);
  _tile_stored(1, sums + 16, ld * 4);
  _tile_stored(2, sums + 32, ld * 4);
  _tile_stored(3, sums + 48, ld * 4);
}

template <bool kFirst>
void piece_of_rows(const BFloat* a, long lda, int rows, const char* w, long k, float* sums) {
  configure_rows(rows);
  for (int row = 0; row < rows; row += kTileRows) {
    const int left = rows - row;
    if (row > 0 && left < kTileRows) configure_rows(left);
    float* out = sums + (long)row * kPanel;
    if (left <= 16) upper_rows<kFirst>(a + row * lda, lda, w, k, out, kPanel);
    else if (row == 0) both_rows<kFirst, true>(a, lda, w, k, out, kPanel);
    else both_rows<kFirst, false>(a + row * lda, lda, w, k, out, kPanel);
  }
}

void tile_panel(const void* a, long lda, int rows, const void* weight, long panel_bytes, int panels, long k,
                float* sums) {
  const BFloat* x = (const BFloat*)a;
  const char* w = (const char*)weight;
  if (panels == 2) {
    configure_rows(rows);
    two_panels(x, lda, w, w + panel_bytes, k, sums, 2 * kPanel);
    return;
  }
  // Many rows take a piece of K at a time, so short that the panel's piece and that of 32 rows lie in the first cache.
  const long piece = rows <= kTileRows ? k : kPiece;
  piece_of_rows<true>(x, lda, rows, w, k < piece ? k : piece, sums);
  for (long at = piece; at < k; at += piece)
    piece_of_rows<false>(x + at, lda, rows, w + at / kKStep * kStepBytes, k - at < piece ? k - at : piece, sums);
}

struct TileProducts {
  static void begin(int rows) { configure_rows(rows); }
  static void scores(const BFloat* q, long ldq, int rows, const BFloat* keys, int head_dim, float* sums) {
    if (rows > 16) both_rows<true, false>(q, ldq, (const char*)keys, head_dim, sums, kBlock);
    else upper_rows<true>(q, ldq, (const char*)keys, head_dim, sums, kBlock);
  }
  static void weigh(const BFloat* p, int rows, const BFloat* values, int head_dim, float* out) {
    const long row_bytes = (long)head_dim * 4;
    _tile_loadd(4, p, kBlock * 2);
    if (rows > 16) _tile_loadd(5, p + 16 * kBlock, kBlock * 2);
    for (int c = 0; c < head_dim; c += 16) {
      _tile_loadd(6, values + 2 * c, row_bytes);
      _tile_loadd(0, out + c, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_stored(0, out + c, row_bytes);
      if (rows <= 16) continue;
      float* lower = out + 16L * head_dim + c;
      _tile_loadd(2, lower, row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_stored(2, lower, row_bytes);
    }
  }
};

void tile_attention(const AttentionArgs& args) {
  // A head that is no whole number of tile steps goes the other way, always: it is the model's head, not the batch's.
  if (args.head_dim % kKStep) attention<BFloat, DotProducts>(args);
  else attention<BFloat, TileProducts>(args);
}
}  // namespace

Isa with_tiles() {
  Isa isa = portable("amx_bf16");
  isa.panel[(int)Dtype::kBFloat16] = tile_panel;
  isa.attention[(int)Dtype::kBFloat16] = tile_attention;
  return isa;
}

}  // namespace amx
}  // namespace openmodel
#endif
