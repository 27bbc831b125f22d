// x86-64 with AMX: brain-float products by TDPBF16PS, tiles of 16 rows by 16 columns; the rest as on AVX-512.
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c,avx2,amx-tile,amx-bf16")
#include <immintrin.h>

#include "isa.h"
#include "layout.h"

#define ROWS_AT_ONCE 6
#define STORES_BFLOAT

namespace openmodel {
namespace amx {
namespace {
#include "generic.inc"

inline F16 half_to_float(const Half* p) { return (F16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline void store16(F16 x, BFloat* p) { _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh((__m512)x)); }

#include "avx512_bf16.inc"
#include "avx512_int8.inc"

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};
};

// Tiles: 0-3 sums, 4 and 5 rows of `x`, 6 and 7 columns of the weight.
void configure(int rows) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.rows[tile] = tile < 6 ? (uint8_t)rows : 16, config.bytes_per_row[tile] = 64;
  // GCC's intrinsic names the first bytes alone as read, so the others would be left unwritten.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

constexpr int kTileRows = 16;
constexpr long kStepBytes = kKStep * kPanel * 2;  // of a panel, a step of K
constexpr long kWeightRow = kPanel * 4;           // bytes from a pair of K to the next

// A few rows wait for memory alone: what comes next is asked for a step of K ahead; more was slower, less left the core
// waiting.
inline void ask_ahead(const char* w) {
  for (int line = 0; line < kStepBytes; line += 64) _mm_prefetch(w + kStepBytes + line, _MM_HINT_T0);
}

inline void zero_four() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Tiles 0 and 1 side by side, 2 and 3 too.
inline void store_four(float* first, float* second, long ld) {
  _tile_stored(0, first, ld * 4);
  _tile_stored(1, first + 16, ld * 4);
  _tile_stored(2, second, ld * 4);
  _tile_stored(3, second + 16, ld * 4);
}

// The three shapes of a product: each adds up all of K in tiles and leaves the sums, rows `ld` apart. `between` is called
// at every step of K: what it does costs little there, for the core waits for tiles most of the time.

// One tile of rows by a panel.
template <class Between>
inline void one_by_one(const BFloat* x, long x_ld, const char* w, long k, float* sums, long ld, Between&& between) {
  _tile_zero(0);
  _tile_zero(1);
  for (long i = 0; i < k; i += kKStep, w += kStepBytes) {
    _tile_loadd(4, x + i, x_ld * 2);
    _tile_loadd(6, w, kWeightRow);
    _tile_loadd(7, w + 64, kWeightRow);
    between();
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, sums, ld * 4);
  _tile_stored(1, sums + 16, ld * 4);
}

// One tile of rows by two panels: four sums are under way, so that few rows do not wait for one instruction after another.
template <class Between>
inline void one_by_two(const BFloat* x, long x_ld, const char* w, const char* v, long k, float* sums, long ld,
                       Between&& between) {
  zero_four();
  for (long i = 0; i < k; i += kKStep, w += kStepBytes, v += kStepBytes) {
    ask_ahead(w);
    ask_ahead(v);
    _tile_loadd(4, x + i, x_ld * 2);
    _tile_loadd(6, w, kWeightRow);
    _tile_loadd(7, w + 64, kWeightRow);
    between();
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, v, kWeightRow);
    _tile_loadd(7, v + 64, kWeightRow);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 7);
  }
  store_four(sums, sums + kPanel, ld);
}

