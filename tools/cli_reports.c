/* Reports of merging. */
#include "tools/cli_reports.h"

#include <math.h>
#include <string.h>

const char *cli_file_cell(char cell[CLI_CELL_BYTES], const char *path)
{
    size_t bytes = strlen(path);
    bool fits = bytes < CLI_CELL_BYTES;
    const char *end = path + bytes - (CLI_CELL_BYTES - 4);
    while (!fits && (*end & 0xc0) == 0x80) /* not from the middle of a character */
        end++;
    snprintf(cell, CLI_CELL_BYTES, "%s%s", fits ? "" : "...", fits ? path : end);
    return cell;
}

void cli_json_score(CliJson *json, const char *name, const PapaScore *score)
{
    if (isnan(score->accuracy)) {
        cli_json_string(json, name, NULL);
        return;
    }
    cli_json_open(json, name, '{');
    cli_json_number(json, "accuracy", score->accuracy);
    cli_json_number(json, "loss", score->loss);
    cli_json_number(json, "top5", score->top5);
    cli_json_integer(json, "images", score->n);
    cli_json_close(json, '}');
}

/* ---------------------------------------------------------------- soups */

/* What there is to show. */
typedef struct Columns {
    bool weight, held_out, test;
} Columns;

/* A score's two cells; nothing where there are no such scores. */
static int score_cells(const char **cells, bool shown, const PapaScore *score)
{
    if (!shown)
        return 0;
    cells[0] = cli_percent(score->accuracy);
    cells[1] = cli_number(score->loss, 4);
    return 2;
}

static void soup_row(CliTable *table, const Columns *columns, const char *label, double weight, const PapaScore *held_out, const PapaScore *test)
{
    const char *cells[6] = {NULL};
    int n = 0;
    if (columns->weight)
        cells[n++] = isnan(weight) ? "" : cli_number(weight, 4);
    n += score_cells(cells + n, columns->held_out, held_out);
    score_cells(cells + n, columns->test, test);
    cli_table_row(table, label, cells[0], cells[1], cells[2], cells[3], cells[4], NULL);
}

static void soup_head(CliTable *table, const Columns *columns)
{
    const char *cells[6] = {NULL};
    int n = 0;
    if (columns->weight)
        cells[n++] = "weight";
    for (int test = 0; test < 2; test++)
        if (test ? columns->test : columns->held_out) {
            cells[n++] = !columns->held_out ? "accuracy" : test ? "test" : "held out";
            cells[n++] = "loss";
        }
    cli_table_row(table, "", cells[0], cells[1], cells[2], cells[3], cells[4], NULL);
}

static void soup_table(const PapaSoupReport *report, const char *base)
{
    const int n = report->n + (base != NULL);
    Columns columns = {false, !isnan(report->held_out.accuracy), !isnan(report->test.accuracy)};
    CliTable table = {0};
    char cell[CLI_CELL_BYTES], label[CLI_CELL_BYTES + 8];
    for (int k = 0; k < n; k++)
        columns.weight |= !isnan(report->ingredients[k].weight);
    if (columns.weight || columns.held_out || columns.test)
        soup_head(&table, &columns);
    for (int k = 0; k < n; k++) {
        const PapaIngredient *i = &report->ingredients[k];
        snprintf(label, sizeof label, "%s%s", cli_file_cell(cell, i->path), k == report->n ? " (base)" : "");
        soup_row(&table, &columns, label, i->weight, &i->held_out, &i->test);
    }
    if (report->repaired || report->recalibrated)
        soup_row(&table, &columns, "merged, as it is", NAN, &report->held_out_plain, &report->test_plain);
    if (columns.held_out || columns.test)
        soup_row(&table, &columns, report->repaired ? "merged, REPAIRed" : report->recalibrated ? "merged, statistics measured" : "merged", NAN, &report->held_out,
            &report->test);
    cli_table_print(&table);
}

