/* What a merged file says of the files that it was made of. */
#include "jobs/ingredient.h"

#include "base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The list of the ingredients while their hashes are not yet known. */
typedef struct Listing {
    const PapaIngredients *in;
    char *text; /* JSON, with zeros in the hashes' places; malloc's, or the arena's that `places` is from */
    size_t bytes;
    size_t *places; /* of the hashes in text, by ingredient */
} Listing;

static void put_ingredient(FILE *to, Listing *list, int k, const double *weights, const PapaScore *val)
{
    const char *path = papa_onnx_path(list->in->ones[k].onnx), *slash = strrchr(path, '/');
    fputs(k ? ",{\"file\":" : "[{\"file\":", to);
    put_string(to, slash ? slash + 1 : path);
    fputs(",\"xxh3\":\"", to);
    fflush(to); /* brings list->bytes up to here */
    list->places[k] = list->bytes;
    fprintf(to, "%0*d\"", PAPA_HASH_BYTES - 1, 0);
    if (weights)
        put_number(to, "weight", weights[k]);
    if (k == list->in->n)
        fputs(",\"role\":\"base\"", to);
    if (val) {
        put_number(to, "val.accuracy", val[k].accuracy);
        put_number(to, "val.loss", val[k].loss);
    }
    putc('}', to);
}

/* Free out->text. */
static PapaStatus list_all(Listing *out, const PapaIngredients *in, PapaArena *arena, const double *weights, const PapaScore *val)
{
    *out = (Listing){.in = in, .places = PAPA_NEW_ARRAY(arena, size_t, papa_ones(in))};
    FILE *to = out->places ? open_memstream(&out->text, &out->bytes) : NULL;
    if (!to)
        return papa_fail_memory(4096, "a list of ingredients");
    for (int k = 0; k < papa_ones(in); k++)
        put_ingredient(to, out, k, weights, val);
    putc(']', to);
    bool failed = ferror(to);
    failed |= fclose(to) != 0;
    return failed ? papa_fail_memory(out->bytes, "a list of ingredients") : PAPA_OK;
}

static PapaStatus put_hashes(const Listing *list)
{
    const char(*texts)[PAPA_HASH_BYTES];
    PAPA_TRY(papa_hashes_wait(&texts, list->in->hashes));
    for (int k = 0; k < papa_ones(list->in); k++)
        memcpy(list->text + list->places[k], texts[k], PAPA_HASH_BYTES - 1);
    return PAPA_OK;
}

/* papa_tensor_fill_fn */
static PapaStatus fill_list(void *context, void *to, int64_t first, int64_t n)
{
    const Listing *list = context;
    PAPA_TRY(put_hashes(list));
    memcpy(to, list->text + first, (size_t)n);
    return PAPA_OK;
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

/* All but the ingredients. */
static PapaStatus begin_metadata(PapaMetadata *out, const PapaIngredients *in, const char *kind, const char *method)
{
    PAPA_TRY(forget_stale(out, papa_onnx_model(in->ones[0].onnx)));
    PAPA_TRY(papa_metadata_set_text(out, "papa.kind", kind));
    return papa_metadata_set_text(out, "papa.method", method);
}

PapaStatus papa_ingredients_metadata(PapaMetadata *out, const PapaIngredients *in, const char *kind, const char *method, const double *weights, const PapaScore *val)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    Listing list = {0};
    PapaStatus status;
    *out = (PapaMetadata){0};
    PAPA_GOTO(list_all(&list, in, &scratch, weights, val));
    PAPA_GOTO(put_hashes(&list));
    PAPA_GOTO(begin_metadata(out, in, kind, method));
    PAPA_GOTO(papa_metadata_set_text(out, "papa.ingredients", list.text));
out:
    free(list.text);
    papa_arena_free(&scratch);
    if (status)
        papa_metadata_free(out);
    return status;
}

/* papa.ingredients of the edit comes from a listing that lives as long as the hashes. */
static PapaStatus set_listing(const PapaIngredients *in, PapaEdit *edit, const double *weights, const PapaScore *val)
{
    PapaArena *arena = papa_hashes_arena(in->hashes);
    Listing *list = PAPA_NEW(arena, Listing);
    PAPA_TRY(list ? list_all(list, in, arena, weights, val) : PAPA_ERR_MEMORY);
    char *text = papa_arena_strdup(arena, list->text);
    free(list->text);
    list->text = text;
    return text ? papa_edit_set_metadata_from(edit, "papa.ingredients", list->bytes, fill_list, list) : PAPA_ERR_MEMORY;
}

PapaStatus papa_ingredients_describe(const PapaIngredients *in, PapaEdit *edit, const char *kind, const char *method, const double *weights, const PapaScore *val)
{
    PapaMetadata metadata = {0};
    PapaStatus status = begin_metadata(&metadata, in, kind, method);
    for (int i = 0; i < metadata.n && !status; i++)
        status = papa_edit_set_metadata(edit, metadata.pairs[i][0], metadata.pairs[i][1]);
    if (!status)
        status = set_listing(in, edit, weights, val);
    papa_metadata_free(&metadata);
    return status ? status : papa_hashes_start(in->hashes);
}
