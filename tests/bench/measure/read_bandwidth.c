// Prints how many 10^9 bytes a second all threads together read from memory: the median of several passes.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { BYTES = 512 << 20, PASSES = 15, ALIGNMENT = 2 << 20 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
  const double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

int main(void) {
  const size_t count = BYTES / sizeof(uint64_t);
  uint64_t *values = aligned_alloc(ALIGNMENT, BYTES);
  if (values == NULL) return 1;
  madvise(values, BYTES, MADV_HUGEPAGE);  // the limit is memory's, not the page table's
#pragma omp parallel for schedule(static)
  for (size_t i = 0; i < count; i++) values[i] = i;

  double rates[PASSES];
  uint64_t sum = 0;
  for (int pass = 0; pass < PASSES; pass++) {
    const double began = now();
#pragma omp parallel for schedule(static) reduction(+ : sum)
    for (size_t i = 0; i < count; i++) sum += values[i];
    rates[pass] = BYTES / (now() - began) / 1e9;
  }
  qsort(rates, PASSES, sizeof *rates, ascending);
  printf("%.2f %d\n", rates[PASSES / 2], (int)(sum & 1));  // the sum is printed, so that it has to be computed
  return 0;
}
