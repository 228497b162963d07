/* What loops over flat memory are compiled with. */
#ifndef PAPA_SIMD_H
#define PAPA_SIMD_H

/* Compiled once for each of the usual x86-64 levels and picked at load time; plain elsewhere. For static range bodies. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(PAPA_NO_CLONES)
#define PAPA_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PAPA_SIMD
#endif

/* In front of a loop whose arrays are the same or disjoint: no iteration reads what another wrote. Clang finds out at run time. */
#ifdef __clang__
#define PAPA_IVDEP
#else
#define PAPA_IVDEP _Pragma("GCC ivdep")
#endif

#endif
