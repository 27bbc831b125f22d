// Memory in large pages, for what is read from end to end at each step: weights, keys and values.
//
// With 4 KiB pages a core waits for the page table more than for memory: large pages read 1.5 times as fast on the
// machines that were measured. The system hands pages out when they are first written.
#pragma once

#include <memory>

namespace openmodel {

// `bytes` of memory at a multiple of 64 bytes, from a piece of large pages that smaller requests share; a piece is given
// back when the last that shares it is gone. Throws std::bad_alloc.
std::shared_ptr<char> large_page_memory(long bytes);

}  // namespace openmodel
