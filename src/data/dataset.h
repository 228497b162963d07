/* What the readers of src/data fill in and the rest of it uses. Not for other folders: they include data/data.h. */
#ifndef PAPA_DATASET_H
#define PAPA_DATASET_H

#include "base/arena.h"
#include "data/data.h"

#include <zlib.h>

struct PapaData {
    PapaArena arena;      /* names and paths */
    PapaDataInfo info;
    bool has_splits;
    int32_t *labels;      /* (n) */
    uint8_t *images;      /* (n, height, width, channels), or NULL */
    const char **paths;   /* (n) of JPEG files; NULL for other sets */
};

/* What a caller asked for. */
typedef struct PapaDataRequest {
    const char *folder;
    PapaSplit split;
    PapaImageSize size;
    const PapaHooks *hooks;
    size_t budget_bytes;
} PapaDataRequest;

/* Whether the folder holds files of this kind; then _open fills in a zeroed data set (what it allocated stays with
 * data on failure too). A folder with neither IDX nor CIFAR files is taken for one of JPEG folders. */
bool papa_idx_here(const char *folder);
bool papa_cifar_here(const char *folder);
PapaStatus papa_idx_open(PapaData *data, const PapaDataRequest *request);
PapaStatus papa_cifar_open(PapaData *data, const PapaDataRequest *request);
PapaStatus papa_folder_open(PapaData *data, const PapaDataRequest *request);

/* Fills in n, channels, height, width and allocates images and labels; checks size against what the caller asked for. */
PapaStatus papa_data_shape(PapaData *data, const PapaDataRequest *request, int64_t n, int64_t channels, int64_t height, int64_t width);

/* Names the classes "0", "1", ... */
PapaStatus papa_data_number_classes(PapaData *data, int n_classes);

int64_t papa_data_image_bytes(const PapaData *data);
PapaImageSize papa_data_size(const PapaData *data);

/* A file of bytes, plain or gzip, that is read from its beginning to its end. */
typedef struct PapaStream {
    gzFile file;
    const char *path;   /* borrowed */
    uint64_t position;  /* in the bytes that it holds */
    uint64_t disk_bytes;
} PapaStream;

bool papa_stream_exists(const char *path);
PapaStatus papa_stream_open(PapaStream *out, const char *path);
PapaStatus papa_stream_read(PapaStream *stream, void *to, size_t bytes, const char *what); /* what: for the message */
PapaStatus papa_stream_end(PapaStream *stream); /* fails if more bytes follow */
/* Fails if the file is too small to hold this many more bytes, however well they compress: asked before memory is allocated. */
PapaStatus papa_stream_expect(PapaStream *stream, uint64_t bytes, const char *what);
void papa_stream_close(PapaStream *stream);

#endif
