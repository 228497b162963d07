/* A folder for the files of one test program, and ways to fill it. The folder goes when the program ends well. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <ftw.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_root[256];

static inline void scratch_die(const char *what, const char *path)
{
    fprintf(stderr, "the test cannot %s %s\n", what, path);
    exit(2);
}

static int scratch_remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path);
}

static inline void scratch_remove(const char *path)
{
    nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void scratch_end(void)
{
    scratch_remove(scratch_root);
}

/* A path inside the folder, which is made on first use; missing parents too. Valid until the 8th call after this one. */
__attribute__((format(printf, 1, 2))) static inline const char *scratch(const char *format, ...)
{
    static char paths[8][512];
    static unsigned turn;
    if (!*scratch_root) {
        snprintf(scratch_root, sizeof scratch_root, "%s/papa-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        if (!mkdtemp(scratch_root))
            scratch_die("make folder", scratch_root);
        atexit(scratch_end);
    }
    char *path = paths[turn++ % 8], name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    snprintf(path, sizeof paths[0], "%s/%s", scratch_root, name);
    for (char *at = path + strlen(scratch_root) + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(path, 0777);
        *at = '/';
    }
    return path;
}

static inline void scratch_write(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file))
        scratch_die("write", path);
}

static inline size_t scratch_read(const char *path, void *to, size_t most)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        scratch_die("read", path);
    size_t got = fread(to, 1, most, file);
    fclose(file);
    return got;
}

#endif
