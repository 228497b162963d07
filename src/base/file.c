/* Files on POSIX: mmap for reading, temporary file + fsync + rename for writing. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAM_BYTES ((size_t)1 << 16)

static PapaStatus fail_errno(const char *path, const char *what)
{
    return papa_fail(PAPA_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

static PapaStatus map_descriptor(PapaMapped *out, int fd, const char *path)
{
    struct stat st;
    if (fstat(fd, &st))
        return fail_errno(path, "can't read");
    if (!S_ISREG(st.st_mode))
        return papa_fail(PAPA_ERR_IO, "%s: not a regular file", path);
    if (st.st_size == 0)
        return PAPA_OK;
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return fail_errno(path, "can't map");
    *out = (PapaMapped){.data = data, .size = (size_t)st.st_size};
    return PAPA_OK;
}

PapaStatus papa_file_map(PapaMapped *out, const char *path)
{
    *out = (PapaMapped){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block; it is refused below */
    if (fd < 0)
        return fail_errno(path, "can't open");
    PapaStatus status = map_descriptor(out, fd, path);
    close(fd);
    return status;
}

void papa_file_unmap(PapaMapped *file)
{
    if (file->data)
        munmap((void *)file->data, file->size);
    *file = (PapaMapped){0};
}

/* A rename would put a file in the place of a device (/dev/null) or fail on a folder only after all is written. */
static PapaStatus check_target(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return papa_fail(PAPA_ERR_IO, "%s: can't write: it is %s", path, S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
    return PAPA_OK;
}

/* Not mkstemp: with open the kernel applies the umask, which can't be read without changing it for other threads. */
static int create_temporary(PapaWriter *writer)
{
    static atomic_uint counter;
    size_t bytes = strlen(writer->path) + 48;
    writer->temporary = malloc(bytes);
    if (!writer->temporary)
        return -1;
    for (;;) {
        snprintf(writer->temporary, bytes, "%s.tmp-%ld-%u", writer->path, (long)getpid(), atomic_fetch_add(&counter, 1));
        int fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
}

static void free_names(PapaWriter *writer)
{
    free(writer->path);
    free(writer->temporary);
    *writer = (PapaWriter){0};
}

PapaStatus papa_writer_open(PapaWriter *out, const char *path)
{
    *out = (PapaWriter){0};
    PAPA_TRY(check_target(path));
    PapaWriter writer = {.path = strdup(path)};
    if (!writer.path)
        return papa_fail_memory(strlen(path) + 1, "a file name");
    int fd = create_temporary(&writer);
    if (fd < 0) {
        PapaStatus status = fail_errno(path, "can't create");
        free_names(&writer);
        return status;
    }
    writer.stream = fdopen(fd, "wb");
    if (!writer.stream || setvbuf(writer.stream, NULL, _IOFBF, STREAM_BYTES)) {
        PapaStatus status = fail_errno(path, "can't create");
        if (writer.stream)
            fclose(writer.stream);
        else
            close(fd);
        unlink(writer.temporary);
        free_names(&writer);
        return status;
    }
    *out = writer;
    return PAPA_OK;
}

PapaStatus papa_writer_try(const char *path)
{
    PapaWriter writer;
    PapaStatus status = papa_writer_open(&writer, path);
    papa_writer_abort(&writer);
    return status;
}

PapaStatus papa_writer_write(PapaWriter *writer, const void *data, size_t bytes)
{
    if (bytes && fwrite(data, 1, bytes, writer->stream) != bytes)
        return fail_errno(writer->path, "can't write");
    return PAPA_OK;
}

/* An open descriptor of path's folder, so that the rename can be flushed; -1 on failure. */
static int open_folder(const char *path)
{
    char *folder = strdup(path);
    if (!folder)
        return -1;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0; /* keeps the root's own slash */
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    return fd;
}

/* Some file systems can't flush a folder; then there is nothing more to do. */
static bool flush_folder(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP;
}

PapaStatus papa_writer_sync(PapaWriter *writer)
{
    if (fflush(writer->stream) || fsync(fileno(writer->stream)))
        return fail_errno(writer->path, "can't write");
    return PAPA_OK;
}

PapaStatus papa_writer_commit(PapaWriter *writer)
{
    PapaStatus status = PAPA_OK;
    bool renamed = false;
    int folder = open_folder(writer->path);
    if (folder < 0)
        status = fail_errno(writer->path, "can't open its folder");
    if (!status)
        status = papa_writer_sync(writer);
    if (fclose(writer->stream) && !status)
        status = fail_errno(writer->path, "can't write");
    if (!status) {
        renamed = rename(writer->temporary, writer->path) == 0;
        if (!renamed)
            status = fail_errno(writer->path, "can't put it in place");
        else if (!flush_folder(folder)) /* the file is complete and in place; only a power failure could undo that */
            status = fail_errno(writer->path, "can't flush its folder");
    }
    if (!renamed)
        unlink(writer->temporary);
    if (folder >= 0)
        close(folder);
    free_names(writer);
    return status;
}

void papa_writer_abort(PapaWriter *writer)
{
    if (!writer->stream)
        return;
    fclose(writer->stream);
    unlink(writer->temporary);
    free_names(writer);
}

static PapaStatus make_one_folder(const char *path)
{
    if (mkdir(path, 0777) == 0)
        return PAPA_OK;
    struct stat st;
    int error = errno;
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return PAPA_OK;
        return papa_fail(PAPA_ERR_IO, "%s: can't make the folder: a file of this name is in the way", path);
    }
    errno = error;
    return fail_errno(path, "can't make the folder");
}

PapaStatus papa_file_make_folder(const char *path)
{
    char *prefix = strdup(path);
    if (!prefix)
        return papa_fail_memory(strlen(path) + 1, "a file name");
    PapaStatus status = PAPA_OK;
    for (char *p = prefix; *p && !status; p++)
        if (*p == '/' && p > prefix && p[-1] != '/') {
            *p = 0;
            status = make_one_folder(prefix);
            *p = '/';
        }
    if (!status)
        status = make_one_folder(prefix);
    free(prefix);
    return status;
}
