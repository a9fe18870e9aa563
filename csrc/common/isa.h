// The CPU levels, which of them this machine has, and which one runs.
#pragma once

namespace sylvester {

// Ascending; the codes are the positions in python/sylvester/_library.py: LEVELS.
// avx512vnni also asks for VBMI, whose byte tables decode trits: every CPU with VNNI from Ice Lake and Zen 4 on has it,
// Cascade and Cooper Lake run avx512.
enum class Isa : int { scalar = 0, avx2 = 1, avxvnni = 2, avx512 = 3, avx512vnni = 4 };
constexpr int kIsaCount = 5;

// True when the CPU has, and the operating system saves, everything the level's compiler flags use.
bool isa_supported(Isa level) noexcept;

// The level that runs: a forced one, else SYLVESTER_ISA, else the best. Throws std::invalid_argument when
// SYLVESTER_ISA names no level or one this CPU lacks.
Isa isa_active();

// Process-wide override, for tests and measurements. Throws std::invalid_argument when the CPU lacks the level.
void isa_force(Isa level);

// What select() (select.h) last chose: proves which kernels ran.
void isa_record(Isa level) noexcept;
Isa isa_ran() noexcept;

}  // namespace sylvester
