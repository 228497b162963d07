#include "jobs/path_svg.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 960
#define HEIGHT 444
#define TOP 90            /* of the panels */
#define PANEL_HEIGHT 250
#define PANEL_WIDTH 390
#define LEFT 70           /* of the first panel */
#define GAP 86            /* between them */
#define INK "#1f2430"
#define PALE "#6b7280"
#define GRID "#e5e7eb"
#define PLAIN "#d1495b"
#define ALIGNED "#00798c"
#define MOST_TICKS 12
#define MOST_LETTERS 28   /* of a model's name */
#define MOST_CIRCLES 31   /* on a line; more would run into each other */

/* ---------------------------------------------------------------- text */

/* Bytes of the UTF-8 character at c; 0: it is none. */
static int utf8_bytes(const unsigned char *c)
{
    int n = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : *c >= 0xe0 && *c < 0xf0 ? 3 : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* Names of files may hold anything. */
static void put_text(FILE *to, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        int n = utf8_bytes(c);
        if (*c == '&')
            fputs("&amp;", to);
        else if (*c == '<')
            fputs("&lt;", to);
        else if (*c == '>')
            fputs("&gt;", to);
        else if (n == 0 || *c < 0x20 || *c == 0x7f)
            fputc('?', to);
        else
            fwrite(c, 1, (size_t)n, to);
        c += n ? n : 1;
    }
}

/* The end of a long one, which must not run into its neighbour. */
static void put_name(FILE *to, const char *name)
{
    const char *at = name;
    int left = 0;
    for (const char *c = name; *c; c++)
        left += (*c & 0xc0) != 0x80;
    bool is_cut = left > MOST_LETTERS;
    for (; *at && left >= MOST_LETTERS && is_cut; at++)
        left -= (at[1] & 0xc0) != 0x80;
    if (is_cut)
        fputs("…", to);
    put_text(to, at);
}

/* ---------------------------------------------------------------- axes */

typedef struct Panel {
    const char *title;
    bool is_loss;
    double x, low, high, step; /* left edge; of the values; between ticks */
    int digits;                /* behind the point, of the ticks */
} Panel;

static double value_of(const Panel *panel, const PapaScore *score)
{
    return panel->is_loss ? score->loss : 100 * score->accuracy;
}

/* 1, 2 or 5 times a power of ten, such that about five ticks stand in range. */
static double nice_step(double range)
{
    double power = pow(10, floor(log10(range / 5))), times = range / 5 / power;
    return power * (times < 1.5 ? 1 : times < 3.5 ? 2 : times < 7.5 ? 5 : 10);
}

/* A loss is seen from 0 on; accuracies where they are. */
static void set_axis(Panel *panel, const PapaPathReport *report)
{
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < 2 * report->n_points; i++) {
        const PapaPathPoint *point = &report->points[i / 2];
        double value = value_of(panel, i % 2 ? &point->aligned : &point->plain);
        if (!isfinite(value))
            continue;
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    if (!(low <= high))
        low = 0, high = 1;
    if (panel->is_loss)
        low = 0;
    double least = panel->is_loss ? 1e-6 : .5, range = high - low < least ? least : high - low;
    panel->step = nice_step(range);
    panel->low = floor(low / panel->step) * panel->step;
    panel->high = ceil((high + .04 * range) / panel->step) * panel->step;
    if (!panel->is_loss && panel->high > 100)
        panel->high = ceil(high / panel->step) * panel->step;
    panel->digits = panel->step >= 1 ? 0 : (int)ceil(-log10(panel->step) - 1e-9);
}

static double at_x(const Panel *panel, double t)
{
    return panel->x + t * PANEL_WIDTH;
}

static double at_y(const Panel *panel, double value)
{
    return TOP + PANEL_HEIGHT * (1 - (value - panel->low) / (panel->high - panel->low));
}

static void put_axes(FILE *to, const Panel *panel, const PapaPathPicture *picture)
{
    fprintf(to, "<text x=\"%.1f\" y=\"%d\" font-size=\"14\" font-weight=\"600\" fill=\"" INK "\">%s</text>\n", panel->x, TOP - 14, panel->title);
    for (int i = 0; i < MOST_TICKS && panel->low + i * panel->step <= panel->high + .001 * panel->step; i++) {
        double value = panel->low + i * panel->step, y = at_y(panel, value);
        fprintf(to, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", panel->x, y, panel->x + PANEL_WIDTH, y, i ? GRID : PALE);
        fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" font-size=\"12\" fill=\"" PALE "\">%.*f%s</text>\n", panel->x - 8, y + 4,
            panel->digits, fabs(value) < 1e-9 * panel->step ? 0 : value, panel->is_loss ? "" : " %");
    }
    static const char *const ticks[] = {"0", "¼", "½", "¾", "1"};
    for (int i = 0; i <= 4; i++) {
        double x = at_x(panel, i / 4.0);
        fprintf(to, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"" PALE "\"/>\n", x, TOP + PANEL_HEIGHT, x, TOP + PANEL_HEIGHT + 5);
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" font-size=\"12\" fill=\"" PALE "\">%s</text>\n", x, TOP + PANEL_HEIGHT + 20, ticks[i]);
    }
    const char *names[] = {picture->first, picture->second};
    for (int end = 0; end < 2; end++) {
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\" font-size=\"12\" fill=\"" INK "\">", at_x(panel, end), TOP + PANEL_HEIGHT + 40,
            end ? "end" : "start");
        put_name(to, names[end]);
        fputs("</text>\n", to);
    }
}

/* ---------------------------------------------------------------- lines */

static const PapaScore *score_of(const PapaPathPoint *point, bool aligned)
{
    return aligned ? &point->aligned : &point->plain;
}

