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
constexpr int kPanelRows = 256;  // rows that one call of a product takes at most
constexpr int kFewRows = 16;     // rows up to which a product takes Isa::few_rows_panels at once
constexpr int kFewInt8Rows = 8;  // rows up to which panels in int8 are widened on their way to a product
constexpr int kRows = 32;    // rows that one call of attention takes at most
constexpr int kBlock = 32;   // tokens of a key/value block
constexpr int kMaxHeadDim = 576;

// What becomes of a panel's sums, once they are scaled and the bias is added. A gated panel holds 16 gates, then their 16 ups, and gives 16
// columns.
enum class Epilogue : int {
  kStore = 0,           // out = sum
  kResidual = 1,        // out = residual + sum
  kFloat = 2,           // out = sum, in float32
  kSwiGLU = 3,          // out = silu(gate) * up
  kGeGLU = 4,           // out = gelu(gate) * up, gelu by its tanh approximation
  kClampedSwiGLU = 5,   // out = gate * sigmoid(1.702 gate) * (up + 1), gate at most 7, up from -7 to 7
};
constexpr int kEpilogues = 6;
constexpr bool is_gated(Epilogue epilogue) { return epilogue >= Epilogue::kSwiGLU; }

// Some rows times some panels that follow each other, and what becomes of the sums.
struct ProductArgs {
  const void* x;         // first row
  long x_ld;             // elements from a row to the next
  int rows;              // at most kPanelRows
  const void* weight;    // first panel
  long panel_bytes;
  int panels;
  long k;                // a whole number of steps (layout.h)
  const void* after;     // panel that is likely to be read after these, or null
  const float* scales;   // kPanel numbers a panel, in the order of its columns: factors of the sums, or null
  const float* bias;     // the same: added to the sums, or null
  Epilogue epilogue;
  void* out;             // first output column of the first panel
  long out_ld;
  long columns;          // valid output columns from there
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
  long first_block;          // of the sequence's blocks, the first that any of the rows sees
  const int32_t* table;      // block numbers of the sequence
  const char* keys;          // block 0 of this key/value head
  const char* values;
  long block_stride;         // bytes from a block to the next
  const char* after_keys;    // a block that is likely to be read after these, or null
  const char* after_values;  // the same
  float scale;
  long window;               // a token sees this many tokens, itself the last; 0: all before it
  float softcap;             // scores become softcap * tanh(score / softcap); 0: as they are
  const float* sinks;        // of each of the heads: a score that takes its share and has no value; or null
  void* out;                 // like queries
  long out_token_stride;
};

struct Isa {
  const char* name;
  // Panels that a product of kFewRows rows or less takes side by side.
  int few_rows_panels = 1;
  void (*product[kDtypes])(const ProductArgs&);
  // The same over panels in int8, for few rows, where it is quicker than to widen them first; or null. The same sums.
  void (*product_int8[kDtypes])(const ProductArgs&) = {};
  void (*rms_norm[kDtypes])(const void* x, const void* weight, long columns, float eps, void* out);
  void (*attention[kDtypes])(const AttentionArgs&);
  // out = (residual or 0) + sum over slots of weight[slot] * row[slot], in slot order.
  void (*combine[kDtypes])(const void* const* rows, const float* weights, int slots, long columns, const void* residual,
                           void* out);
  // Whole numbers of eight bits as numbers of the dtype, exact.
  void (*widen[kDtypes])(const int8_t* in, long count, void* out);
  // The same times a factor, rounded once.
  void (*scale[kDtypes])(const int8_t* in, float factor, long count, void* out);
  // Index of the first of the largest numbers; of numbers without one, 0.
  // Of all numbers, or of those whose bit is set, least significant first.
  long (*argmax)(const float* x, long count, const uint8_t* allowed);
  // Rotates `heads` heads of one token in place, half-split pairs.
  void (*rotary[kDtypes])(void* heads_data, int heads, int head_dim, int rotary_dim, const float* cos, const float* sin);
};

// The best table that this processor and this build have, or the named one; null when there is none of that name.
const Isa* best_isa();
const Isa* find_isa(const char* name);
// Names of the tables that this processor can run, best first, null at the end.
const char* const* isa_names();

}  // namespace openmodel
