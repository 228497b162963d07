/* CIFAR-10 and CIFAR-100 in their binary form: records of one label byte (CIFAR-100: coarse, then fine) and 3072 pixels
 * in three planes of 32 rows. The files lie in the folder, or in the folder that the archive makes inside it. */
#include "data/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SIDE 32
#define PIXELS (SIDE * SIDE)
#define IMAGE_BYTES (3 * PIXELS)
#define MAX_BATCHES 100

typedef struct Kind {
    const char *archive_folder;
    const char *train, *test; /* train may hold %d, counted from 1 */
    const char *class_names;
    int n_label_bytes, n_classes;
} Kind;

static const Kind kinds[] = {
    {"cifar-10-batches-bin", "data_batch_%d.bin", "test_batch.bin", "batches.meta.txt", 1, 10},
    {"cifar-100-binary", "train.bin", "test.bin", "fine_label_names.txt", 2, 100},
};

/* The path of a training file by number, or of the test file; NULL: out of memory. */
static char *file_path(PapaArena *arena, const char *folder, const Kind *kind, PapaSplit split, int number)
{
    char *at = strstr(kind->train, "%d");
    if (split == PAPA_SPLIT_TEST)
        return papa_arena_printf(arena, "%s/%s", folder, kind->test);
    if (!at)
        return papa_arena_printf(arena, "%s/%s", folder, kind->train);
    return papa_arena_printf(arena, "%s/%.*s%d%s", folder, (int)(at - kind->train), kind->train, number, at + 2);
}

/* Which kind lies where; NULL: none. *folder: request's or the one inside it. */
static const Kind *recognise(PapaArena *arena, const char **folder, const char *outer)
{
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int inner = 0; inner < 2; inner++) {
            *folder = inner ? papa_arena_printf(arena, "%s/%s", outer, kinds[k].archive_folder) : outer;
            char *train = *folder ? file_path(arena, *folder, &kinds[k], PAPA_SPLIT_TRAIN, 1) : NULL;
            char *test = *folder ? file_path(arena, *folder, &kinds[k], PAPA_SPLIT_TEST, 0) : NULL;
            if (train && test && (papa_stream_exists(train) || papa_stream_exists(test)))
                return &kinds[k];
        }
    return NULL;
}

bool papa_cifar_here(const char *folder)
{
    PapaArena arena = PAPA_ARENA_INIT;
    bool here = recognise(&arena, &(const char *){NULL}, folder);
    papa_arena_free(&arena);
    return here;
}

/* The files of a split, in order. A gap in the numbers of the training files is an error, not a smaller data set. */
static PapaStatus list_files(char **paths, int *n_paths, PapaArena *arena, const char *folder, const Kind *kind, PapaSplit split)
{
    bool numbered = split == PAPA_SPLIT_TRAIN && strstr(kind->train, "%d");
    char *missing = NULL;
    *n_paths = 0;
    for (int i = 1; i <= (numbered ? MAX_BATCHES : 1); i++) {
        char *path = file_path(arena, folder, kind, split, i);
        if (!path)
            return PAPA_ERR_MEMORY;
        bool here = papa_stream_exists(path);
        if (here && missing)
            return papa_fail(PAPA_ERR_IO, "%s is not there, but %s is", missing, path);
        if (here)
            paths[(*n_paths)++] = path;
        else if (!missing)
            missing = path;
    }
    return *n_paths ? PAPA_OK : papa_fail(PAPA_ERR_IO, "%s is not there", missing);
}

static PapaStatus count_records(int64_t *out, const char *path, int64_t record_bytes)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return papa_fail(PAPA_ERR_IO, "cannot read %s", path);
    if (info.st_size == 0 || info.st_size % record_bytes)
        return papa_fail(PAPA_ERR_FORMAT, "%s: %lld bytes, expected a multiple of %lld (label and 3x32x32 pixels)", path,
            (long long)info.st_size, (long long)record_bytes);
    *out = info.st_size / record_bytes;
    return PAPA_OK;
}

