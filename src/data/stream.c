/* Byte streams from plain or gzip files; zlib tells which by looking at the first bytes. */
#include "data/dataset.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define DEFLATE_MAX_RATIO 1032 /* of a deflate stream: 258 bytes from 2 bits */

bool papa_stream_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

PapaStatus papa_stream_open(PapaStream *out, const char *path)
{
    struct stat info;
    *out = (PapaStream){.path = path};
    if (stat(path, &info) != 0)
        return papa_fail(PAPA_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    out->disk_bytes = (uint64_t)info.st_size;
    errno = 0;
    out->file = gzopen(path, "rb");
    if (!out->file)
        return papa_fail(PAPA_ERR_IO, "cannot open %s: %s", path, errno ? strerror(errno) : "out of memory");
    gzbuffer(out->file, 1 << 17); /* on failure zlib keeps its own smaller buffer */
    return PAPA_OK;
}

static PapaStatus read_error(const PapaStream *stream, uint64_t missing, const char *what)
{
    int code = Z_OK;
    const char *text = gzerror(stream->file, &code);
    if (code == Z_ERRNO)
        return papa_fail(PAPA_ERR_IO, "cannot read %s: %s", stream->path, strerror(errno));
    if (code == Z_MEM_ERROR)
        return papa_fail_memory(1 << 17, "reading a compressed file");
    if (code == Z_BUF_ERROR)
        return papa_fail(PAPA_ERR_FORMAT, "%s: the compressed file is truncated, %llu bytes of %s are missing", stream->path,
            (unsigned long long)missing, what);
    if (code != Z_OK)
        return papa_fail(PAPA_ERR_FORMAT, "%s: corrupt compressed data after %llu bytes: %s", stream->path,
            (unsigned long long)stream->position, text);
    return papa_fail(PAPA_ERR_FORMAT, "%s: ends after %llu bytes, %llu bytes of %s are missing", stream->path,
        (unsigned long long)stream->position, (unsigned long long)missing, what);
}

PapaStatus papa_stream_read(PapaStream *stream, void *to, size_t bytes, const char *what)
{
    for (char *at = to; bytes;) {
        unsigned piece = bytes < INT_MAX ? (unsigned)bytes : INT_MAX;
        int got = gzread(stream->file, at, piece);
        if (got > 0) {
            at += got;
            bytes -= (size_t)got;
            stream->position += (uint64_t)got;
        }
        if (got < (int)piece)
            return read_error(stream, bytes, what);
    }
    return PAPA_OK;
}

/* Reading past the end is also what makes zlib compare the checksum at the end of a gzip file. */
PapaStatus papa_stream_end(PapaStream *stream)
{
    char more;
    int got = gzread(stream->file, &more, 1), code = Z_OK;
    if (got > 0)
        return papa_fail(PAPA_ERR_FORMAT, "%s: longer than the %llu bytes that its header tells", stream->path,
            (unsigned long long)stream->position);
    gzerror(stream->file, &code);
    return got < 0 || code != Z_OK ? read_error(stream, 1, "checksum") : PAPA_OK;
}

PapaStatus papa_stream_expect(PapaStream *stream, uint64_t bytes, const char *what)
{
    bool plain = gzdirect(stream->file);
    uint64_t most = plain ? stream->disk_bytes : stream->disk_bytes * DEFLATE_MAX_RATIO;
    if (stream->position + bytes > most)
        return papa_fail(PAPA_ERR_FORMAT, "%s: its header tells %llu bytes of %s, but the file has only %llu bytes", stream->path,
            (unsigned long long)bytes, what, (unsigned long long)stream->disk_bytes);
    return PAPA_OK;
}

void papa_stream_close(PapaStream *stream)
{
    if (stream->file)
        gzclose(stream->file);
    stream->file = NULL;
}
