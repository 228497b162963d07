/* A data set of our own, small enough for whole runs in tests: IDX files in the scratch folder. */
#ifndef BARS_H
#define BARS_H

#include "base/rng.h"
#include "scratch.h"

#include <stdlib.h>

enum { SIDE = 28, CLASSES = 10, N_TRAIN = 440, N_TEST = 110 };

static inline void put_be32(unsigned char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* Each class is a bright bar in noise: learnt within an epoch or two, but not perfectly. */
static inline void write_idx(const char *images_name, const char *labels_name, int n, uint32_t seed)
{
    size_t bytes = 16 + (size_t)n * SIDE * SIDE;
    unsigned char *images = malloc(bytes), *labels = malloc(8 + (size_t)n);
    put_be32(images, 0x803), put_be32(images + 4, (uint32_t)n), put_be32(images + 8, SIDE), put_be32(images + 12, SIDE);
    put_be32(labels, 0x801), put_be32(labels + 4, (uint32_t)n);
    PapaRng rng = papa_rng(5, PAPA_RNG_TEST, 0, seed, 0);
    for (int i = 0; i < n; i++) {
        int label = i % CLASSES;
        labels[8 + i] = (unsigned char)label;
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                images[16 + (i * SIDE + y) * SIDE + x] = (unsigned char)(papa_rng_below(&rng, 180) + (y / 3 == label && x > 8 ? 50 : 0));
    }
    scratch_write(scratch("data/%s", images_name), images, bytes);
    scratch_write(scratch("data/%s", labels_name), labels, 8 + (size_t)n);
    free(images), free(labels);
}

static inline const char *data_folder(void)
{
    static char folder[512];
    if (!*folder) {
        write_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", N_TRAIN, 1);
        write_idx("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", N_TEST, 2);
        snprintf(folder, sizeof folder, "%s", scratch("data"));
    }
    return folder;
}

#endif
