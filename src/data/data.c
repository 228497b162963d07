/* Opening a data set: where a name leads, which reader takes it, and what readers share. */
#include "data/dataset.h"

#include "data/jpeg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A set that papa finds by name: $PAPA_DATA/NAME, or where the system's package puts it. */
typedef struct KnownSet {
    const char *name, *system_folder, *package;
    const char *const *class_names;
    int n_classes;
} KnownSet;

static const char *const fashion_names[] = {
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
};

static const KnownSet known_sets[] = {
    {"fashion-mnist", "/usr/share/datasets/fashion-mnist", "dataset-fashion-mnist", fashion_names, 10},
};

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static PapaStatus find_known(PapaData *data, PapaDataRequest *request, const KnownSet *set)
{
    data->info.class_names = set->class_names;
    data->info.n_classes = set->n_classes;
    const char *root = getenv("PAPA_DATA");
    request->folder = set->system_folder;
    if (root && *root) {
        char *own = papa_arena_printf(&data->arena, "%s/%s", root, set->name);
        if (!own)
            return PAPA_ERR_MEMORY;
        if (is_folder(own))
            request->folder = own;
    }
    if (!is_folder(request->folder))
        return papa_fail(PAPA_ERR_IO, "%s is neither in $PAPA_DATA nor in %s: install the package %s", set->name,
            set->system_folder, set->package);
    return PAPA_OK;
}

static PapaStatus find_folder(PapaData *data, PapaDataRequest *request, const char *name)
{
    for (size_t i = 0; i < sizeof known_sets / sizeof *known_sets; i++)
        if (!strcmp(name, known_sets[i].name))
            return find_known(data, request, &known_sets[i]);
    request->folder = name;
    struct stat info;
    if (stat(name, &info) != 0)
        return papa_fail(PAPA_ERR_IO, "cannot open data set %s: %s", name, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return papa_fail(PAPA_ERR_FORMAT, "data set %s: not a folder", name);
    return PAPA_OK;
}

/* Two sets are open in a training run, and the networks need room too. */
static size_t quarter_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages / 4 * (size_t)page : (size_t)1 << 30;
}

PapaStatus papa_data_open_within(
    PapaData **out, const char *name, PapaSplit split, PapaImageSize size, const PapaHooks *hooks, size_t budget_bytes)
{
    *out = NULL;
    PapaData *data = calloc(1, sizeof *data);
    if (!data)
        return papa_fail_memory(sizeof *data, "a data set");
    PapaDataRequest request = {
        .split = split, .size = size, .hooks = hooks, .budget_bytes = budget_bytes ? budget_bytes : quarter_of_memory()};
    PapaStatus status;
    data->info.name = papa_arena_strdup(&data->arena, name);
    if (!data->info.name) {
        status = PAPA_ERR_MEMORY;
        goto out;
    }
    PAPA_GOTO(find_folder(data, &request, name));
    if (papa_idx_here(request.folder))
        PAPA_GOTO(papa_idx_open(data, &request));
    else if (papa_cifar_here(request.folder))
        PAPA_GOTO(papa_cifar_open(data, &request));
    else
        PAPA_GOTO(papa_folder_open(data, &request));
    *out = data;
    data = NULL;
out:
    papa_data_close(data);
    return status;
}

PapaStatus papa_data_open(PapaData **out, const char *name, PapaSplit split, PapaImageSize size, const PapaHooks *hooks)
{
    return papa_data_open_within(out, name, split, size, hooks, 0);
}

void papa_data_close(PapaData *data)
{
    if (!data)
        return;
    free(data->images);
    free(data->labels);
    papa_arena_free(&data->arena);
    free(data);
}

PapaStatus papa_data_shape(PapaData *data, const PapaDataRequest *request, int64_t n, int64_t channels, int64_t height, int64_t width)
{
    PapaImageSize want = request->size;
    if ((want.channels && want.channels != channels) || (want.height && want.height != height) || (want.width && want.width != width))
        return papa_fail(PAPA_ERR_MISMATCH,
            "data set %s has images of %lldx%lldx%lld (channels x height x width), but %lldx%lldx%lld is asked for",
            data->info.name, (long long)channels, (long long)height, (long long)width, (long long)want.channels,
            (long long)want.height, (long long)want.width);
    if (n > UINT32_MAX)
        return papa_fail(PAPA_ERR_FORMAT, "data set %s has %lld images, more than 2^32 - 1", data->info.name, (long long)n);
    data->info.n = n;
    data->info.channels = channels;
    data->info.height = height;
    data->info.width = width;
    data->labels = malloc((size_t)n * sizeof *data->labels);
    return data->labels ? PAPA_OK : papa_fail_memory((size_t)n * sizeof *data->labels, "labels");
}

PapaStatus papa_data_number_classes(PapaData *data, int n_classes)
{
    const char **names = PAPA_NEW_ARRAY(&data->arena, const char *, n_classes);
    if (!names)
        return PAPA_ERR_MEMORY;
    for (int i = 0; i < n_classes; i++)
        if (!(names[i] = papa_arena_printf(&data->arena, "%d", i)))
            return PAPA_ERR_MEMORY;
    data->info.class_names = names;
    data->info.n_classes = n_classes;
    return PAPA_OK;
}

PapaStatus papa_data_blank(PapaData **out, PapaImageSize size, int n_classes, int64_t n)
{
    *out = NULL;
    PapaData *data = calloc(1, sizeof *data);
    if (!data)
        return papa_fail_memory(sizeof *data, "a data set");
    PapaDataRequest request = {0};
    PapaStatus status;
    data->info.name = "blank images";
    PAPA_GOTO(papa_data_shape(data, &request, n, size.channels, size.height, size.width));
    PAPA_GOTO(papa_data_number_classes(data, n_classes));
    memset(data->labels, 0, (size_t)n * sizeof *data->labels);
    data->images = calloc((size_t)n, (size_t)papa_data_image_bytes(data));
    if (!data->images) {
        status = papa_fail_memory((size_t)(n * papa_data_image_bytes(data)), "blank images");
        goto out;
    }
    *out = data;
    data = NULL;
out:
    papa_data_close(data);
    return status;
}

int64_t papa_data_image_bytes(const PapaData *data)
{
    return data->info.channels * data->info.height * data->info.width;
}

PapaImageSize papa_data_size(const PapaData *data)
{
    return (PapaImageSize){data->info.channels, data->info.height, data->info.width};
}

PapaDataInfo papa_data_info(const PapaData *data)
{
    return data->info;
}

bool papa_data_has_splits(const PapaData *data)
{
    return data->has_splits;
}

const int32_t *papa_data_labels(const PapaData *data)
{
    return data->labels;
}

const uint8_t *papa_data_images(const PapaData *data)
{
    return data->images;
}

PapaStatus papa_data_fetch(const PapaData *data, uint8_t *to, int32_t *labels, const uint32_t *indices, int64_t n)
{
    int64_t bytes = papa_data_image_bytes(data);
    PapaStatus status = PAPA_OK;
    PapaJpegScratch scratch = {0};
    for (int64_t i = 0; i < n; i++) {
        if (labels)
            labels[i] = data->labels[indices[i]];
        if (data->images)
            memcpy(to + i * bytes, data->images + indices[i] * bytes, (size_t)bytes);
        else
            PAPA_GOTO(papa_jpeg_decode(to + i * bytes, data->paths[indices[i]], papa_data_size(data), &scratch));
    }
out:
    papa_jpeg_scratch_free(&scratch);
    return status;
}
