/* The line of progress: what it says, and that it fits the terminal whatever its width. */
#include "check.h"
#include "tools/cli_progress.c" /* NOLINT: the tools are programs, not a library */

static const PapaProgress half = {.phase = PAPA_PHASE_TRAIN, .done = 500, .total = 1000, .n_images = 64000, .seconds = 20, .epoch = 3, .n_epochs = 5,
    .loss = .43219, .learning_rate = .1};

static void expect(const PapaProgress *progress, int width, bool bar, const char *expected)
{
    char line[512];
    cli_progress_line(line, sizeof line, progress, width, bar);
    CHECK(!strcmp(line, expected), "\"%s\", expected \"%s\"", line, expected);
}

static void test_content(void)
{
    expect(&half, 512, false, "train 3/5  50 %  loss 0.4322  3200 images/s  0:20 left");
    expect(&half, 120, true, "train 3/5 [###############...............]  50 %  loss 0.4322  3200 images/s  0:20 left");
    expect(&half, 69, true, "train 3/5 [#####......]  50 %  loss 0.4322  3200 images/s  0:20 left");
    PapaProgress p = half;
    p.loss = NAN;
    p.seconds = 4000;
    expect(&p, 512, false, "train 3/5  50 %  16 images/s  1:06:40 left");
    p.done = p.total;
    expect(&p, 512, false, "train 3/5 100 %  16 images/s");
    expect(&(PapaProgress){.phase = PAPA_PHASE_LOAD}, 512, false, "load   0 %");
    expect(&(PapaProgress){.phase = PAPA_PHASE_EVALUATE, .done = 3, .total = 4, .n_images = 30, .seconds = 3}, 512, false, "evaluate  75 %  10 images/s  0:01 left");
}

static void test_width(void)
{
    char line[512];
    for (int width = 1; width <= 300; width++)
        for (int done = 0; done <= 1000; done += 125) {
            PapaProgress p = half;
            p.done = done;
            cli_progress_line(line, sizeof line, &p, width, true);
            CHECK(strlen(line) < (size_t)width, "width %d: %zu bytes: %s", width, strlen(line), line);
        }
}

/* A phase that is over before it began, counts beyond the total, an endless time: nothing runs over. */
static void test_odd_numbers(void)
{
    char line[512];
    const PapaProgress odd[] = {
        {.phase = PAPA_PHASE_SOUP, .done = 5, .total = 0, .seconds = 1},
        {.phase = PAPA_PHASE_TRAIN, .done = 2000, .total = 1000, .n_images = INT64_MAX, .seconds = 1e-300, .epoch = 9, .n_epochs = 5, .loss = 1e300},
        {.phase = PAPA_PHASE_TRAIN, .done = 1, .total = INT64_MAX, .n_images = 1, .seconds = 1e300, .loss = INFINITY},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        cli_progress_line(line, sizeof line, &odd[i], 80, true);
        CHECK(strlen(line) < 80, "%s", line);
        CHECK(strstr(line, i == 1 ? "100 %" : "  0 %"), "%s", line);
    }
}

int main(void)
{
    test_content();
    test_width();
    test_odd_numbers();
    return check_result();
}