static void put_line(FILE *to, const Panel *panel, const PapaPathReport *report, bool aligned)
{
    const char *colour = aligned ? ALIGNED : PLAIN;
    bool begun = false;
    fputs("<path d=\"", to);
    for (int i = 0; i < report->n_points; i++) {
        double value = value_of(panel, score_of(&report->points[i], aligned));
        if (isfinite(value))
            fprintf(to, "%c%.2f %.2f", begun ? 'L' : 'M', at_x(panel, report->points[i].t), at_y(panel, value));
        begun = isfinite(value);
    }
    fprintf(to, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"2.2\" stroke-linejoin=\"round\"/>\n", colour);
    for (int i = 0; i < report->n_points && report->n_points <= MOST_CIRCLES; i++) {
        double value = value_of(panel, score_of(&report->points[i], aligned));
        if (isfinite(value))
            fprintf(to, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"3.2\" fill=\"white\" stroke=\"%s\" stroke-width=\"1.8\"/>\n",
                at_x(panel, report->points[i].t), at_y(panel, value), colour);
    }
}

/* From the middle of the ends' loss to that of the midpoint. */
static void put_barrier(FILE *to, const Panel *panel, const PapaPathReport *report, bool aligned)
{
    double barrier = aligned ? report->barrier_aligned : report->barrier, x = at_x(panel, .5);
    double first = score_of(&report->points[0], aligned)->loss, last = score_of(&report->points[report->n_points - 1], aligned)->loss;
    const char *colour = aligned ? ALIGNED : PLAIN;
    if (!isfinite(barrier) || !isfinite(first + last))
        return;
    fprintf(to, "<line x1=\"%.1f\" y1=\"%.2f\" x2=\"%.1f\" y2=\"%.2f\" stroke=\"%s\" stroke-width=\"1\" stroke-dasharray=\"2 4\"/>\n", at_x(panel, 0),
        at_y(panel, first), at_x(panel, 1), at_y(panel, last), colour);
    fprintf(to, "<line x1=\"%.1f\" y1=\"%.2f\" x2=\"%.1f\" y2=\"%.2f\" stroke=\"%s\" stroke-width=\"1\" stroke-dasharray=\"2 4\"/>\n", x,
        at_y(panel, (first + last) / 2), x, at_y(panel, (first + last) / 2 + barrier), colour);
}

/* ---------------------------------------------------------------- the file */

static void put_legend(FILE *to, const PapaPathPicture *picture)
{
    const PapaPathReport *report = picture->report;
    for (int aligned = 0; aligned <= picture->aligned; aligned++) {
        double barrier = aligned ? report->barrier_aligned : report->barrier, y = 28 + 19 * aligned, x = LEFT + PANEL_WIDTH + GAP;
        const char *colour = aligned ? ALIGNED : PLAIN;
        fprintf(to, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"2.2\"/>\n", x, y - 4, x + 28, y - 4, colour);
        if (report->n_points <= MOST_CIRCLES)
            fprintf(to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\" fill=\"white\" stroke=\"%s\" stroke-width=\"1.8\"/>\n", x + 14, y - 4, colour);
        fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"13\" fill=\"" INK "\">%s", x + 38, y, aligned ? "aligned" : "as they are");
        if (isfinite(barrier))
            fprintf(to, "<tspan fill=\"" PALE "\">, barrier %.4f</tspan>", barrier);
        fputs("</text>\n", to);
    }
}

static void put_head(FILE *to, const PapaPathPicture *picture)
{
    fprintf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-family=\"Helvetica, Arial, sans-serif\">\n<title>",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    put_text(to, picture->first);
    fputs(" to ", to);
    put_text(to, picture->second);
    fprintf(to, "</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", WIDTH, HEIGHT);
    fprintf(to, "<text x=\"%d\" y=\"38\" font-size=\"17\" font-weight=\"600\" fill=\"" INK "\">The straight line between two networks</text>\n", LEFT);
    put_legend(to, picture);
}

static void put_all(FILE *to, const PapaPathPicture *picture)
{
    Panel panels[] = {{.title = "Loss", .is_loss = true, .x = LEFT}, {.title = "Accuracy", .x = LEFT + PANEL_WIDTH + GAP}};
    put_head(to, picture);
    for (int i = 0; i < 2; i++) {
        set_axis(&panels[i], picture->report);
        put_axes(to, &panels[i], picture);
        for (int aligned = 0; aligned <= picture->aligned; aligned++) {
            if (panels[i].is_loss)
                put_barrier(to, &panels[i], picture->report, aligned);
            put_line(to, &panels[i], picture->report, aligned);
        }
        fprintf(to, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" font-size=\"12\" fill=\"" PALE "\">t, of (1 − t) first + t second</text>\n",
            at_x(&panels[i], .5), TOP + PANEL_HEIGHT + 62);
    }
    fprintf(to, "<text x=\"%d\" y=\"%d\" font-size=\"12\" fill=\"" PALE "\">", LEFT, HEIGHT - 14);
    put_text(to, picture->images);
    fputs(picture->recalibrated ? "; BatchNormalization's statistics re-estimated between the ends</text>\n</svg>\n" : "</text>\n</svg>\n", to);
}

PapaStatus papa_path_svg_write(const PapaPathPicture *picture, const char *path)
{
    PapaWriter writer = {0};
    PapaStatus status;
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    if (memory)
        put_all(memory, picture);
    if (!memory || fclose(memory))
        status = papa_fail_memory(bytes, "a picture");
    else if ((status = papa_writer_open(&writer, path)) == PAPA_OK)
        status = papa_writer_write(&writer, text, bytes);
    if (status == PAPA_OK)
        status = papa_writer_commit(&writer);
    else
        papa_writer_abort(&writer);
    free(text);
    return status;
}
