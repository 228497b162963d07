/* --help: the table as a page of at most 100 columns. */
#include "tools/cli.h"

#include <inttypes.h>
#include <string.h>

enum { TEXT_COLUMN = 30, PAGE_WIDTH = 100 };

/* Prints text from the column where the cursor stands, broken between words, later lines indented to TEXT_COLUMN. */
static void wrapped(const char *text)
{
    int column = TEXT_COLUMN;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > TEXT_COLUMN && column + 1 + length > PAGE_WIDTH) {
            printf("\n%*s", TEXT_COLUMN, "");
            column = TEXT_COLUMN;
        }
        column += printf("%s%.*s", column > TEXT_COLUMN ? " " : "", length, text);
        text += length;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void default_text(char *to, size_t size, const CliOption *o)
{
    *to = 0;
    if (o->fallback) {
        snprintf(to, size, "%s", o->fallback);
        return;
    }
    switch (o->type) {
    case CLI_GROUP:
    case CLI_FLAG:
        break;
    case CLI_SWITCH:
        snprintf(to, size, "%s", *(const bool *)o->to ? "on" : "off");
        break;
    case CLI_STRING:
        if (*(const char *const *)o->to)
            snprintf(to, size, "%s", *(const char *const *)o->to);
        break;
    case CLI_INT:
        snprintf(to, size, "%d", *(const int *)o->to);
        break;
    case CLI_SEED:
        snprintf(to, size, "%" PRIu64, *(const uint64_t *)o->to);
        break;
    case CLI_FLOAT:
        snprintf(to, size, "%g", (double)*(const float *)o->to);
        break;
    case CLI_NUMBER:
        snprintf(to, size, "%g", *(const double *)o->to);
        break;
    case CLI_CHOICE:
    case CLI_MODE:
        snprintf(to, size, "%s", o->choices[*(const int *)o->to]);
        break;
    case CLI_NUMBERS: /* none, until the option is given */
        break;
    case CLI_LIST:
        for (int i = 0, used = 0; i < *o->count && (size_t)used < size; i++)
            used += snprintf(to + used, size - (size_t)used, "%s%g", i ? "," : "", (double)((const float *)o->to)[i]);
        break;
    }
}

static void value_text(char *to, size_t size, const CliOption *o)
{
    *to = 0;
    if (o->type == CLI_SWITCH) {
        snprintf(to, size, " on|off");
    } else if ((o->type == CLI_CHOICE && !o->value) || o->type == CLI_MODE) {
        size_t used = 0;
        const char *open = o->type == CLI_MODE ? " [" : " ";
        for (int i = 0; o->choices[i] && used < size; i++)
            used += (size_t)snprintf(to + used, size - used, "%s%s", i ? "|" : open, o->choices[i]);
        if (o->type == CLI_MODE && used < size)
            snprintf(to + used, size - used, "]");
    } else if (o->value) {
        snprintf(to, size, " %s", o->value);
    }
}

static void option_help(const CliOption *o)
{
    char value[160], left[224], fallback[128], text[1024];
    value_text(value, sizeof value, o);
    if (o->letter)
        snprintf(left, sizeof left, "  -%c, --%s%s", o->letter, o->name, value);
    else
        snprintf(left, sizeof left, "  --%s%s", o->name, value);
    default_text(fallback, sizeof fallback, o);
    snprintf(text, sizeof text, "%s%s%s%s", o->text, *fallback ? " [" : "", fallback, *fallback ? "]" : "");
    if (printf("%-*s", TEXT_COLUMN, left) > TEXT_COLUMN - 1 && strlen(left) >= TEXT_COLUMN)
        printf("\n%*s", TEXT_COLUMN, "");
    wrapped(text);
}

void cli_help(const CliProgram *program)
{
    printf("Usage: %s %s\n\n%s\n", program->name, program->usage, program->summary);
    for (const CliOption *o = program->options; o->text; o++) {
        if (o->type == CLI_GROUP)
            printf("\n%s\n", o->text);
        else
            option_help(o);
    }
    static const CliOption standard[] = {
        {.type = CLI_FLAG, .name = "help", .letter = 'h', .text = "print this page"},
        {.type = CLI_FLAG, .name = "version", .text = "print the version"},
    };
    printf("\nOther\n");
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++)
        option_help(&standard[i]);
    if (program->closing)
        printf("\n%s\n", program->closing);
}
