#include "arena.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "layout.h"

namespace openmodel {
namespace {

constexpr long kLargePage = 2L << 20;
constexpr long kPiece = 64L << 20;

std::mutex mutex;
std::shared_ptr<char> piece;
long piece_bytes = 0, used = 0;

std::shared_ptr<char> new_piece(long bytes) {
  char* memory = static_cast<char*>(std::aligned_alloc(kLargePage, bytes));
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  // A wish: where the system has no large pages left, it gives small ones.
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return {memory, [](char* p) { std::free(p); }};
}

}  // namespace

std::shared_ptr<char> large_page_memory(long bytes) {
  const long size = round_up(bytes, 64);
  if (size >= kPiece / 2) return new_piece(round_up(size, kLargePage));
  const std::lock_guard<std::mutex> lock(mutex);
  if (!piece || used + size > piece_bytes) piece = new_piece(kPiece), piece_bytes = kPiece, used = 0;
  char* at = piece.get() + used;
  used += size;
  return {piece, at};
}

}  // namespace openmodel