static void soup_json(const PapaSoupReport *report, const char *method, const char *base, const char *out)
{
    CliJson json = {0};
    cli_json_open(&json, NULL, '{');
    cli_json_string(&json, "method", method);
    cli_json_string(&json, "out", out);
    cli_json_open(&json, "ingredients", '[');
    for (int k = 0; k < report->n + (base != NULL); k++) {
        const PapaIngredient *i = &report->ingredients[k];
        cli_json_open(&json, NULL, '{');
        cli_json_string(&json, "file", i->path);
        if (k == report->n)
            cli_json_string(&json, "role", "base");
        cli_json_number(&json, "weight", i->weight);
        cli_json_score(&json, "held_out", &i->held_out);
        cli_json_score(&json, "test", &i->test);
        cli_json_close(&json, '}');
    }
    cli_json_close(&json, ']');
    cli_json_integer(&json, "used", report->n_used);
    cli_json_score(&json, "held_out_plain", &report->held_out_plain);
    cli_json_score(&json, "test_plain", &report->test_plain);
    cli_json_score(&json, "held_out", &report->held_out);
    cli_json_score(&json, "test", &report->test);
    cli_json_bool(&json, "repaired", report->repaired);
    cli_json_bool(&json, "recalibrated", report->recalibrated);
    cli_json_number(&json, "seconds", report->seconds);
    cli_json_close(&json, '}');
}

void cli_print_soup(const PapaSoupReport *report, const char *method, const char *base, const char *out, bool json)
{
    cli_clear();
    if (json) {
        soup_json(report, method, base, out);
        return;
    }
    soup_table(report, base);
    printf("%s: %s of %d model%s, in %.1f s\n", out, method, report->n_used, report->n_used == 1 ? "" : "s", report->seconds);
}

/* ---------------------------------------------------------------- paths */

static void path_table(const PapaPathReport *report, bool aligned)
{
    CliTable table = {0};
    cli_table_row(&table, "t", "accuracy", "loss", aligned ? "aligned" : NULL, "loss", NULL);
    for (int i = 0; i < report->n_points; i++) {
        const PapaPathPoint *p = &report->points[i];
        char t[16];
        snprintf(t, sizeof t, "%.3f", p->t);
        cli_table_row(&table, t, cli_percent(p->plain.accuracy), cli_number(p->plain.loss, 4), aligned ? cli_percent(p->aligned.accuracy) : NULL,
            cli_number(p->aligned.loss, 4), NULL);
    }
    cli_table_print(&table);
    printf("barrier (loss in the middle above the mean of the ends): %s", cli_number(report->barrier, 4));
    if (aligned)
        printf("; aligned: %s", cli_number(report->barrier_aligned, 4));
    putchar('\n');
}

static void path_json(const PapaPathReport *report, const char *svg)
{
    CliJson json = {0};
    cli_json_open(&json, NULL, '{');
    cli_json_string(&json, "svg", svg);
    cli_json_open(&json, "points", '[');
    for (int i = 0; i < report->n_points; i++) {
        cli_json_open(&json, NULL, '{');
        cli_json_number(&json, "t", report->points[i].t);
        cli_json_score(&json, "plain", &report->points[i].plain);
        cli_json_score(&json, "aligned", &report->points[i].aligned);
        cli_json_close(&json, '}');
    }
    cli_json_close(&json, ']');
    cli_json_number(&json, "barrier", report->barrier);
    cli_json_number(&json, "barrier_aligned", report->barrier_aligned);
    cli_json_close(&json, '}');
}

void cli_print_path(const PapaPathReport *report, const char *svg, bool json)
{
    bool aligned = false;
    for (int i = 0; i < report->n_points; i++)
        aligned |= !isnan(report->points[i].aligned.accuracy);
    cli_clear();
    if (json) {
        path_json(report, svg);
        return;
    }
    path_table(report, aligned);
    if (svg)
        printf("drawn in %s\n", svg);
}

/* ---------------------------------------------------------------- diagnoses */

