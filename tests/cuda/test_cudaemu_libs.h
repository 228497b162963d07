/* What the tests of the emulator's cuDNN and cuBLASLt share: a stream, device memory, planted faults, and references in double precision. */
#ifndef TEST_CUDAEMU_LIBS_H
#define TEST_CUDAEMU_LIBS_H

#include "check.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

static cudaStream_t stream;

static inline void must(bool done, const char *what)
{
    if (done)
        return;
    std::printf("%s failed\n", what);
    std::exit(1);
}
#define MUST(expression) must((expression) == 0, #expression)

/* Runs `body` in a process of its own, which then ends as a program does. Its exit status, and what it wrote to stderr. */
static inline int run_apart(const std::function<void()> &body, std::string *output)
{
    int ends[2];
    must(pipe(ends) == 0, "pipe");
    std::fflush(stdout);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        body();
        std::exit(0);
    }
    close(ends[1]);
    char part[512];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        output->append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The emulator must end the program, with this in what it says. */
static inline void check_fault(const char *what, const char *expected, const std::function<void()> &body)
{
    std::string output;
    int status = run_apart(body, &output);
    CHECK(status == 88 && output.find(expected) != std::string::npos, "%s: exit status %d with \"%s\", expected 88 with \"%s\"", what, status,
        output.c_str(), expected);
}

/* ---- numbers ---- */

static inline double random_number()
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<double>(state >> 11) * 0x1p-53 * 2 - 1;
}

static inline float bf16_to_float(uint16_t half)
{
    uint32_t bits = static_cast<uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t float_to_bf16(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* An array on the device and its numbers, which are what its type can hold. */
struct Array {
    bool bf16 = false;
    std::vector<float> values;
    void *device = nullptr;

    size_t bytes() const { return values.size() * (bf16 ? 2 : 4); }

    void upload()
    {
        std::vector<uint16_t> narrow;
        const void *from = values.data();
        if (bf16) {
            for (float &x : values) {
                narrow.push_back(float_to_bf16(x));
                x = bf16_to_float(narrow.back());
            }
            from = narrow.data();
        }
        if (!device)
            MUST(cudaMalloc(&device, bytes()));
        MUST(cudaMemcpyAsync(device, from, bytes(), cudaMemcpyHostToDevice, stream));
        MUST(cudaStreamSynchronize(stream));
    }

    std::vector<float> download() const
    {
        std::vector<float> wide(values.size());
        std::vector<uint16_t> narrow(bf16 ? values.size() : 0);
        MUST(cudaMemcpyAsync(bf16 ? static_cast<void *>(narrow.data()) : wide.data(), device, bytes(), cudaMemcpyDeviceToHost, stream));
        MUST(cudaStreamSynchronize(stream));
        for (size_t i = 0; i < narrow.size(); i++)
            wide[i] = bf16_to_float(narrow[i]);
        return wide;
    }

    void free()
    {
        MUST(cudaFree(device));
        device = nullptr;
    }
};

static inline Array random_array(int64_t n, bool bf16)
{
    Array array;
    array.bf16 = bf16;
    for (int64_t i = 0; i < n; i++)
        array.values.push_back(static_cast<float>(random_number()));
    array.upload();
    return array;
}

static inline void *device_bytes(size_t bytes)
{
    void *p = nullptr;
    if (bytes)
        MUST(cudaMalloc(&p, bytes));
    return p;
}

#endif
