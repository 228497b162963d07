/* IDX files (LeCun's MNIST page): big-endian magic 0x00 0x00 type dims, then the sizes, then the bytes.
 * A folder holds four of them, named as MNIST's are, each plain or gzip. */
#include "data/dataset.h"

#include <stdlib.h>

#define TYPE_UINT8 0x08
#define MAX_PIXELS ((uint64_t)1 << 32) /* of an image: keeps products within 64 bits */

static const char *const parts[] = {[PAPA_SPLIT_TRAIN] = "train", [PAPA_SPLIT_TEST] = "t10k"};

/* FOLDER/PART-KIND-idxD-ubyte or PART-KIND.idxD-ubyte, plain or .gz, whichever is there first; NULL: none. */
static char *find(PapaArena *arena, const char *folder, PapaSplit split, const char *kind, int n_dims)
{
    for (int i = 0; i < 4; i++) {
        char *path = papa_arena_printf(
            arena, "%s/%s-%s%cidx%d-ubyte%s", folder, parts[split], kind, i & 2 ? '.' : '-', n_dims, i & 1 ? ".gz" : "");
        if (path && papa_stream_exists(path))
            return path;
    }
    return NULL;
}

bool papa_idx_here(const char *folder)
{
    PapaArena arena = PAPA_ARENA_INIT;
    bool here = find(&arena, folder, PAPA_SPLIT_TRAIN, "images", 3) || find(&arena, folder, PAPA_SPLIT_TRAIN, "labels", 1) ||
                find(&arena, folder, PAPA_SPLIT_TEST, "images", 3) || find(&arena, folder, PAPA_SPLIT_TEST, "labels", 1);
    papa_arena_free(&arena);
    return here;
}

/* Reads magic and sizes. bytes of what follows must be there, as far as the file's length can tell. */
static PapaStatus read_header(PapaStream *stream, uint64_t *dims, int n_dims, const char *what)
{
    unsigned char head[4 + 4 * 3];
    PAPA_TRY(papa_stream_read(stream, head, 4, "IDX header"));
    if (head[0] || head[1] || head[2] != TYPE_UINT8 || head[3] != n_dims)
        return papa_fail(PAPA_ERR_FORMAT, "%s: not an IDX file of %s: begins with %02x %02x %02x %02x, expected 00 00 08 %02x",
            stream->path, what, head[0], head[1], head[2], head[3], (unsigned)n_dims);
    PAPA_TRY(papa_stream_read(stream, head + 4, 4 * (size_t)n_dims, "IDX header"));
    for (int i = 0; i < n_dims; i++) {
        const unsigned char *b = head + 4 + 4 * i;
        dims[i] = (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3];
        if (!dims[i])
            return papa_fail(PAPA_ERR_FORMAT, "%s: size %d of %d is 0", stream->path, i + 1, n_dims);
    }
    uint64_t item = n_dims == 3 ? dims[1] * dims[2] : 1;
    if (item >= MAX_PIXELS)
        return papa_fail(PAPA_ERR_FORMAT, "%s: images of %llu x %llu pixels", stream->path, (unsigned long long)dims[1],
            (unsigned long long)dims[2]);
    return papa_stream_expect(stream, dims[0] * item, what);
}

static PapaStatus read_images(PapaData *data, const PapaDataRequest *request, const char *path)
{
    PapaStream stream;
    uint64_t dims[3];
    PapaStatus status;
    PAPA_GOTO(papa_stream_open(&stream, path));
    PAPA_GOTO(read_header(&stream, dims, 3, "images"));
    PAPA_GOTO(papa_data_shape(data, request, (int64_t)dims[0], 1, (int64_t)dims[1], (int64_t)dims[2]));
    data->images = malloc((size_t)(dims[0] * dims[1] * dims[2]));
    if (!data->images) {
        status = papa_fail_memory((size_t)(dims[0] * dims[1] * dims[2]), path);
        goto out;
    }
    PAPA_GOTO(papa_stream_read(&stream, data->images, (size_t)(dims[0] * dims[1] * dims[2]), "images"));
    PAPA_GOTO(papa_stream_end(&stream));
out:
    papa_stream_close(&stream);
    return status;
}

/* *out: malloc'd, the caller's. */
static PapaStatus read_labels(uint8_t **out, int64_t *n, const char *path)
{
    PapaStream stream;
    uint64_t count = 0;
    PapaStatus status;
    *out = NULL;
    PAPA_GOTO(papa_stream_open(&stream, path));
    PAPA_GOTO(read_header(&stream, &count, 1, "labels"));
    *n = (int64_t)count;
    *out = malloc(count);
    if (!*out) {
        status = papa_fail_memory(count, path);
        goto out;
    }
    PAPA_GOTO(papa_stream_read(&stream, *out, count, "labels"));
    PAPA_GOTO(papa_stream_end(&stream));
out:
    papa_stream_close(&stream);
    if (status != PAPA_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

static int count_classes(const uint8_t *labels, int64_t n)
{
    int most = 0;
    for (int64_t i = 0; i < n; i++)
        most = labels[i] > most ? labels[i] : most;
    return most + 1;
}

/* The training labels say how many classes there are, for both splits; a set without them is taken by its own labels. */
static PapaStatus define_classes(PapaData *data, const PapaDataRequest *request, const uint8_t *labels, int64_t n)
{
    if (data->info.n_classes)
        return PAPA_OK; /* a set with known names */
    char *path = request->split == PAPA_SPLIT_TRAIN ? NULL : find(&data->arena, request->folder, PAPA_SPLIT_TRAIN, "labels", 1);
    if (!path)
        return papa_data_number_classes(data, count_classes(labels, n));
    uint8_t *trained;
    int64_t n_trained;
    PAPA_TRY(read_labels(&trained, &n_trained, path));
    int n_classes = count_classes(trained, n_trained);
    free(trained);
    return papa_data_number_classes(data, n_classes);
}

static PapaStatus take_labels(PapaData *data, const PapaDataRequest *request, const char *path, const char *images_path)
{
    uint8_t *labels;
    int64_t n = 0;
    PAPA_TRY(read_labels(&labels, &n, path));
    PapaStatus status;
    if (n != data->info.n) {
        status = papa_fail(PAPA_ERR_FORMAT, "%s has %lld labels, but %s has %lld images", path, (long long)n, images_path,
            (long long)data->info.n);
        goto out;
    }
    PAPA_GOTO(define_classes(data, request, labels, n));
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] >= data->info.n_classes) {
            status = papa_fail(PAPA_ERR_FORMAT, "%s: label %d of image %lld is beyond the %d classes", path, labels[i],
                (long long)i, data->info.n_classes);
            goto out;
        }
        data->labels[i] = labels[i];
    }
out:
    free(labels);
    return status;
}

PapaStatus papa_idx_open(PapaData *data, const PapaDataRequest *request)
{
    char *images = find(&data->arena, request->folder, request->split, "images", 3);
    char *labels = find(&data->arena, request->folder, request->split, "labels", 1);
    const char *part = parts[request->split];
    if (!images)
        return papa_fail(PAPA_ERR_IO, "%s: %s-images-idx3-ubyte[.gz] is not there", request->folder, part);
    if (!labels)
        return papa_fail(PAPA_ERR_IO, "%s: %s-labels-idx1-ubyte[.gz] is not there", request->folder, part);
    data->has_splits = true;
    PAPA_TRY(read_images(data, request, images));
    return take_labels(data, request, labels, images);
}