static const char *const advice_words[] = {"not the same network", "soup", "average, then REPAIR", "align first, then REPAIR", "ensemble"};
static const char *const advice_keys[] = {"none", "soup", "repair", "align", "ensemble"};

static void diagnosis_tensors(const PapaDiagnosisModel *m, int n_tensors)
{
    CliTable table = {0};
    char cell[CLI_CELL_BYTES];
    cli_table_row(&table, "tensor", "cosine", "aligned", "variance ratio", NULL);
    for (int i = 0; i < n_tensors; i++) {
        const PapaDiagnosisTensor *t = &m->tensors[i];
        cli_table_row(&table, cli_file_cell(cell, t->name), cli_number(t->cosine, 4), cli_number(t->cosine_aligned, 4), cli_number(t->variance_ratio, 4), NULL);
    }
    cli_table_row(&table, "all weights", cli_number(m->cosine, 4), cli_number(m->cosine_aligned, 4), NULL);
    cli_table_print(&table);
}

static void diagnosis_model(const PapaDiagnosisModel *m, int n_tensors, const char *first)
{
    printf("%s beside %s\n", m->path, first);
    if (m->difference) {
        printf("not the same network: %s\n\n", m->difference);
        return;
    }
    diagnosis_tensors(m, n_tensors);
    printf("related (one initialisation, or aligned before): %s; units in the same order: %s (matching would move %s of them)\n", m->same_init ? "yes" : "no",
        m->aligned ? "yes" : "no", cli_percent(m->moved));
    if (!isnan(m->barrier))
        printf("barrier: %s; aligned: %s\n", cli_number(m->barrier, 4), cli_number(m->barrier_aligned, 4));
    printf("advice: %s%s%s\n\n", advice_words[m->advice], m->why ? ": " : "", m->why ? m->why : "");
}

static void diagnosis_json(const PapaDiagnosis *d)
{
    CliJson json = {0};
    cli_json_open(&json, NULL, '{');
    cli_json_open(&json, "models", '[');
    for (int k = 0; k < d->n_models; k++) {
        const PapaDiagnosisModel *m = &d->models[k];
        cli_json_open(&json, NULL, '{');
        cli_json_string(&json, "file", m->path);
        cli_json_string(&json, "difference", m->difference);
        cli_json_open(&json, "tensors", '[');
        for (int i = 0; m->tensors && i < d->n_tensors; i++) {
            const PapaDiagnosisTensor *t = &m->tensors[i];
            cli_json_open(&json, NULL, '{');
            cli_json_string(&json, "name", t->name);
            cli_json_integer(&json, "elements", t->count);
            cli_json_number(&json, "cosine", t->cosine);
            cli_json_number(&json, "cosine_aligned", t->cosine_aligned);
            cli_json_number(&json, "variance_ratio", t->variance_ratio);
            cli_json_close(&json, '}');
        }
        cli_json_close(&json, ']');
        cli_json_number(&json, "cosine", m->cosine);
        cli_json_number(&json, "cosine_aligned", m->cosine_aligned);
        cli_json_number(&json, "moved", m->moved);
        cli_json_bool(&json, "same_init", m->same_init);
        cli_json_bool(&json, "aligned", m->aligned);
        cli_json_number(&json, "barrier", m->barrier);
        cli_json_number(&json, "barrier_aligned", m->barrier_aligned);
        cli_json_string(&json, "advice", advice_keys[m->advice]);
        cli_json_string(&json, "why", m->why);
        cli_json_close(&json, '}');
    }
    cli_json_close(&json, ']');
    cli_json_string(&json, "advice", advice_keys[d->advice]);
    cli_json_close(&json, '}');
}

void cli_print_diagnosis(const PapaDiagnosis *d, bool json)
{
    cli_clear();
    if (json) {
        diagnosis_json(d);
        return;
    }
    for (int k = 1; k < d->n_models; k++)
        diagnosis_model(&d->models[k], d->n_tensors, d->models[0].path);
    printf("for all of them: %s\n", advice_words[d->advice]);
}
