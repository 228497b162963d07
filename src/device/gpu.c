/* A GPU's description from a file:
 *
 *     {"bandwidth": bytes a second, "peak_fp32", "peak_tf32", "peak_bf16": dense floating-point operations a second,
 *      "cudnn": {what cuDNN wants to know, handed on to it as it stands}}
 *
 * Every key must be there and no other may, so that a misspelt one is not taken for 0. */
#include "device/gpu.h"
#include "base/file.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define MOST 1e18 /* of any number: all fit int64_t */

typedef struct Key {
    const char *name;
    int n;          /* numbers: 1 stands alone, more are an array's */
    double *number; /* NULL: an object or a string */
    bool found;
} Key;

static PapaStatus fill(const char *path, const char *name, Key *key, PapaJson value)
{
    if (!key->number)
        return PAPA_OK;
    if (key->n == 1) {
        if (!papa_json_number(value, key->number) || *key->number < 0 || *key->number > MOST)
            return papa_fail(PAPA_ERR_FORMAT, "%s: %s: expected a number from 0 to %g", path, name, MOST);
        return PAPA_OK;
    }
    PapaJson element = {0};
    int n = 0;
    while (papa_json_kind(value) == '[' && papa_json_next(value, NULL, &element)) {
        if (n == key->n || !papa_json_number(element, &key->number[n]) || key->number[n] < 1 || key->number[n] > MOST)
            break;
        n++;
        if (n == key->n && !papa_json_next(value, NULL, &element))
            return PAPA_OK;
    }
    return papa_fail(PAPA_ERR_FORMAT, "%s: %s: expected %d numbers from 1 to %g", path, name, key->n, MOST);
}

/* values: of the keys that aren't numbers, in the table's order; NULL: there are none. */
static PapaStatus read_object(const char *path, const char *where, PapaJson object, Key *keys, size_t n_keys, PapaJson *values)
{
    PapaJson name, value = {0};
    char text[64];
    if (papa_json_kind(object) != '{')
        return papa_fail(PAPA_ERR_FORMAT, "%s: %sexpected an object", path, where);
    while (papa_json_next(object, &name, &value)) {
        size_t k = 0;
        while (k < n_keys && !papa_json_is(name, keys[k].name))
            k++;
        if (k == n_keys)
            return papa_fail(PAPA_ERR_FORMAT, "%s: unknown key %s%.*s", path, where, (int)name.bytes - 2, name.at + 1);
        keys[k].found = true;
        snprintf(text, sizeof text, "%s%s", where, keys[k].name);
        PAPA_TRY(fill(path, text, &keys[k], value));
        if (!keys[k].number)
            values[k] = value;
    }
    for (size_t k = 0; k < n_keys; k++)
        if (!keys[k].found)
            return papa_fail(PAPA_ERR_FORMAT, "%s: %s%s is missing", path, where, keys[k].name);
    return PAPA_OK;
}

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static PapaStatus read_cudnn(PapaGpu *out, const char *path, PapaJson object)
{
    double version, multiprocessors, l2, memory, shared, shared_optin, max_threads, max_grid[3], max_block[3], unused;
    Key keys[] = {
        {.name = "deviceName"}, {"deviceVer", 1, &version, 0}, {"multiProcessorCount", 1, &multiprocessors, 0}, {"l2CacheSize", 1, &l2, 0},
        {"totalGlobalMem", 1, &memory, 0}, {"maxSharedMemoryPerBlock", 1, &shared, 0}, {"maxSharedMemoryPerBlockOptin", 1, &shared_optin, 0},
        {"maxThreadsPerBlock", 1, &max_threads, 0}, {"maxGridSize", 3, max_grid, 0}, {"maxBlockSize", 3, max_block, 0},
        {"smClockRateKHz", 1, &unused, 0}, {"memClockRateKHz", 1, &unused, 0}, {"reservedSharedMemoryPerBlock", 1, &unused, 0},
        {"maxCtasPerSM", 1, &unused, 0}, {"maxThreadsPerSM", 1, &unused, 0}, {"regsPerBlock", 1, &unused, 0}, {"maxRegistersPerSM", 1, &unused, 0},
        {"warpSize", 1, &unused, 0}, {"isTccDriver", 1, &unused, 0}, {"supportCoopLaunch", 1, &unused, 0}, {"driverVer", 1, &unused, 0},
        {"pciDeviceId", 1, &unused, 0}, {"cudaDeviceId", 1, &unused, 0},
    };
    PapaJson values[COUNT(keys)] = {{0}};
    PAPA_TRY(read_object(path, "cudnn.", object, keys, COUNT(keys), values));
    if (!papa_json_text(values[0], out->name, sizeof out->name))
        return papa_fail(PAPA_ERR_FORMAT, "%s: cudnn.deviceName: expected a short text", path);
    if (version < 750 || version > 9990 || multiprocessors < 1 || multiprocessors > 1e6)
        return papa_fail(PAPA_ERR_FORMAT, "%s: cudnn.deviceVer is %g and cudnn.multiProcessorCount %g, expected 750 to 9990 and 1 to 1e6", path,
            version, multiprocessors);
    out->capability = (int)version / 10;
    out->multiprocessors = (int)multiprocessors;
    out->memory = (int64_t)memory;
    out->l2_cache = (int64_t)l2;
    out->max_threads = (int64_t)max_threads;
    out->shared_per_block = (int64_t)shared;
    out->shared_per_block_optin = (int64_t)shared_optin;
    for (int i = 0; i < 3; i++) {
        out->max_grid[i] = (int64_t)max_grid[i];
        out->max_block[i] = (int64_t)max_block[i];
    }
    out->json = strndup(object.at, object.bytes);
    return out->json ? PAPA_OK : papa_fail_memory(object.bytes, path);
}

static PapaStatus read_gpu(PapaGpu *out, const char *path, const PapaMapped *file)
{
    Key keys[] = {
        {.name = "cudnn"}, {"bandwidth", 1, &out->bandwidth, 0}, {"peak_fp32", 1, &out->peak_fp32, 0}, {"peak_tf32", 1, &out->peak_tf32, 0},
        {"peak_bf16", 1, &out->peak_bf16, 0},
    };
    PapaJson root, values[COUNT(keys)] = {{0}};
    PAPA_TRY(papa_json_parse(&root, (const char *)file->data, file->size, path));
    PAPA_TRY(read_object(path, "", root, keys, COUNT(keys), values));
    return read_cudnn(out, path, values[0]);
}

PapaStatus papa_gpu_read(PapaGpu *out, const char *path)
{
    *out = (PapaGpu){0};
    PapaMapped file;
    PAPA_TRY(papa_file_map(&file, path));
    PapaStatus status = read_gpu(out, path, &file);
    papa_file_unmap(&file);
    return status;
}

void papa_gpu_clear(PapaGpu *gpu)
{
    free(gpu->json);
    *gpu = (PapaGpu){0};
}