// Two tiles of rows by a panel.
template <class Between>
inline void two_by_one(const BFloat* upper, const BFloat* lower, long x_ld, const char* w, long k, float* sums, long ld,
                       Between&& between) {
  zero_four();
  for (long i = 0; i < k; i += kKStep, w += kStepBytes) {
    _tile_loadd(4, upper + i, x_ld * 2);
    _tile_loadd(5, lower + i, x_ld * 2);
    _tile_loadd(6, w, kWeightRow);
    _tile_loadd(7, w + 64, kWeightRow);
    between();
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  store_four(sums, sums + kTileRows * ld, ld);
}

// What is done between the steps of K: the sums of the block before are stored, and the panel after this one is asked for.
// It goes to the second cache, in time, and the products of a panel that has many rows hide how long it takes.
class Between {
 public:
  explicit Between(const ProductArgs& args)
      : args_(args), store_(store_of<BFloat>(args.epilogue)), steps_((int)(args.k / kKStep)) {}

  // The steps of the next `blocks` blocks ask for `count` bytes.
  void ask_for(const char* bytes, long count, int blocks) {
    const long steps = (long)blocks * steps_;
    ask_ = bytes, ask_end_ = bytes + count, ask_per_step_ = round_up((count + steps - 1) / steps, 64);
  }
  void operator()() {
    for (const char* end = ask_ + ask_per_step_; ask_ < end && ask_ < ask_end_; ask_ += 64) _mm_prefetch(ask_, _MM_HINT_T1);
    if (part_ < count_) store(per_step_);
  }
  // The next steps store `count` lots of sums, `rows` rows each.
  void hand_over(int rows, int count, const Sums& first, const Sums& second) {
    parts_[0] = first, parts_[1] = second;
    rows_ = rows, count_ = count, row_ = 0, part_ = 0, per_step_ = (rows * count + steps_ - 1) / steps_;
  }
  void finish() {
    while (part_ < count_) store(rows_);
  }

 private:
  void store(int rows) {
    const int end = row_ + rows < rows_ ? row_ + rows : rows_;
    store_(args_, parts_[part_], row_, end);
    row_ = end;
    if (row_ == rows_) row_ = 0, ++part_;
  }

  const ProductArgs& args_;
  const StoreRows store_;
  const int steps_;
  Sums parts_[2] = {};
  int rows_ = 0, count_ = 0, part_ = 0, row_ = 0, per_step_ = 0;
  const char* ask_ = nullptr;
  const char* ask_end_ = nullptr;
  long ask_per_step_ = 0;
};

void tile_product(const ProductArgs& args) {
  alignas(64) float sums[2][2 * kTileRows * kPanel];
  const BFloat* x = (const BFloat*)args.x;
  const char* w = (const char*)args.weight;
  const int rows = args.rows, height = rows < kTileRows ? rows : kTileRows;
  const int blocks = (rows + 2 * kTileRows - 1) / (2 * kTileRows);
  configure(height);
  Between between(args);
  int turn = 0;
  for (int p = 0, wide; p < args.panels; p += wide, w += wide * args.panel_bytes) {
    wide = rows <= kTileRows && p + 2 <= args.panels ? 2 : 1;
    const char* after = p + wide < args.panels ? w + wide * args.panel_bytes : (const char*)args.after;
    between.ask_for(after, wide == 1 && after ? args.panel_bytes : 0, blocks);
    for (int row = 0; row < rows; row += 2 * kTileRows) {
      float* out = sums[turn];
      turn = 1 - turn;
      // The last tile of rows moves up until it is whole: what it computes twice comes out the same.
      const int left = rows - row;
      if (wide == 2) {
        one_by_two(x, args.x_ld, w, w + args.panel_bytes, args.k, out, 2 * kPanel, between);
        between.finish();
        between.hand_over(height, 2, Sums{out, 2 * kPanel, p, 0}, Sums{out + kPanel, 2 * kPanel, p + 1, 0});
      } else if (left <= kTileRows) {
        const int from = rows - height;
        one_by_one(x + from * args.x_ld, args.x_ld, w, args.k, out, kPanel, between);
        between.finish();
        between.hand_over(height, 1, Sums{out, kPanel, p, from}, {});
      } else {
        const int lower = left < 2 * kTileRows ? rows - kTileRows : row + kTileRows;
        two_by_one(x + row * args.x_ld, x + lower * args.x_ld, args.x_ld, w, args.k, out, kPanel, between);
        between.finish();
        between.hand_over(kTileRows, 2, Sums{out, kPanel, p, row}, Sums{out + kTileRows * kPanel, kPanel, p, lower});
      }
    }
  }
  between.finish();
}

struct TileProducts {
  static void begin(int rows) { configure(rows < kTileRows ? rows : kTileRows); }
  static void scores(const BFloat* q, long ldq, int rows, const BFloat* keys, int head_dim, float* sums) {
    const auto nothing = [] {};
    if (rows > kTileRows) two_by_one(q, q + kTileRows * ldq, ldq, (const char*)keys, head_dim, sums, kBlock, nothing);
    else one_by_one(q, ldq, (const char*)keys, head_dim, sums, kBlock, nothing);
  }
  static void weigh(const BFloat* p, int rows, const BFloat* values, int head_dim, float* out) {
    const long row_bytes = (long)head_dim * 4;
    _tile_loadd(4, p, kBlock * 2);
    if (rows > kTileRows) _tile_loadd(5, p + kTileRows * kBlock, kBlock * 2);
    for (int c = 0; c < head_dim; c += 32) {
      float* upper = out + c;
      float* lower = upper + (long)kTileRows * head_dim;
      _tile_loadd(6, values + 2 * c, row_bytes);
      _tile_loadd(7, values + 2 * c + 32, row_bytes);
      _tile_loadd(0, upper, row_bytes);
      _tile_loadd(1, upper + 16, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (rows > kTileRows) {
        _tile_loadd(2, lower, row_bytes);
        _tile_loadd(3, lower + 16, row_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_stored(2, lower, row_bytes);
        _tile_stored(3, lower + 16, row_bytes);
      }
      _tile_stored(0, upper, row_bytes);
      _tile_stored(1, upper + 16, row_bytes);
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
  isa.product[(int)Dtype::kBFloat16] = tile_product;
  isa.widen[(int)Dtype::kBFloat16] = widen_bfloats;
  isa.few_rows_panels = 2;
  isa.attention[(int)Dtype::kBFloat16] = tile_attention;
  return isa;
}

}  // namespace amx
}  // namespace openmodel
#endif
