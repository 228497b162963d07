/* See deferred.h. */
#include "train/deferred.h"

struct PapaDeferredLine {
    PapaDeferredLine *next;
    const char *text;
};

static void tell(const PapaDeferred *deferred, const char *text)
{
    if (deferred->to && deferred->to->remark)
        deferred->to->remark(deferred->to->context, text);
}

static void on_remark(void *context, const char *text)
{
    PapaDeferred *deferred = context;
    PapaDeferredLine *line = deferred->released ? NULL : PAPA_NEW(&deferred->arena, PapaDeferredLine);
    if (line)
        line->text = papa_arena_strdup(&deferred->arena, text);
    if (!line || !line->text) { /* without memory to hold it back, it is told at once */
        tell(deferred, text);
        return;
    }
    *deferred->last = line;
    deferred->last = &line->next;
}

static void on_progress(void *context, const PapaProgress *progress)
{
    const PapaDeferred *deferred = context;
    deferred->to->progress(deferred->to->context, progress);
}

void papa_deferred_begin(PapaDeferred *deferred, const PapaHooks *to)
{
    *deferred = (PapaDeferred){.to = to, .arena = PAPA_ARENA_INIT, .last = &deferred->first};
    deferred->hooks = (PapaHooks){.context = deferred, .remark = on_remark, .progress = to && to->progress ? on_progress : NULL,
        .stop = to ? to->stop : NULL};
}

void papa_deferred_release(PapaDeferred *deferred)
{
    deferred->released = true;
    for (const PapaDeferredLine *line = deferred->first; line; line = line->next)
        tell(deferred, line->text);
    deferred->first = NULL;
    deferred->last = &deferred->first;
}

void papa_deferred_free(PapaDeferred *deferred)
{
    papa_arena_free(&deferred->arena);
}
