/* The emulator's inside, as the stand-ins for NVIDIA's libraries see it (cuDNN, cuBLASLt: cudaemu_cudnn*.cpp, cudaemu_cublas*.cpp).
 *
 * A library's kernel is host code that is put into a stream with enqueue(): it runs later, in stream order or whenever a graph that recorded it is
 * replayed, and only then may it follow device pointers. What it reads and writes is said beforehand and checked like a kernel's own accesses. */
#ifndef CUDAEMU_H
#define CUDAEMU_H

#include "cuda_runtime_api.h"

#include <cstddef>
#include <functional>
#include <vector>

namespace cudaemu {

/* The exit status of a program that did something CUDA forbids. */
constexpr int kFaultStatus = 88;

/* Prints one line to stderr, "cudaemu: ...", with the operation that is running in front, and ends the process with kFaultStatus. */
[[noreturn, gnu::format(printf, 1, 2)]] void fault(const char *format, ...);

/* A contiguous part of device memory that an operation reads or writes. What it does both to is listed twice. bytes may be 0. */
struct Access {
    const void *p;
    std::size_t bytes;
    bool writes;
};

/* Puts `work` into the stream under `name` (it may be a temporary). When it runs, each access must lie in one live allocation of the stream's
 * GPU (or of a peer), be initialised if it reads, and be ordered by streams, events or host waits against everything else that touches the
 * same bytes. `work` owns what it captures: it may run many times (graph replay), on any host thread, and long after the caller has returned.
 * Faults on the NULL stream. Returns cudaSuccess. */
cudaError_t enqueue(cudaStream_t stream, const char *name, std::vector<Access> accesses, std::function<void()> work);

/* Whether p lies in a GPU's memory (live or not). */
bool is_device(const void *p);

/* This host thread's, counted from 0. */
int current_device();

/* The GPU that the stream was made on. Faults where the stream is NULL or unknown. */
int device_of(cudaStream_t stream);

/* 10 * major + minor of the emulated GPUs. */
int capability();

/* Whatever the caller must destroy: a handle, a descriptor. Objects that were born and have not died are reported when the program ends.
 * died() faults, with `kind` in the message, where the object is unknown: destroyed twice, or never made. alive() asks. kind: a literal. */
void born(const void *object, const char *kind);
void died(const void *object, const char *kind);
bool alive(const void *object, const char *kind);

} // namespace cudaemu

#endif
