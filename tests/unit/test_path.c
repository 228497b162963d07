/* Paths between two networks: ends, barrier, statistics on the way, the picture. */
#include "check.h"
#include "members.h"

#include "jobs/path_svg.h"
#include "model/model.h"

#include <unistd.h>

static PapaPathOptions path_options(int points)
{
    PapaPathOptions o;
    papa_path_defaults(&o);
    o.points = points;
    o.judge = members_judge();
    return o;
}

static bool same(PapaScore a, PapaScore b)
{
    return a.n == b.n && a.accuracy == b.accuracy && fabs(a.loss - b.loss) < 1e-6 * (1 + b.loss);
}

/* The models' own scores, and that of their soup in the middle. */
static void points(MemberKind kind, bool recalibrate)
{
    PapaModel *models[N_MEMBERS];
    PapaPathReport report, even;
    PapaSoupReport soup;
    members_open(models, kind);
    PapaPathOptions o = path_options(5);
    o.recalibrate = recalibrate;
    CHECK_OK(papa_path(&report, models[0], models[BAD], &o, NULL));
    PapaSoupOptions s;
    papa_soup_defaults(&s);
    s.judge = o.judge;
    s.recalibrate = recalibrate;
    CHECK_OK(papa_soup(&soup, (const PapaModel *const[]){models[0], models[BAD]}, 2, &s, NULL));
    CHECK(report.n_points == 5 && report.points[1].t == .25 && report.points[4].t == 1, "%d points", report.n_points);
    CHECK(same(report.points[0].plain, soup.ingredients[0].test) && same(report.points[4].plain, soup.ingredients[1].test), "the ends");
    CHECK(same(report.points[2].plain, soup.test), "the middle has %.9g, the soup %.9g", report.points[2].plain.loss, soup.test.loss);
    CHECK_NEAR(report.barrier, soup.test.loss - (soup.ingredients[0].test.loss + soup.ingredients[1].test.loss) / 2, 1e-6);
    CHECK(isnan(report.barrier_aligned) && isnan(report.points[2].aligned.loss), "aligned scores without aligning");
    o.points = 2;
    CHECK_OK(papa_path(&even, models[0], models[BAD], &o, NULL));
    CHECK(even.n_points == 2 && fabs(even.barrier - report.barrier) < 1e-9, "barrier %g without a point in the middle, %g with one", even.barrier, report.barrier);
    papa_path_report_free(&report), papa_path_report_free(&even);
    papa_soup_report_free(&soup);
    members_close(models);
}

/* On held-out images where there are no others; and not at all without any. */
static void images(void)
{
    PapaModel *models[N_MEMBERS];
    PapaPathReport report;
    members_open(models, OF_PLAIN);
    PapaPathOptions o = path_options(3);
    o.judge.data = NULL;
    CHECK_FAILS(papa_path(&report, models[0], models[1], &o, NULL), PAPA_ERR_ARGUMENT, "data");
    o = path_options(1);
    CHECK_FAILS(papa_path(&report, models[0], models[1], &o, NULL), PAPA_ERR_ARGUMENT, "points is 1");
    o = path_options(3);
    CHECK_FAILS(papa_path(&report, models[0], models[0], &o, NULL), PAPA_ERR_MISMATCH, "");
    CHECK(!report.points, "a report of what failed");
    members_close(models);
}

/* ---------------------------------------------------------------- the picture */

static char *read_picture(const char *path)
{
    static char text[1 << 16];
    size_t n = scratch_read(path, text, sizeof text - 1);
    text[n] = 0;
    return text;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void picture(void)
{
    PapaModel *models[N_MEMBERS];
    PapaPathReport report;
    char svg[512];
    snprintf(svg, sizeof svg, "%s", scratch("path.svg"));
    members_open(models, OF_NORMALIZED);
    PapaPathOptions o = path_options(7);
    o.svg = svg;
    CHECK_OK(papa_path(&report, models[0], models[BAD], &o, NULL));
    const char *text = read_picture(svg);
    CHECK(count(text, "<circle") == 2 * 7 + 1 && count(text, "<path") == 2, "%d points, %d lines", count(text, "<circle"), count(text, "<path"));
    CHECK(count(text, "nan") == 0 && count(text, "inf") == 0 && count(text, "<script") == 0 && count(text, "</svg>") == 1, "not a picture:\n%s", text);
    CHECK(strstr(text, "member-0.onnx") && strstr(text, "110 test images") && strstr(text, "statistics re-estimated"), "labels are missing");
    papa_path_report_free(&report);
    o.svg = papa_onnx_path(models[0]->onnx);
    CHECK_FAILS(papa_path(&report, models[0], models[BAD], &o, NULL), PAPA_ERR_MISMATCH, "");
    members_close(models);
}

/* Names that would break it, losses that are no numbers, values that are all the same. */
static void odd_pictures(void)
{
    char svg[512];
    snprintf(svg, sizeof svg, "%s", scratch("odd.svg"));
    PapaPathPoint odd[3] = {{.t = 0, .plain = {.accuracy = .5, .loss = 1}}, {.t = .5, .plain = {.accuracy = .5, .loss = INFINITY}},
        {.t = 1, .plain = {.accuracy = .5, .loss = NAN}}};
    PapaPathReport report = {.n_points = 3, .points = odd, .barrier = NAN, .barrier_aligned = NAN};
    PapaPathPicture what = {.report = &report, .first = "<a>&\"b\"", .second = "\xff\x01 \xc3\xa9", .images = "images"};
    CHECK_OK(papa_path_svg_write(&what, svg));
    const char *text = read_picture(svg);
    CHECK(strstr(text, "&lt;a&gt;&amp;\"b\"") && strstr(text, "?? \xc3\xa9") && !strstr(text, "<a>"), "names are not escaped:\n%s", text);
    CHECK(count(text, "nan") == 0 && count(text, "inf") == 0 && count(text, "<circle") == 1 + 3 + 1, "%d points", count(text, "<circle"));
    what.first = "a-name-that-is-\xc3\xa9\xc3\xa9-longer-than-its-place.onnx";
    CHECK_OK(papa_path_svg_write(&what, svg));
    CHECK(strstr(read_picture(svg), ">\xe2\x80\xa6-longer-than-its-place.onnx<"), "a long name:\n%s", read_picture(svg));
    for (int i = 0; i < 3; i++)
        odd[i].plain = (PapaScore){.accuracy = NAN, .loss = NAN};
    CHECK_OK(papa_path_svg_write(&what, svg));
    CHECK(count(read_picture(svg), "nan") == 0, "not a picture of nothing");
    CHECK_FAILS(papa_path_svg_write(&what, "/no/such/folder/path.svg"), PAPA_ERR_IO, "/no/such/folder/path.svg");
}

/* Nothing is written when it is stopped. */
static void stopping(void)
{
    PapaModel *models[N_MEMBERS];
    PapaPathReport report;
    volatile sig_atomic_t stop = 1;
    PapaHooks hooks = {.stop = &stop};
    members_open(models, OF_PLAIN);
    PapaPathOptions o = path_options(3);
    o.svg = scratch("stopped.svg");
    CHECK_FAILS(papa_path(&report, models[0], models[1], &o, &hooks), PAPA_ERR_STOPPED, "stopped");
    CHECK(access(o.svg, F_OK) != 0, "a picture of what was stopped");
    members_close(models);
}

int main(void)
{
    points(OF_PLAIN, true);
    points(OF_NORMALIZED, true);
    points(OF_NORMALIZED, false);
    images();
    picture();
    odd_pictures();
    stopping();
    return check_result();
}
