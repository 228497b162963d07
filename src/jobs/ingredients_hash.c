/* The hashes of a merge's files: taken beside whatever else is done with them, by threads that go through several files side by side, as
 * a merge does. */
#include "jobs/ingredient.h"

#include "base/threads.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { MOST_THREADS = 8 };
#define STEP ((size_t)1 << 18) /* bytes of one file before it is the next one's turn */

/* The hash of one model under way: of its file, and of its external data behind it. */
typedef struct Hashing {
    XXH3_state_t *state;
    PapaOnnxFile *files;
    int n_files, file; /* file: the one that is read */
    size_t at;         /* in it */
} Hashing;

struct PapaHashes {
    const PapaIngredients *in;
    PapaArena arena;
    Hashing *ones;                       /* by ingredient */
    char (*texts)[PAPA_HASH_BYTES];      /* likewise */
    int n_threads;
    pthread_t thread;                    /* while is_running: has threads of its own where there are several */
    bool is_running, is_done;
    atomic_bool stop;
    PapaStatus status;                   /* in the end, with its message */
    char message[1024];
};

/* False at the end. */
static bool hash_step(Hashing *one)
{
    while (one->file < one->n_files && one->at == one->files[one->file].bytes)
        one->file++, one->at = 0;
    if (one->file == one->n_files)
        return false;
    size_t left = one->files[one->file].bytes - one->at, n = left < STEP ? left : STEP;
    XXH3_128bits_update(one->state, one->files[one->file].data + one->at, n);
    one->at += n;
    return true;
}

/* Every n_threads-th model, from this one on. */
static PapaStatus hash_some(void *context, int worker, int first)
{
    (void)worker;
    PapaHashes *hashes = context;
    for (bool more = true; more && !atomic_load_explicit(&hashes->stop, memory_order_relaxed);) {
        more = false;
        for (int k = first; k < papa_ones(hashes->in); k += hashes->n_threads)
            more |= hash_step(&hashes->ones[k]);
    }
    for (int k = first; k < papa_ones(hashes->in); k += hashes->n_threads) {
        XXH128_hash_t hash = XXH3_128bits_digest(hashes->ones[k].state);
        snprintf(hashes->texts[k], PAPA_HASH_BYTES, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    }
    return PAPA_OK;
}

static PapaStatus hash_all(PapaHashes *hashes)
{
    PapaPool *pool = NULL;
    if (hashes->n_threads == 1)
        return hash_some(hashes, 0, 0);
    PAPA_TRY(papa_pool_new(&pool, hashes->n_threads));
    PapaStatus status = papa_pool_for(pool, hashes->n_threads, hash_some, hashes);
    papa_pool_free(pool);
    return status;
}

static void keep_failure(PapaHashes *hashes, PapaStatus status)
{
    hashes->status = status;
    strncpy(hashes->message, papa_error(), sizeof hashes->message - 1);
}

static void *thread_main(void *context)
{
    PapaHashes *hashes = context;
    PapaStatus status = hash_all(hashes);
    if (status)
        keep_failure(hashes, status);
    return NULL;
}

/* Half of the cores: the other half has the merge. */
static int count_threads(int n)
{
    int half = papa_cores() / 2, most = half < MOST_THREADS ? half : MOST_THREADS;
    return most < 1 ? 1 : most < n ? most : n;
}

PapaStatus papa_hashes_new(PapaHashes **out, const PapaIngredients *in)
{
    PapaHashes *hashes = calloc(1, sizeof *hashes);
    *out = hashes;
    if (!hashes)
        return papa_fail_memory(sizeof *hashes, "hashes");
    hashes->in = in;
    return PAPA_OK;
}

static PapaStatus open_hashes(PapaHashes *hashes)
{
    int n = papa_ones(hashes->in);
    hashes->n_threads = count_threads(n);
    hashes->ones = PAPA_NEW_ARRAY(&hashes->arena, Hashing, n);
    hashes->texts = papa_arena_calloc(&hashes->arena, (size_t)n, sizeof *hashes->texts);
    if (!hashes->ones || !hashes->texts)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < n; k++) {
        Hashing *one = &hashes->ones[k];
        one->state = XXH3_createState();
        if (!one->state)
            return papa_fail_memory(1024, "a hash");
        XXH3_128bits_reset(one->state);
        PAPA_TRY(papa_onnx_files(&one->files, &one->n_files, &hashes->arena, hashes->in->ones[k].onnx));
    }
    return PAPA_OK;
}

PapaStatus papa_hashes_start(PapaHashes *hashes)
{
    if (hashes->is_running || hashes->is_done)
        return PAPA_OK;
    PapaStatus status = open_hashes(hashes);
    int error = status ? 0 : pthread_create(&hashes->thread, NULL, thread_main, hashes);
    if (error)
        status = papa_fail(PAPA_ERR_DEVICE, "cannot start a thread: %s", strerror(error));
    if (status)
        keep_failure(hashes, status);
    hashes->is_running = !status;
    hashes->is_done = status;
    return status;
}

PapaStatus papa_hashes_wait(const char (**out)[PAPA_HASH_BYTES], PapaHashes *hashes)
{
    if (!hashes->is_done)
        PAPA_TRY(papa_hashes_start(hashes));
    if (hashes->is_running)
        pthread_join(hashes->thread, NULL);
    hashes->is_running = false;
    hashes->is_done = true;
    *out = (const char (*)[PAPA_HASH_BYTES])hashes->texts;
    if (hashes->status)
        papa_error_restore(hashes->message);
    return hashes->status;
}

void papa_hashes_free(PapaHashes *hashes)
{
    if (!hashes)
        return;
    atomic_store(&hashes->stop, true);
    if (hashes->is_running)
        pthread_join(hashes->thread, NULL);
    for (int k = 0; hashes->ones && k < papa_ones(hashes->in); k++)
        XXH3_freeState(hashes->ones[k].state);
    papa_arena_free(&hashes->arena);
    free(hashes);
}

PapaArena *papa_hashes_arena(PapaHashes *hashes)
{
    return &hashes->arena;
}
