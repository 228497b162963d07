/* The report of an alignment. */
#include "tools/cli_reports.h"

#include <math.h>
#include <string.h>

static const char *const methods[] = {"weights", "activations"};
static const char *const goals[] = {"first", "mean", "cycle"};

/* A small number: "3e-16"; "-" for NaN. The text is valid until the next four calls. */
static const char *tiny(double x)
{
    static char texts[4][16];
    static int next;
    char *text = texts[next++ % 4];
    if (isnan(x))
        return "-";
    snprintf(text, sizeof *texts, x == 0 ? "0" : "%.0e", x);
    return text;
}

static const char *count(int64_t n)
{
    static char texts[4][24];
    static int next;
    char *text = texts[next++ % 4];
    snprintf(text, sizeof *texts, "%lld", (long long)n);
    return text;
}

static const char *group_label(char label[CLI_CELL_BYTES], const PapaAlignGroup *group)
{
    char cell[CLI_CELL_BYTES];
    cli_file_cell(cell, group->name);
    snprintf(label, CLI_CELL_BYTES, "%.*s%s", CLI_CELL_BYTES - 10, cell, group->blocks ? " (blocks)" : "");
    return label;
}

static void group_table(const PapaAlignReport *r, const PapaAlignModel *model)
{
    CliTable table = {0};
    char label[CLI_CELL_BYTES];
    cli_table_row(&table, "group", "units", "tensors", "proof", model ? "moved" : NULL, "cosine", "aligned", NULL);
    for (int g = 0; g < r->n_groups; g++) {
        const PapaAlignGroup *group = &r->groups[g];
        const PapaAlignMove *move = model ? &model->moves[g] : &(PapaAlignMove){0};
        cli_table_row(&table, group_label(label, group), count(group->n), count(group->n_tensors), tiny(group->proof), model ? cli_percent(move->moved) : NULL,
            cli_number(move->similarity_before, 4), cli_number(move->similarity_after, 4), NULL);
    }
    cli_table_print(&table);
}

static void model_lines(const PapaAlignReport *r, const PapaAlignModel *model)
{
    printf("\n%s to %s\n", model->path, r->models[0].path);
    if (r->n_groups)
        group_table(r, model);
    printf("distance %s, aligned %s; objective %s; search %d, %d sweep%s; outputs differ by %s\n", cli_number(model->distance_before, 4),
        cli_number(model->distance_after, 4), cli_number(model->objective, 4), model->restart + 1, model->sweeps, model->sweeps == 1 ? "" : "s", tiny(model->proof));
}

static void score_table(const PapaAlignReport *r)
{
    CliTable table = {0};
    char cell[CLI_CELL_BYTES];
    if (isnan(r->models[0].score.accuracy))
        return;
    putchar('\n');
    cli_table_row(&table, "", "accuracy", "loss", "half-way", "loss", "aligned", "loss", NULL);
    for (int k = 0; k < r->n_models; k++) {
        const PapaAlignModel *m = &r->models[k];
        const PapaScore *before = &m->midpoint_before, *after = &m->midpoint_after;
        cli_table_row(&table, cli_file_cell(cell, m->path), cli_percent(m->score.accuracy), cli_number(m->score.loss, 4), k ? cli_percent(before->accuracy) : NULL,
            cli_number(before->loss, 4), cli_percent(after->accuracy), cli_number(after->loss, 4), NULL);
    }
    cli_table_print(&table);
}

#define SHORT_REASONS 3

/* The first few reasons; --list-groups and JSON have all. */
static void pinned_lines(const PapaAlignReport *r, bool all)
{
    int shown = 0;
    if (!r->n_pinned)
        return;
    printf("\nwhat must stay: %d ax%ss of tensors\n", r->n_pinned, r->n_pinned == 1 ? "i" : "e");
    for (int i = 0; i < r->n_pinned && (all || shown < SHORT_REASONS); i++) {
        const PapaAlignPinned *p = &r->pinned[i];
        bool said = false;
        for (int j = 0; j < i && !all && !said; j++)
            said = !strcmp(r->pinned[j].why, p->why);
        if (said)
            continue;
        printf("  %s, axis %d: %lld: %s\n", p->tensor, p->axis, (long long)p->n, p->why);
        shown++;
    }
}

