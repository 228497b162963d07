#include "train/metadata.h"

#include "base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PapaStatus grow(PapaMetadata *m)
{
    int capacity = m->capacity ? 2 * m->capacity : 32;
    PapaMetadataPair *pairs = PAPA_NEW_ARRAY(&m->arena, PapaMetadataPair, capacity);
    if (!pairs)
        return PAPA_ERR_MEMORY;
    if (m->n)
        memcpy(pairs, m->pairs, (size_t)m->n * sizeof *pairs);
    m->pairs = pairs;
    m->capacity = capacity;
    return PAPA_OK;
}

static PapaStatus set(PapaMetadata *m, const char *key, const char *value)
{
    int i = 0;
    while (i < m->n && strcmp(m->pairs[i][0], key) != 0)
        i++;
    if (i == m->capacity)
        PAPA_TRY(grow(m));
    if (i == m->n)
        m->n++;
    m->pairs[i][0] = key;
    m->pairs[i][1] = value;
    return PAPA_OK;
}

PapaStatus papa_metadata_forget(PapaMetadata *m, const PapaOnnx *onnx)
{
    const Onnx__ModelProto *model = papa_onnx_model(onnx);
    for (size_t i = 0; i < model->n_metadata_props; i++) {
        const char *key = model->metadata_props[i]->key;
        if (key && (strncmp(key, "papa.", 5) == 0 || strcmp(key, "Image.NominalPixelRange") == 0))
            PAPA_TRY(set(m, key, NULL));
    }
    return PAPA_OK;
}

PapaStatus papa_metadata_set(PapaMetadata *m, const char *key, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *copy = papa_arena_strdup(&m->arena, text);
    return copy ? set(m, key, copy) : PAPA_ERR_MEMORY;
}

PapaStatus papa_metadata_set_text(PapaMetadata *m, const char *key, const char *value)
{
    const char *copy = value ? papa_arena_strdup(&m->arena, value) : NULL;
    return copy || !value ? set(m, key, copy) : PAPA_ERR_MEMORY;
}

PapaStatus papa_metadata_set_numbers(PapaMetadata *m, const char *key, const double *values, int n)
{
    size_t bytes = (size_t)n * PAPA_NUMBER_BYTES + 1, used = 0;
    char *text = papa_arena_alloc(&m->arena, bytes), number[PAPA_NUMBER_BYTES];
    if (!text)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? "," : "", papa_number_text(number, values[i]));
    return set(m, key, text);
}

PapaStatus papa_metadata_set_number(PapaMetadata *m, const char *key, double value)
{
    return papa_metadata_set_numbers(m, key, &value, 1);
}

static PapaStatus set_score(PapaMetadata *m, const char *accuracy, const char *loss, const char *n, const PapaScore *score)
{
    if (isnan(score->accuracy))
        return PAPA_OK;
    PAPA_TRY(papa_metadata_set_number(m, accuracy, score->accuracy));
    PAPA_TRY(papa_metadata_set_number(m, loss, score->loss));
    return papa_metadata_set(m, n, "%lld", (long long)score->n);
}

PapaStatus papa_metadata_set_scores(PapaMetadata *m, const PapaScore *val, const PapaScore *test)
{
    PAPA_TRY(set_score(m, "papa.score.val.accuracy", "papa.score.val.loss", "papa.score.val.n", val));
    return set_score(m, "papa.score.test.accuracy", "papa.score.test.loss", "papa.score.test.n", test);
}

/* Names come from folders and may hold anything. */
static size_t quote(char *to, const char *name)
{
    static const char digits[] = "0123456789abcdef";
    char *at = to;
    *at++ = '"';
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        if (*c < 0x20) {
            memcpy(at, "\\u00", 4);
            at[4] = digits[*c >> 4];
            at[5] = digits[*c & 15];
            at += 6;
            continue;
        }
        if (*c == '"' || *c == '\\')
            *at++ = '\\';
        *at++ = (char)*c;
    }
    *at++ = '"';
    return (size_t)(at - to);
}

PapaStatus papa_metadata_set_classes(PapaMetadata *m, const char *const *names, int n)
{
    size_t bytes = 3, used = 0;
    for (int i = 0; i < n; i++)
        bytes += 6 * strlen(names[i]) + 3;
    char *text = papa_arena_alloc(&m->arena, bytes);
    if (!text)
        return PAPA_ERR_MEMORY;
    text[used++] = '[';
    for (int i = 0; i < n; i++) {
        if (i)
            text[used++] = ',';
        used += quote(text + used, names[i]);
    }
    text[used] = ']'; /* zeroed memory ends it */
    return set(m, "papa.classes", text);
}

void papa_metadata_free(PapaMetadata *m)
{
    papa_arena_free(&m->arena);
    *m = (PapaMetadata){0};
}

bool papa_metadata_numbers(const char *text, double *values, int n)
{
    for (int i = 0; i < n; i++) {
        char *end;
        values[i] = strtod(text, &end);
        if (end == text || *end != (i + 1 < n ? ',' : '\0'))
            return false;
        text = end + 1;
    }
    return true;
}

PapaStatus papa_metadata_normalization(bool *found, double *mean, double *std, const PapaOnnx *onnx, const char *images, int n_channels)
{
    const char *means = papa_onnx_metadata(onnx, "papa.normalization.mean"), *stds = papa_onnx_metadata(onnx, "papa.normalization.std");
    *found = means && stds;
    if (!*found)
        return PAPA_OK;
    bool good = papa_metadata_numbers(means, mean, n_channels) && papa_metadata_numbers(stds, std, n_channels);
    for (int c = 0; c < n_channels && good; c++)
        good = isfinite(mean[c]) && std[c] > 0 && isfinite(std[c]);
    if (good)
        return PAPA_OK;
    return papa_fail(PAPA_ERR_MISMATCH, "%s: says to normalise with mean '%s' and std '%s', images of %s have %d channels", papa_onnx_path(onnx),
        means, stds, images, n_channels);
}
