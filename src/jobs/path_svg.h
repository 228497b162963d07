/* A picture of a path between two networks: loss and accuracy along it, as one SVG file that needs nothing else. */
#ifndef PAPA_PATH_SVG_H
#define PAPA_PATH_SVG_H

#include "base/status.h"

typedef struct PapaPathPicture {
    const PapaPathReport *report;
    const char *first, *second; /* names of the models */
    const char *images;         /* what was scored: "110 test images of data" */
    bool aligned, recalibrated;
} PapaPathPicture;

/* Appears whole or not at all. Points whose loss is no finite number are left out. Errors: PAPA_ERR_IO, memory. */
PapaStatus papa_path_svg_write(const PapaPathPicture *picture, const char *path);

#endif
