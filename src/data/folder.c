/* A folder of JPEG files per class, perhaps inside train/ and test/ or val/. Lists the files, and decodes them at once,
 * in parallel, where the result fits the memory budget. Names sort by their bytes; hidden ones don't count. */
#include "data/dataset.h"

#include "base/clock.h"
#include "data/jpeg.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------- listing */

/* Names in one folder, sorted; they lie in the data set's arena. */
typedef struct Names {
    char **items;
    size_t n, capacity;
} Names;

static PapaStatus append(Names *names, PapaArena *arena, const char *name)
{
    if (names->n == names->capacity) {
        size_t capacity = names->capacity ? 2 * names->capacity : 64;
        char **items = realloc(names->items, capacity * sizeof *items);
        if (!items)
            return papa_fail_memory(capacity * sizeof *items, "a list of files");
        names->items = items;
        names->capacity = capacity;
    }
    names->items[names->n] = papa_arena_strdup(arena, name);
    return names->items[names->n++] ? PAPA_OK : PAPA_ERR_MEMORY;
}

static bool is_jpeg_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

static bool has_type(DIR *directory, const struct dirent *entry, bool folder)
{
    if (entry->d_type == DT_DIR || entry->d_type == DT_REG)
        return (entry->d_type == DT_DIR) == folder;
    struct stat info; /* a link, or a file system that doesn't tell */
    return fstatat(dirfd(directory), entry->d_name, &info, 0) == 0 && (folder ? S_ISDIR(info.st_mode) : S_ISREG(info.st_mode));
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The sub-folders of path, or its JPEG files. */
static PapaStatus list(Names *out, PapaArena *arena, const char *path, bool folders)
{
    *out = (Names){0};
    DIR *directory = opendir(path);
    if (!directory)
        return papa_fail(PAPA_ERR_IO, "cannot read folder %s: %s", path, strerror(errno));
    PapaStatus status = PAPA_OK;
    struct dirent *entry;
    while ((void)(errno = 0), (entry = readdir(directory)))
        if (entry->d_name[0] != '.' && (folders || is_jpeg_name(entry->d_name)) && has_type(directory, entry, folders))
            PAPA_GOTO(append(out, arena, entry->d_name));
    if (errno)
        status = papa_fail(PAPA_ERR_IO, "cannot read folder %s: %s", path, strerror(errno));
    else if (out->n)
        qsort(out->items, out->n, sizeof *out->items, by_bytes);
out:
    closedir(directory);
    return status;
}

static bool contains(const Names *names, const char *name)
{
    return names->n && bsearch(&name, names->items, names->n, sizeof *names->items, by_bytes);
}

/* Where the classes of the wanted split lie, and where those that define the numbering do: the training images'. */
typedef struct Layout {
    const char *wanted, *numbering;
} Layout;

static PapaStatus find_layout(Layout *out, PapaData *data, const PapaDataRequest *request)
{
    Names names;
    PapaStatus status;
    const char *part = NULL;
    PAPA_GOTO(list(&names, &data->arena, request->folder, true));
    bool train = contains(&names, "train"), test = contains(&names, "test"), val = contains(&names, "val");
    data->has_splits = train || test || val;
    *out = (Layout){request->folder, request->folder};
    if (!data->has_splits)
        goto out;
    if (request->split == PAPA_SPLIT_TRAIN)
        part = train ? "train" : NULL;
    else
        part = test ? "test" : val ? "val" : NULL;
    if (!part) {
        status = papa_fail(PAPA_ERR_IO, "data set %s has no %s folder", request->folder,
            request->split == PAPA_SPLIT_TRAIN ? "train/" : "test/ or val/");
        goto out;
    }
    out->wanted = papa_arena_printf(&data->arena, "%s/%s", request->folder, part);
    out->numbering = train ? papa_arena_printf(&data->arena, "%s/train", request->folder) : out->wanted;
    if (!out->wanted || !out->numbering)
        status = PAPA_ERR_MEMORY;
out:
    free(names.items);
    return status;
}

/* Paths and labels as they are found; the data set's own arrays are made when their number is known. */
typedef struct Listing {
    Names paths;
    size_t *class_ends; /* paths [class_ends[c-1], class_ends[c]) belong to class c */
} Listing;

static PapaStatus list_class(Listing *listing, PapaData *data, const char *folder, const char *class_name)
{
    char *path = papa_arena_printf(&data->arena, "%s/%s", folder, class_name);
    Names files;
    if (!path)
        return PAPA_ERR_MEMORY;
    PapaStatus status;
    PAPA_GOTO(list(&files, &data->arena, path, false));
    if (!files.n)
        status = papa_fail(PAPA_ERR_FORMAT, "class folder %s holds no JPEG file (.jpg, .jpeg)", path);
    for (size_t i = 0; i < files.n; i++) {
        char *file = papa_arena_printf(&data->arena, "%s/%s", path, files.items[i]);
        if (!file) {
            status = PAPA_ERR_MEMORY;
            goto out;
        }
        PAPA_GOTO(append(&listing->paths, &data->arena, file));
    }
out:
    free(files.items);
    return status;
}

static PapaStatus list_classes(Listing *listing, PapaData *data, const Layout *layout)
{
    Names classes = {0}, present = {0};
    PapaStatus status;
    PAPA_GOTO(list(&classes, &data->arena, layout->numbering, true));
    PAPA_GOTO(list(&present, &data->arena, layout->wanted, true));
    if (!present.n || classes.n > INT16_MAX) {
        status = papa_fail(PAPA_ERR_FORMAT,
            "folder %s holds %zu class folders, expected one per class (of JPEG files), IDX or CIFAR files", layout->wanted,
            classes.n);
        goto out;
    }
    for (size_t i = 0; i < present.n; i++)
        if (!contains(&classes, present.items[i])) {
            status = papa_fail(PAPA_ERR_MISMATCH, "class folder %s/%s has no counterpart in %s", layout->wanted, present.items[i],
                layout->numbering);
            goto out;
        }
    const char **names = PAPA_NEW_ARRAY(&data->arena, const char *, classes.n);
    listing->class_ends = PAPA_NEW_ARRAY(&data->arena, size_t, classes.n);
    if (!names || !listing->class_ends) {
        status = PAPA_ERR_MEMORY;
        goto out;
    }
    for (size_t c = 0; c < classes.n; c++) {
        names[c] = classes.items[c];
        if (contains(&present, names[c]))
            PAPA_GOTO(list_class(listing, data, layout->wanted, names[c]));
        listing->class_ends[c] = listing->paths.n;
    }
    data->info.class_names = names;
    data->info.n_classes = (int)classes.n;
out:
    free(classes.items);
    free(present.items);
    return status;
}

/* ---------------------------------------------------------------- decoding */

#define PIECE 32 /* images per task */

typedef struct DecodeJob {
    const PapaData *data;
    uint8_t *images;
    int64_t begin, end; /* of this round */
} DecodeJob;

static PapaStatus decode_piece(void *context, int worker, int task)
{
    (void)worker;
    const DecodeJob *job = context;
    PapaJpegScratch scratch = {0};
    PapaStatus status = PAPA_OK;
    int64_t begin = job->begin + (int64_t)task * PIECE, end = begin + PIECE < job->end ? begin + PIECE : job->end;
    for (int64_t i = begin; i < end && status == PAPA_OK; i++)
        status = papa_jpeg_decode(
            job->images + i * papa_data_image_bytes(job->data), job->data->paths[i], papa_data_size(job->data), &scratch);
    papa_jpeg_scratch_free(&scratch);
    return status;
}

/* In rounds, so that between them this thread can tell how far it is and whether to stop. */
static PapaStatus decode_all(PapaData *data, const PapaHooks *hooks)
{
    int64_t n = data->info.n;
    size_t bytes = (size_t)(n * papa_data_image_bytes(data));
    PapaPool *pool = NULL;
    PapaStatus status = PAPA_OK;
    uint8_t *images = malloc(bytes);
    if (!images)
        return papa_fail_memory(bytes, "decoded images");
    PAPA_GOTO(papa_pool_new(&pool, papa_cores()));
    int64_t round = (int64_t)papa_pool_workers(pool) * 8 * PIECE;
    double began = papa_now(), told = -1;
    for (int64_t begin = 0; begin < n; begin += round) {
        DecodeJob job = {data, images, begin, begin + round < n ? begin + round : n};
        PAPA_GOTO(papa_pool_for(pool, (int)((job.end - begin + PIECE - 1) / PIECE), decode_piece, &job));
        if (hooks && hooks->stop && *hooks->stop) {
            status = papa_fail(PAPA_ERR_STOPPED, "stopped while data set %s was being decoded", data->info.name);
            goto out;
        }
        double now = papa_now() - began;
        if (hooks && hooks->progress && (now - told >= 0.1 || job.end == n)) {
            told = now;
            hooks->progress(hooks->context,
                &(PapaProgress){.phase = PAPA_PHASE_LOAD, .done = job.end, .total = n, .n_images = job.end, .seconds = now});
        }
    }
    data->images = images;
    images = NULL;
out:
    free(images);
    papa_pool_free(pool);
    return status;
}

/* What is not asked for is as the first file has it. */
static PapaStatus choose_size(PapaImageSize *out, const PapaData *data, PapaImageSize asked, const char *first_path)
{
    *out = asked;
    if (asked.channels && asked.channels != 1 && asked.channels != 3)
        return papa_fail(PAPA_ERR_MISMATCH, "data set %s has JPEG files, which decode to 1 or 3 channels, but %lld are asked for",
            data->info.name, (long long)asked.channels);
    if (asked.channels && asked.height && asked.width)
        return PAPA_OK;
    PapaImageSize first;
    PAPA_TRY(papa_jpeg_size(&first, first_path));
    out->channels = asked.channels ? asked.channels : first.channels;
    out->height = asked.height ? asked.height : first.height;
    out->width = asked.width ? asked.width : first.width;
    return PAPA_OK;
}

PapaStatus papa_folder_open(PapaData *data, const PapaDataRequest *request)
{
    Layout layout;
    Listing listing = {0};
    PapaImageSize size;
    PapaStatus status;
    PAPA_GOTO(find_layout(&layout, data, request));
    PAPA_GOTO(list_classes(&listing, data, &layout));
    PAPA_GOTO(choose_size(&size, data, request->size, listing.paths.items[0]));
    PAPA_GOTO(papa_data_shape(data, request, (int64_t)listing.paths.n, size.channels, size.height, size.width));
    data->paths = PAPA_NEW_ARRAY(&data->arena, const char *, listing.paths.n);
    if (!data->paths) {
        status = PAPA_ERR_MEMORY;
        goto out;
    }
    for (size_t i = 0, c = 0; i < listing.paths.n; i++) {
        while (i >= listing.class_ends[c])
            c++;
        data->paths[i] = listing.paths.items[i];
        data->labels[i] = (int32_t)c;
    }
    if (listing.paths.n <= request->budget_bytes / (size_t)papa_data_image_bytes(data))
        PAPA_GOTO(decode_all(data, request->hooks));
out:
    free(listing.paths.items);
    return status;
}
