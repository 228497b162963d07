/* The folder of aligned files. All are written into a folder of their own inside it first, and moved to their places when all are complete: what fails before
 * that leaves nothing behind, and what fails then is taken back. */
#include "base/file.h"
#include "jobs/alignment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *model_path(const PapaIngredients *ingredients, int k)
{
    return papa_onnx_path(papa_ingredients_model(ingredients, k)->onnx);
}

PapaStatus papa_alignment_check_folder(const PapaIngredients *in, const char *folder)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    PapaStatus status = PAPA_OK;
    for (int k = 0; k < papa_ingredients_count(in) && status == PAPA_OK; k++) {
        for (int j = 0; j < k; j++)
            if (!strcmp(base_name(model_path(in, j)), base_name(model_path(in, k))))
                PAPA_GOTO(papa_fail(PAPA_ERR_ARGUMENT, "%s and %s would both be written as %s/%s: give one another name, or align them one after the other",
                    model_path(in, j), model_path(in, k), folder, base_name(model_path(in, k))));
        const char *path = papa_arena_printf(&scratch, "%s/%s", folder, base_name(model_path(in, k)));
        struct stat info;
        PAPA_GOTO(path ? papa_ingredients_check_output(in, path) : PAPA_ERR_MEMORY);
        if (!stat(path, &info) && S_ISDIR(info.st_mode))
            PAPA_GOTO(papa_fail(PAPA_ERR_IO, "%s: can't be written: it is a folder", path));
    }
out:
    papa_arena_free(&scratch);
    return status;
}

/* ---------------------------------------------------------------- the folder */

/* Folders that were made for the occasion, from the outermost in, and go again if all fails. */
typedef struct Folder {
    PapaArena *arena;
    const char *path;
    char *stage;      /* the folder inside it; NULL: not made yet */
    size_t there;     /* bytes of path that existed already */
} Folder;

static size_t existing_part(char *path)
{
    struct stat info;
    while (stat(path, &info)) {
        char *slash = strrchr(path, '/');
        if (!slash)
            return 0;
        *slash = 0;
    }
    return strlen(path);
}

static PapaStatus open_folder(Folder *f)
{
    char *copy = papa_arena_strdup(f->arena, f->path);
    char *stage = papa_arena_printf(f->arena, "%s/.papa-align-XXXXXX", f->path);
    if (!copy || !stage)
        return PAPA_ERR_MEMORY;
    f->there = existing_part(copy);
    PAPA_TRY(papa_file_make_folder(f->path));
    if (!mkdtemp(stage))
        return papa_fail(PAPA_ERR_IO, "%s: can't be written to: %s", f->path, strerror(errno));
    f->stage = stage;
    return PAPA_OK;
}

/* Takes the stage away, and with `all` what was made of the folder and is empty. */
static void close_folder(const Folder *f, bool all)
{
    char *path = papa_arena_strdup(f->arena, f->path);
    if (f->stage)
        rmdir(f->stage);
    while (all && path && strlen(path) > f->there && (rmdir(path) == 0 || errno == ENOENT)) {
        char *slash = strrchr(path, '/');
        if (!slash)
            break;
        *slash = 0;
    }
}

/* ---------------------------------------------------------------- moving to their places */

/* One file on its way: an ONNX file or its external data. */
typedef struct Move {
    const char *from, *to;
    const char *old;  /* what stood there, aside in the stage; NULL: nothing did, or it has not been moved yet */
    bool done;
} Move;

typedef struct Moves {
    Move *list;
    int n;
} Moves;

static bool exists(const char *path)
{
    struct stat info;
    return !lstat(path, &info);
}

static PapaStatus fail_move(const char *path)
{
    return papa_fail(PAPA_ERR_IO, "%s: can't be written: %s", path, strerror(errno));
}

static PapaStatus move_all(Moves *moves, PapaArena *arena)
{
    for (int i = 0; i < moves->n; i++) {
        Move *move = &moves->list[i];
        if (exists(move->to)) {
            const char *old = papa_arena_printf(arena, "%s.old", move->from);
            if (!old)
                return PAPA_ERR_MEMORY;
            if (rename(move->to, old))
                return fail_move(move->to);
            move->old = old;
        }
        if (rename(move->from, move->to))
            return fail_move(move->to);
        move->done = true;
    }
    return PAPA_OK;
}

