// Ranks on one machine hand each other rows through memory that they share.
//
// For each pair of ranks and direction there is a box: whoever sends fills it when it is empty, whoever receives empties it
// when it is full, a piece at a time. Both know how much is to come, so nothing but pieces is said. A wait spins before it
// gives the core away: waking a thread that sleeps takes longer than a step's messages.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace openmodel {

constexpr long kBoxBytes = 1 << 20;  // of a piece

// What is sent to, or received from, one rank.
struct Letter { char* data; long bytes; };

long mailbox_bytes(long ranks);
// Sends out[r] to each rank r and fills in[r] from it; those of the rank itself are not looked at. False when `stop` became
// true before all was done: the memory is of no use any more then.
bool swap_letters(char* memory, long ranks, long rank, const std::vector<Letter>& out, const std::vector<Letter>& in,
                  const std::atomic<int32_t>& stop);
// Returns when all ranks have called it on memory that was zeros; false when `stop` became true.
bool meet(char* memory, long ranks, long rank, const std::atomic<int32_t>& stop);

}  // namespace openmodel
