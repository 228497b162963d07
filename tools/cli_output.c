/* Results: a table for people, JSON for programs. */
#include "tools/cli.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- table */

static char (*new_row(CliTable *table))[CLI_CELL_BYTES]
{
    if (table->n_rows == table->capacity) {
        int capacity = table->capacity ? 2 * table->capacity : 16;
        void *cells = realloc(table->cells, (size_t)capacity * sizeof *table->cells);
        if (!cells) {
            table->failed = true;
            return NULL;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    char(*row)[CLI_CELL_BYTES] = table->cells[table->n_rows++];
    memset(row, 0, sizeof *table->cells);
    return row;
}

void cli_table_row(CliTable *table, const char *label, ...)
{
    char(*row)[CLI_CELL_BYTES] = new_row(table);
    if (!row)
        return;
    int n = 0;
    va_list args;
    va_start(args, label);
    for (const char *cell = label; cell; cell = va_arg(args, const char *)) {
        assert(n < CLI_MAX_COLUMNS);
        snprintf(row[n++], CLI_CELL_BYTES, "%s", cell);
    }
    va_end(args);
    if (n > table->n_columns)
        table->n_columns = n;
}

/* Characters of UTF-8, not bytes. */
static int letters(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

/* The first column to the left, the others to the right; no blanks at the end. */
static void print_row(const char (*cells)[CLI_CELL_BYTES], const int *width, int n_columns)
{
    int blanks = 0;
    for (int c = 0; c < n_columns; c++) {
        int padding = width[c] - letters(cells[c]);
        blanks += c ? 2 + padding : 0;
        if (*cells[c])
            printf("%*s%s", blanks, "", cells[c]);
        blanks = !*cells[c] ? blanks : 0;
        blanks += c ? 0 : padding;
    }
    putchar('\n');
}

void cli_table_print(CliTable *table)
{
    int width[CLI_MAX_COLUMNS] = {0};
    for (int r = 0; r < table->n_rows; r++)
        for (int c = 0; c < table->n_columns; c++) {
            int length = letters(table->cells[r][c]);
            width[c] = length > width[c] ? length : width[c];
        }
    cli_clear();
    for (int r = 0; r < table->n_rows; r++)
        print_row(table->cells[r], width, table->n_columns);
    if (table->failed)
        cli_error("out of memory: the table is not complete");
    free(table->cells);
    *table = (CliTable){0};
}

static char *next_text(void)
{
    static char texts[8][CLI_CELL_BYTES];
    static int turn;
    return texts[turn++ % 8];
}

const char *cli_number(double x, int digits)
{
    if (isnan(x))
        return "-";
    char *text = next_text();
    snprintf(text, CLI_CELL_BYTES, "%.*f", digits, x);
    return text;
}

const char *cli_percent(double fraction)
{
    if (isnan(fraction))
        return "-";
    char *text = next_text();
    snprintf(text, CLI_CELL_BYTES, "%.2f %%", 100 * fraction);
    return text;
}

/* ---------------------------------------------------------------- JSON */

/* Bytes of the well-formed UTF-8 sequence at s (Unicode 15, table 3-7), 0 if there is none. */
static int utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : s[0] >= 0xE0 && s[0] <= 0xEF ? 3 : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    bool no_character = (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF4 && s[1] > 0x8F);
    return overlong || no_character ? 0 : n;
}

static void print_string(const char *text)
{
    putchar('"');
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        int n = utf8_length(s);
        if (!n)
            fputs("\\ufffd", stdout);
        else if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if (*s < 0x20 || *s == 0x7f)
            printf("\\u%04x", *s);
        else
            printf("%.*s", n, s);
        s += n ? n : 1;
    }
    putchar('"');
}

static void begin_item(CliJson *json, const char *name)
{
    if (json->depth) {
        if (!json->empty[json->depth])
            putchar(',');
        printf("\n%*s", 2 * json->depth, "");
    }
    json->empty[json->depth] = false;
    if (name) {
        print_string(name);
        fputs(": ", stdout);
    }
}

void cli_json_open(CliJson *json, const char *name, char bracket)
{
    cli_clear();
    begin_item(json, name);
    putchar(bracket);
    json->depth++;
    assert(json->depth < (int)sizeof json->empty);
    json->empty[json->depth] = true;
}

void cli_json_close(CliJson *json, char bracket)
{
    bool empty = json->empty[json->depth--];
    if (!empty)
        printf("\n%*s", 2 * json->depth, "");
    putchar(bracket);
    if (!json->depth)
        putchar('\n');
}

void cli_json_string(CliJson *json, const char *name, const char *value)
{
    begin_item(json, name);
    if (value)
        print_string(value);
    else
        fputs("null", stdout);
}

void cli_json_number(CliJson *json, const char *name, double value)
{
    begin_item(json, name);
    if (!isfinite(value)) {
        fputs("null", stdout);
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) { /* as short as reads back the same */
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, stdout);
}

void cli_json_integer(CliJson *json, const char *name, int64_t value)
{
    begin_item(json, name);
    printf("%" PRId64, value);
}

void cli_json_bool(CliJson *json, const char *name, bool value)
{
    begin_item(json, name);
    fputs(value ? "true" : "false", stdout);
}