/* As it was: the last one first. */
static void take_back(const Moves *moves)
{
    for (int i = moves->n - 1; i >= 0; i--) {
        const Move *move = &moves->list[i];
        unlink(move->done ? move->to : move->from);
        if (move->old)
            rename(move->old, move->to);
    }
}

static void forget_old(const Moves *moves)
{
    for (int i = 0; i < moves->n; i++)
        if (moves->list[i].old)
            unlink(moves->list[i].old);
}

/* The model's external data first, so that no file appears before what it refers to. */
static PapaStatus plan_moves(Moves *moves, PapaArena *arena, const Folder *f, const char *name)
{
    const char *const suffixes[] = {".data", ""};
    for (int i = 0; i < 2; i++) {
        Move *move = &moves->list[moves->n];
        *move = (Move){.from = papa_arena_printf(arena, "%s/%s%s", f->stage, name, suffixes[i]),
            .to = papa_arena_printf(arena, "%s/%s%s", f->path, name, suffixes[i])};
        if (!move->from || !move->to)
            return PAPA_ERR_MEMORY;
        moves->n += exists(move->from);
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- files */

/* papa.kind, papa.method, papa.aligned and papa.ingredients; the rest is as true of the permuted network as it was. */
static PapaStatus describe(PapaEdit *edit, const PapaMetadata *metadata, const PapaAlignOptions *options)
{
    static const char *const to[] = {"first", "mean", "cycle"};
    for (int i = 0; i < metadata->n; i++)
        if (metadata->pairs[i][1])
            PAPA_TRY(papa_edit_set_metadata(edit, metadata->pairs[i][0], metadata->pairs[i][1]));
    return papa_edit_set_metadata(edit, "papa.aligned", to[options->to]);
}

/* The first model is copied: the folder has all of them. */
static PapaStatus write_model(const PapaAlignment *a, const PapaMetadata *metadata, int k, const char *path)
{
    PapaEdit *edit;
    PAPA_TRY(papa_ingredients_edit_aligned(&edit, a->ingredients, k));
    PapaStatus status = k ? describe(edit, metadata, a->options) : PAPA_OK;
    if (status == PAPA_OK)
        status = papa_edit_write(edit, path);
    papa_edit_free(edit);
    return status;
}

static PapaStatus write_all(Moves *moves, PapaArena *scratch, const PapaAlignment *a, const Folder *f)
{
    const int n = papa_ingredients_count(a->ingredients);
    PapaMetadata metadata;
    moves->list = PAPA_NEW_ARRAY(scratch, Move, 2 * n + 2);
    if (!moves->list)
        return PAPA_ERR_MEMORY;
    PAPA_TRY(papa_ingredients_metadata(&metadata, a->ingredients, "aligned", a->options->method == PAPA_ALIGN_WEIGHTS ? "weights" : "activations", NULL, NULL));
    PapaStatus status = PAPA_OK;
    for (int k = 0; k < n && status == PAPA_OK; k++) {
        const char *name = base_name(model_path(a->ingredients, k)), *path = papa_arena_printf(scratch, "%s/%s", f->stage, name);
        PAPA_GOTO(papa_alignment_check_stop(a->hooks, "all files were written"));
        PAPA_GOTO(path ? write_model(a, &metadata, k, path) : PAPA_ERR_MEMORY);
        PAPA_GOTO(plan_moves(moves, scratch, f, name));
    }
out:
    papa_metadata_free(&metadata);
    return status;
}

PapaStatus papa_alignment_write(const char ***paths, PapaArena *arena, const PapaAlignment *a, const char *path)
{
    const int n = papa_ingredients_count(a->ingredients);
    PapaArena scratch = PAPA_ARENA_INIT;
    Folder folder = {.arena = &scratch, .path = path};
    Moves moves = {0};
    PapaStatus status;
    *paths = PAPA_NEW_ARRAY(arena, const char *, n);
    if (!*paths)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < n; k++) {
        (*paths)[k] = papa_arena_printf(arena, "%s/%s", path, base_name(model_path(a->ingredients, k)));
        if (!(*paths)[k])
            return PAPA_ERR_MEMORY;
    }
    PAPA_GOTO(open_folder(&folder));
    PAPA_GOTO(write_all(&moves, &scratch, a, &folder));
    status = move_all(&moves, &scratch);
out:
    if (status == PAPA_OK)
        forget_old(&moves);
    else
        take_back(&moves);
    close_folder(&folder, status != PAPA_OK);
    papa_arena_free(&scratch);
    return status;
}
