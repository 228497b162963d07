/* What a merged file says of the files that it was made of. */
#include "jobs/ingredient.h"

#include "base/text.h"
#include "base/threads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

/* ---------------------------------------------------------------- hashes */

enum { HASH_BYTES = 33, MOST_THREADS = 8 };

typedef struct Hashes {
    const PapaIngredients *in;
    char (*texts)[HASH_BYTES]; /* by ingredient */
} Hashes;

/* In steps whose pages stay in the processor's cache between the kernel's mapping them and their being read. */
static void hash_bytes(XXH3_state_t *state, const unsigned char *data, size_t bytes)
{
    const size_t step = (size_t)1 << 20;
    for (size_t at = 0; at < bytes; at += step) {
        size_t n = bytes - at < step ? bytes - at : step;
#ifdef MADV_POPULATE_READ
        madvise((void *)(data + at), n, MADV_POPULATE_READ); /* one call in the place of hundreds of page faults; where it fails they come */
#endif
        XXH3_128bits_update(state, data + at, n);
    }
}

static PapaStatus hash_model(void *context, int worker, int k)
{
    (void)worker;
    const Hashes *hashes = context;
    PapaArena scratch = PAPA_ARENA_INIT;
    XXH3_state_t *state = XXH3_createState();
    PapaOnnxFile *files;
    int n;
    PapaStatus status = state ? PAPA_OK : papa_fail_memory(1024, "a hash");
    if (!status)
        status = papa_onnx_files(&files, &n, &scratch, hashes->in->ones[k].onnx);
    if (!status) {
        XXH3_128bits_reset(state);
        for (int i = 0; i < n; i++)
            hash_bytes(state, files[i].data, files[i].bytes);
        XXH128_hash_t hash = XXH3_128bits_digest(state);
        snprintf(hashes->texts[k], HASH_BYTES, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    }
    XXH3_freeState(state);
    papa_arena_free(&scratch);
    return status;
}

static PapaStatus hash_all(const Hashes *hashes)
{
    int n = papa_ones(hashes->in), cores = papa_cores();
    cores = cores < MOST_THREADS ? cores : MOST_THREADS;
    PapaPool *pool = NULL;
    PAPA_TRY(papa_pool_new(&pool, cores < n ? cores : n));
    PapaStatus status = papa_pool_for(pool, n, hash_model, (void *)hashes);
    papa_pool_free(pool);
    return status;
}

/* ---------------------------------------------------------------- JSON */

/* Bytes of the UTF-8 sequence that begins here; 0 where none does. Surrogates and what lies beyond U+10FFFF are none. */
static size_t sequence_bytes(const unsigned char *c)
{
    size_t n = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : (c[0] & 0xf0) == 0xe0 ? 3 : c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    if (n == 3 && ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] >= 0xa0)))
        return 0;
    if (n == 4 && ((c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] >= 0x90)))
        return 0;
    return n;
}

/* Names of files may hold any bytes. */
static void put_string(FILE *to, const char *text)
{
    putc('"', to);
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        size_t n = sequence_bytes(c);
        if (!n)
            fputs("\xef\xbf\xbd", to); /* U+FFFD */
        else if (*c < 0x20)
            fprintf(to, "\\u%04x", *c);
        else if (*c == '"' || *c == '\\')
            fprintf(to, "\\%c", *c);
        else
            fwrite(c, 1, n, to);
        c += n ? n : 1;
    }
    putc('"', to);
}

static void put_number(FILE *to, const char *key, double value)
{
    char text[PAPA_DOUBLE_BYTES];
    if (!isnan(value))
        fprintf(to, ",\"%s\":%s", key, papa_double_text(text, value));
}

static void put_ingredient(FILE *to, const Hashes *hashes, int k, const double *weights, const PapaScore *val)
{
    const char *path = papa_onnx_path(hashes->in->ones[k].onnx), *slash = strrchr(path, '/');
    fputs(k ? ",{\"file\":" : "[{\"file\":", to);
    put_string(to, slash ? slash + 1 : path);
    fprintf(to, ",\"xxh3\":\"%s\"", hashes->texts[k]);
    if (weights)
        put_number(to, "weight", weights[k]);
    if (k == hashes->in->n)
        fputs(",\"role\":\"base\"", to);
    if (val) {
        put_number(to, "val.accuracy", val[k].accuracy);
        put_number(to, "val.loss", val[k].loss);
    }
    putc('}', to);
}

static PapaStatus put_all(char **out, const Hashes *hashes, const double *weights, const PapaScore *val)
{
    size_t bytes = 0;
    FILE *to = open_memstream(out, &bytes);
    if (!to)
        return papa_fail_memory(4096, "a list of ingredients");
    for (int k = 0; k < papa_ones(hashes->in); k++)
        put_ingredient(to, hashes, k, weights, val);
    putc(']', to);
    bool failed = ferror(to);
    failed |= fclose(to) != 0;
    return failed ? papa_fail_memory(bytes, "a list of ingredients") : PAPA_OK;
}

/* ---------------------------------------------------------------- metadata */

/* What is as true of the result as of the first model: what goes in, and what comes out. */
static bool still_holds(const char *key)
{
    static const char *const keys[] = {"papa.normalization.mean", "papa.normalization.std", "papa.normalization.folded", "papa.classes", "papa.input.size"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return true;
    return false;
}

static PapaStatus forget_stale(PapaMetadata *m, const Onnx__ModelProto *model)
{
    for (size_t i = 0; i < model->n_metadata_props; i++) {
        const char *key = model->metadata_props[i]->key;
        if (key && !strncmp(key, "papa.", 5) && !still_holds(key))
            PAPA_TRY(papa_metadata_set_text(m, key, NULL));
    }
    return PAPA_OK;
}

PapaStatus papa_ingredients_metadata(PapaMetadata *out, const PapaIngredients *in, const char *kind, const char *method, const double *weights, const PapaScore *val)
{
    Hashes hashes = {.in = in, .texts = calloc((size_t)papa_ones(in), sizeof *hashes.texts)};
    char *text = NULL;
    PapaStatus status;
    *out = (PapaMetadata){0};
    if (!hashes.texts)
        return papa_fail_memory((size_t)papa_ones(in) * sizeof *hashes.texts, "hashes");
    PAPA_GOTO(hash_all(&hashes));
    PAPA_GOTO(put_all(&text, &hashes, weights, val));
    PAPA_GOTO(forget_stale(out, papa_onnx_model(in->ones[0].onnx)));
    PAPA_GOTO(papa_metadata_set_text(out, "papa.kind", kind));
    PAPA_GOTO(papa_metadata_set_text(out, "papa.method", method));
    PAPA_GOTO(papa_metadata_set_text(out, "papa.ingredients", text));
out:
    free(text);
    free(hashes.texts);
    if (status)
        papa_metadata_free(out);
    return status;
}

PapaStatus papa_ingredients_describe(const PapaIngredients *in, PapaEdit *edit, const char *kind, const char *method, const double *weights, const PapaScore *val)
{
    PapaMetadata metadata;
    PAPA_TRY(papa_ingredients_metadata(&metadata, in, kind, method, weights, val));
    PapaStatus status = PAPA_OK;
    for (int i = 0; i < metadata.n && !status; i++)
        status = papa_edit_set_metadata(edit, metadata.pairs[i][0], metadata.pairs[i][1]);
    papa_metadata_free(&metadata);
    return status;
}
