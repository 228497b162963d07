/* libjpeg-turbo: decode at the smallest eighth that is still large enough, then resample. libjpeg leaves by longjmp on
 * errors, and here on warnings too: an image that is half gray must not become training data. */
#include "data/jpeg.h"

#include "data/resample.h"

#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

typedef struct Decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf escape;
    char fault[JMSG_LENGTH_MAX];
    FILE *file;
    const char *path;
    PapaJpegScratch *scratch;
    PapaImageSize size;     /* wanted */
    bool own_size;          /* only the file's own size is wanted */
    unsigned char *decoded; /* where the pixels go: the scratch or the caller's image */
    PapaStatus status;      /* of our own steps inside the protected part */
} Decoder;

static _Noreturn void leave(j_common_ptr jpeg)
{
    Decoder *decoder = jpeg->client_data;
    jpeg->err->format_message(jpeg, decoder->fault);
    longjmp(decoder->escape, 1);
}

static void leave_on_warning(j_common_ptr jpeg, int level)
{
    if (level < 0)
        leave(jpeg);
}

static void *grown(void *memory, size_t *have, size_t bytes)
{
    if (bytes <= *have)
        return memory;
    free(memory); /* its content is of no use any more */
    memory = malloc(bytes);
    *have = memory ? bytes : 0;
    if (!memory)
        papa_fail_memory(bytes, "decoding a JPEG file");
    return memory;
}

void papa_jpeg_scratch_free(PapaJpegScratch *scratch)
{
    free(scratch->pixels);
    free(scratch->rows);
    *scratch = (PapaJpegScratch){0};
}

/* With Adobe's marker the inks are stored inverted: 255 is none. K takes its share of what the other inks leave. */
static void cmyk_to_rgb(unsigned char *pixels, int64_t n, int64_t channels, bool inverted)
{
    unsigned char *to = pixels;
    for (int64_t i = 0; i < n; i++, to += channels) {
        int light[4], rgb[3];
        for (int c = 0; c < 4; c++)
            light[c] = inverted ? pixels[4 * i + c] : 255 - pixels[4 * i + c];
        for (int c = 0; c < 3; c++)
            rgb[c] = (light[c] * light[3] + 127) / 255;
        for (int c = 0; c < 3 && channels == 3; c++)
            to[c] = (unsigned char)rgb[c];
        if (channels == 1)
            to[0] = (unsigned char)((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000);
    }
}

static int64_t eighths(int64_t wanted, int64_t there)
{
    int64_t n = (8 * wanted + there - 1) / there;
    return n < 8 ? n : 8;
}

/* Decodes to decoder->decoded, (output_height, output_width, channels). Runs inside the protected part. */
static PapaStatus decode_pixels(Decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    bool cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    int64_t rows = eighths(d->size.height, jpeg->image_height), columns = eighths(d->size.width, jpeg->image_width);
    jpeg->out_color_space = cmyk ? JCS_CMYK : d->size.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg->scale_num = (unsigned)(rows > columns ? rows : columns);
    jpeg->scale_denom = 8;
    jpeg_start_decompress(jpeg);
    size_t row_bytes = (size_t)jpeg->output_width * (size_t)jpeg->output_components;
    PapaJpegScratch *scratch = d->scratch;
    scratch->pixels = grown(scratch->pixels, &scratch->pixels_bytes, row_bytes * jpeg->output_height);
    if (!scratch->pixels)
        return PAPA_ERR_MEMORY;
    d->decoded = scratch->pixels;
    while (jpeg->output_scanline < jpeg->output_height)
        jpeg_read_scanlines(jpeg, &(JSAMPROW){d->decoded + jpeg->output_scanline * row_bytes}, 1);
    jpeg_finish_decompress(jpeg);
    if (cmyk)
        cmyk_to_rgb(d->decoded, (int64_t)jpeg->output_width * jpeg->output_height, d->size.channels, jpeg->saw_Adobe_marker);
    return PAPA_OK;
}

/* All that may longjmp. Nothing but *d changes, so no local is lost. */
static PapaStatus run_protected(Decoder *d)
{
    if (setjmp(d->escape))
        return papa_fail(PAPA_ERR_FORMAT, "%s: %s", d->path, d->fault);
    jpeg_create_decompress(&d->jpeg);
    jpeg_stdio_src(&d->jpeg, d->file);
    jpeg_read_header(&d->jpeg, TRUE);
    if (!d->own_size)
        return decode_pixels(d);
    d->size = (PapaImageSize){d->jpeg.num_components == 1 ? 1 : 3, d->jpeg.image_height, d->jpeg.image_width};
    return PAPA_OK;
}

static PapaStatus run(Decoder *d)
{
    d->file = fopen(d->path, "rb");
    if (!d->file)
        return papa_fail(PAPA_ERR_IO, "cannot open %s: %s", d->path, strerror(errno));
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->jpeg.client_data = d;
    d->errors.error_exit = leave;
    d->errors.emit_message = leave_on_warning;
    PapaStatus status = run_protected(d);
    fclose(d->file);
    return status;
}

PapaStatus papa_jpeg_size(PapaImageSize *out, const char *path)
{
    Decoder d = {.path = path, .own_size = true};
    PapaStatus status = run(&d);
    jpeg_destroy_decompress(&d.jpeg);
    *out = d.size;
    return status;
}

PapaStatus papa_jpeg_decode(unsigned char *to, const char *path, PapaImageSize size, PapaJpegScratch *scratch)
{
    Decoder d = {.path = path, .size = size, .scratch = scratch};
    PapaStatus status = run(&d);
    int64_t h = d.jpeg.output_height, w = d.jpeg.output_width, C = size.channels;
    jpeg_destroy_decompress(&d.jpeg);
    if (status != PAPA_OK)
        return status;
    if (h == size.height && w == size.width) {
        memcpy(to, d.decoded, (size_t)(h * w * C));
        return PAPA_OK;
    }
    size_t bytes = papa_resample_floats(size.height, size.width, h, w, C) * sizeof(float);
    scratch->rows = grown(scratch->rows, &scratch->rows_bytes, bytes);
    if (!scratch->rows)
        return PAPA_ERR_MEMORY;
    papa_resample(to, size.height, size.width, d.decoded, h, w, C, scratch->rows);
    return PAPA_OK;
}