static PapaStatus read_records(uint8_t *images, int32_t *labels, const char *path, int64_t n, const Kind *kind)
{
    PapaStream stream;
    PapaStatus status;
    PAPA_GOTO(papa_stream_open(&stream, path));
    for (int64_t i = 0; i < n; i++) {
        uint8_t record[2 + IMAGE_BYTES], *planes = record + kind->n_label_bytes, *image = images + i * IMAGE_BYTES;
        PAPA_GOTO(papa_stream_read(&stream, record, (size_t)kind->n_label_bytes + IMAGE_BYTES, "records"));
        labels[i] = planes[-1];
        if (labels[i] >= kind->n_classes) {
            status = papa_fail(PAPA_ERR_FORMAT, "%s: label %d of record %lld is beyond the %d classes", path, labels[i],
                (long long)i, kind->n_classes);
            goto out;
        }
        for (int p = 0; p < PIXELS; p++)
            for (int c = 0; c < 3; c++)
                image[3 * p + c] = planes[c * PIXELS + p];
    }
    PAPA_GOTO(papa_stream_end(&stream));
out:
    papa_stream_close(&stream);
    return status;
}

/* One name a line, as many as classes; empty lines don't count. Without the file the classes are numbered. */
static PapaStatus read_class_names(PapaData *data, const char *folder, const Kind *kind)
{
    char *path = papa_arena_printf(&data->arena, "%s/%s", folder, kind->class_names), *line = NULL;
    const char **names = PAPA_NEW_ARRAY(&data->arena, const char *, kind->n_classes);
    if (!path || !names)
        return PAPA_ERR_MEMORY;
    FILE *file = fopen(path, "r");
    if (!file && errno != ENOENT)
        return papa_fail(PAPA_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    if (!file)
        return papa_data_number_classes(data, kind->n_classes);
    size_t capacity = 0;
    int n = 0;
    PapaStatus status = PAPA_OK;
    while (getline(&line, &capacity, file) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        if (!*line)
            continue;
        if (n < kind->n_classes && !(names[n] = papa_arena_strdup(&data->arena, line))) {
            status = PAPA_ERR_MEMORY;
            goto out;
        }
        n++;
    }
    if (ferror(file))
        status = papa_fail(PAPA_ERR_IO, "cannot read %s", path);
    else if (n != kind->n_classes)
        status = papa_fail(PAPA_ERR_FORMAT, "%s: %d class names, expected %d", path, n, kind->n_classes);
    data->info.class_names = names;
    data->info.n_classes = kind->n_classes;
out:
    free(line);
    fclose(file);
    return status;
}

PapaStatus papa_cifar_open(PapaData *data, const PapaDataRequest *request)
{
    const char *folder;
    const Kind *kind = recognise(&data->arena, &folder, request->folder);
    if (!kind)
        return papa_fail(PAPA_ERR_IO, "%s: holds no CIFAR file", request->folder);
    char *paths[MAX_BATCHES];
    int64_t counts[MAX_BATCHES], n = 0;
    int n_paths;
    PAPA_TRY(list_files(paths, &n_paths, &data->arena, folder, kind, request->split));
    for (int i = 0; i < n_paths; i++) {
        PAPA_TRY(count_records(&counts[i], paths[i], kind->n_label_bytes + IMAGE_BYTES));
        n += counts[i];
    }
    data->has_splits = true;
    PAPA_TRY(read_class_names(data, folder, kind));
    PAPA_TRY(papa_data_shape(data, request, n, 3, SIDE, SIDE));
    data->images = malloc((size_t)n * IMAGE_BYTES);
    if (!data->images)
        return papa_fail_memory((size_t)n * IMAGE_BYTES, "CIFAR images");
    for (int64_t i = 0, first = 0; i < n_paths; first += counts[i++])
        PAPA_TRY(read_records(data->images + first * IMAGE_BYTES, data->labels + first, paths[i], counts[i], kind));
    return PAPA_OK;
}
