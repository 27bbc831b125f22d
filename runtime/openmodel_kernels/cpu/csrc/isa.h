// What the operations need of a processor: one table of functions for each capability, filled at load.
//
// Every function computes each output element by one fixed sequence of operations, whatever rows, columns or threads
// stand beside it. Tables differ in their last bits from each other, never within themselves.
//
// Shapes: a weight is cut into panels of kPanel output columns; the keys and values of a sequence into blocks of kBlock
// tokens. Layouts stand in layout.h.
#pragma once

#include <cstdint>

namespace openmodel {

enum class Dtype : int { kBFloat16 = 0, kFloat16 = 1, kFloat32 = 2 };
constexpr int kDtypes = 3;
constexpr int kPanel = 32;   // output columns of a weight panel
constexpr int kPanelRows = 256;  // rows that one call of a panel product takes at most
constexpr int kRows = 32;    // rows that one call of attention takes at most
constexpr int kBlock = 32;   // tokens of a key/value block
constexpr int kMaxHeadDim = 512;

// What becomes of a panel's sums.
enum class Epilogue : int {
  kStore = 0,     // out = sum
  kResidual = 1,  // out = residual + sum
  kSwiGLU = 2,    // a panel holds 16 gates, then their 16 ups: out = silu(gate) * up, 16 columns
  kFloat = 3,     // out = sum, in float32
};

struct StoreArgs {
  const float* sums;     // rows x `ld`
  long ld;
  int rows;
  int columns;           // valid output columns of this panel
  void* out;             // first element of the panel in the output
  long out_ld;
  const void* residual;  // like `out`, or null
};

// Queries of one sequence and one key/value head against its cached keys and values.
struct AttentionArgs {
  const void* queries;       // first query row: token `first`, head 0 of this group of heads
  long token_stride;         // elements from one token's queries to the next
  int head_dim;
  int heads;                 // query heads that share the key/value head
  int first_row, rows;       // rows of the sequence's (token, head) grid, heads fastest; rows <= kRows
  long context;              // tokens cached before token 0 of this step
  const int32_t* table;      // block numbers of the sequence
  const char* keys;          // block 0 of this key/value head
  const char* values;
  long block_stride;         // bytes from a block to the next
  float scale;
  void* out;                 // like queries
  long out_token_stride;
};

struct Isa {
  const char* name;
  // sums[rows][panels * kPanel] = a[rows][k] * panels; rows <= kPanelRows; `panels` is 1, or 2 when rows <= 16.
  void (*panel[kDtypes])(const void* a, long lda, int rows, const void* weight, long panel_bytes, int panels, long k,
                         float* sums);
  void (*store[kDtypes])(Epilogue, const StoreArgs&);
  void (*rms_norm[kDtypes])(const void* x, const void* weight, long columns, float eps, void* out);
  void (*attention[kDtypes])(const AttentionArgs&);
  // out = (residual or 0) + sum over slots of weight[slot] * row[slot], in slot order.
  void (*combine[kDtypes])(const void* const* rows, const float* weights, int slots, long columns, const void* residual,
                           void* out);
  // Index of the first of the largest numbers; of numbers without one, 0.
  long (*argmax)(const float* x, long count);
  // Rotates `heads` heads of one token in place, half-split pairs.
  void (*rotary[kDtypes])(void* heads_data, int heads, int head_dim, int rotary_dim, const float* cos, const float* sin);
};

// The best table that this processor and this build have, or the named one; null when there is none of that name.
const Isa* best_isa();
const Isa* find_isa(const char* name);
// Names of the tables that this processor can run, best first, null at the end.
const char* const* isa_names();

}  // namespace openmodel
