/* Files: mapped for reading, written whole or not at all. */
#ifndef PAPA_FILE_H
#define PAPA_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* A file mapped read-only. An empty file has data NULL and size 0. */
typedef struct PapaMapped {
    const unsigned char *data;
    size_t size;
} PapaMapped;

PapaStatus papa_file_map(PapaMapped *out, const char *path);
void papa_file_unmap(PapaMapped *file);

/* A file that appears under its name only when it is complete: written to a temporary file in the same folder, flushed
 * to the disk, renamed by commit. abort (or a crash) leaves the old file, if there was one, as it was. */
typedef struct PapaWriter {
    FILE *stream;
    char *path, *temporary;
} PapaWriter;

PapaStatus papa_writer_open(PapaWriter *out, const char *path);
PapaStatus papa_writer_try(const char *path);      /* whether a file could be begun there; leaves nothing */
PapaStatus papa_writer_write(PapaWriter *writer, const void *data, size_t bytes);
PapaStatus papa_writer_sync(PapaWriter *writer);   /* flushes to the disk; after it, commit can only fail at the rename */
PapaStatus papa_writer_commit(PapaWriter *writer); /* closes in any case; on failure nothing is left behind */
void papa_writer_abort(PapaWriter *writer);        /* does nothing after commit or abort, or on a zeroed writer */

/* Makes the folder and its parents. A folder that is there already is fine. */
PapaStatus papa_file_make_folder(const char *path);

#endif