/* ---------------------------------------------------------------- JSON */

static void json_groups(CliJson *json, const PapaAlignReport *r)
{
    cli_json_open(json, "groups", '[');
    for (int g = 0; g < r->n_groups; g++) {
        const PapaAlignGroup *group = &r->groups[g];
        cli_json_open(json, NULL, '{');
        cli_json_string(json, "name", group->name);
        cli_json_integer(json, "units", group->n);
        cli_json_bool(json, "blocks", group->blocks);
        cli_json_integer(json, "tensors", group->n_tensors);
        cli_json_number(json, "proof", group->proof);
        cli_json_close(json, '}');
    }
    cli_json_close(json, ']');
    cli_json_open(json, "pinned", '[');
    for (int i = 0; i < r->n_pinned; i++) {
        const PapaAlignPinned *p = &r->pinned[i];
        cli_json_open(json, NULL, '{');
        cli_json_string(json, "tensor", p->tensor);
        cli_json_integer(json, "axis", p->axis);
        cli_json_integer(json, "positions", p->n);
        cli_json_string(json, "why", p->why);
        cli_json_close(json, '}');
    }
    cli_json_close(json, ']');
}

static void json_moves(CliJson *json, const PapaAlignReport *r, const PapaAlignModel *m)
{
    cli_json_number(json, "objective", m->objective);
    cli_json_integer(json, "sweeps", m->sweeps);
    cli_json_integer(json, "restart", m->restart);
    cli_json_number(json, "proof", m->proof);
    cli_json_number(json, "distance_before", m->distance_before);
    cli_json_number(json, "distance_after", m->distance_after);
    cli_json_open(json, "moves", '[');
    for (int g = 0; g < r->n_groups; g++) {
        cli_json_open(json, NULL, '{');
        cli_json_string(json, "group", r->groups[g].name);
        cli_json_number(json, "moved", m->moves[g].moved);
        cli_json_number(json, "cosine_before", m->moves[g].similarity_before);
        cli_json_number(json, "cosine_after", m->moves[g].similarity_after);
        cli_json_close(json, '}');
    }
    cli_json_close(json, ']');
    cli_json_score(json, "midpoint_before", &m->midpoint_before);
    cli_json_score(json, "midpoint_after", &m->midpoint_after);
}

static void print_json(const PapaAlignReport *r, const PapaAlignOptions *o)
{
    CliJson json = {0};
    cli_json_open(&json, NULL, '{');
    cli_json_string(&json, "method", methods[o->method]);
    cli_json_string(&json, "to", goals[o->to]);
    json_groups(&json, r);
    cli_json_open(&json, "models", '[');
    for (int k = 0; k < r->n_models; k++) {
        const PapaAlignModel *m = &r->models[k];
        cli_json_open(&json, NULL, '{');
        cli_json_string(&json, "file", m->path);
        cli_json_string(&json, "out", m->out);
        cli_json_score(&json, "score", &m->score);
        if (m->moves && k)
            json_moves(&json, r, m);
        cli_json_close(&json, '}');
    }
    cli_json_close(&json, ']');
    cli_json_number(&json, "seconds_proof", r->seconds_proof);
    cli_json_number(&json, "seconds_matching", r->seconds_matching);
    cli_json_close(&json, '}');
}

void cli_print_alignment(const PapaAlignReport *r, const PapaAlignOptions *o, bool json)
{
    cli_clear();
    if (json) {
        print_json(r, o);
        return;
    }
    if (!r->n_groups)
        printf("%s: nothing can be permuted\n", r->models[0].path);
    if (r->n_models == 1 && r->n_groups)
        group_table(r, NULL);
    for (int k = 1; k < r->n_models; k++)
        model_lines(r, &r->models[k]);
    score_table(r);
    pinned_lines(r, r->n_models == 1);
    if (r->models[0].out) {
        printf("\nwritten: ");
        for (int k = 0; k < r->n_models; k++)
            printf("%s%s", k ? ", " : "", r->models[k].out);
        printf(" (proved in %.1f s, matched in %.1f s)\n", r->seconds_proof, r->seconds_matching);
    }
}
