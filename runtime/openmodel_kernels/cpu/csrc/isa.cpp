#include "isa.h"

#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace openmodel {
namespace baseline { Isa plain(); }
#if defined(__x86_64__)
namespace avx2 { Isa plain(); }
namespace avx512 { Isa plain(); Isa with_bf16(bool vbmi); }
namespace amx { Isa with_tiles(); }
#endif

namespace {

#if defined(__x86_64__)
bool has_amx_bf16() {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool tile = d & (1u << 24), bf16 = d & (1u << 22);
  if (!tile || !bf16) return false;
  // Tile registers are 8 KiB of state: Linux hands them out on request (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA).
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}
#endif

std::vector<Isa> available() {
  std::vector<Isa> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const bool vbmi = __builtin_cpu_supports("avx512vbmi");
  if (bf16 && vbmi && has_amx_bf16()) tables.push_back(amx::with_tiles());
  if (bf16) tables.push_back(avx512::with_bf16(vbmi));
  if (avx512) tables.push_back(avx512::plain());
  if (avx2) tables.push_back(avx2::plain());
#endif
  tables.push_back(baseline::plain());
  return tables;
}

const std::vector<Isa>& tables() {
  static const std::vector<Isa> all = available();
  return all;
}

}  // namespace

const Isa* best_isa() { return &tables().front(); }

const Isa* find_isa(const char* name) {
  for (const Isa& isa : tables())
    if (!std::strcmp(isa.name, name)) return &isa;
  return nullptr;
}

const char* const* isa_names() {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> all;
    for (const Isa& isa : tables()) all.push_back(isa.name);
    all.push_back(nullptr);
    return all;
  }();
  return names.data();
}

}  // namespace openmodel
