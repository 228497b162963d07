/* The output folder: made when a run is opened, so that one that can't be written fails before the training, and taken away again
 * if the run fails. */
#include "base/file.h"
#include "train/training.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Cuts the last component off; false if there is none to cut. */
static bool cut_last(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return false;
    *slash = 0;
    return *path != 0;
}

PapaStatus papa_training_make_folder(PapaTraining *t)
{
    char *path = strdup(t->options.out);
    struct stat info;
    if (!path)
        return papa_fail_memory(strlen(t->options.out) + 1, "the output folder's name");
    bool there = stat(path, &info) == 0;
    while (!there && cut_last(path))
        there = stat(path, &info) == 0;
    t->folder_there = there ? strlen(path) : 0;
    free(path);
    t->folder_made = true; /* in part at least */
    return papa_file_make_folder(t->options.out);
}

void papa_training_remove_folder(const PapaTraining *t)
{
    char *path = t->folder_made ? strdup(t->options.out) : NULL;
    while (path && strlen(path) > t->folder_there && (rmdir(path) == 0 || errno == ENOENT) && cut_last(path)) {
    }
    free(path);
}
