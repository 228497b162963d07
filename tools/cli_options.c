/* Options from a table. */
#include "tools/cli.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int cli_usage_error(const CliProgram *program, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", program->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (%s --help lists the options)\n", program->name);
    return CLI_USAGE;
}

/* ---------------------------------------------------------------- numbers */

static bool any_number(const CliRange *range)
{
    return range->low == 0 && range->high == 0;
}

static bool in_range(const CliRange *range, double x)
{
    if (any_number(range))
        return fabs(x) <= FLT_MAX;
    return (range->low_open ? x > range->low : x >= range->low) && (range->high_open ? x < range->high : x <= range->high);
}

/* "a number above 0", for messages. */
static const char *describe(const CliRange *range, const char *what)
{
    static char text[128];
    if (any_number(range))
        snprintf(text, sizeof text, "expected %s", what);
    else if (range->high >= FLT_MAX)
        snprintf(text, sizeof text, "expected %s %s %g", what, range->low_open ? "above" : "from", range->low);
    else
        snprintf(text, sizeof text, "expected %s %s %g %s %g", what, range->low_open ? "above" : "from", range->low,
            range->high_open ? "and below" : "to", range->high);
    return text;
}

/* strtod and strtoll skip white space, take an empty text for 0, and know hexadecimal numbers, "inf" and "nan". */
static bool starts_number(const char *text)
{
    if (text[strspn(text, "+-0123456789")] == 'x' || text[strspn(text, "+-0123456789")] == 'X')
        return false;
    return *text == '-' || *text == '+' || *text == '.' || (*text >= '0' && *text <= '9');
}

static const char *parse_double(const char *text, const char **end, const CliRange *range, double *out)
{
    errno = 0;
    char *stop;
    double x = starts_number(text) ? strtod(text, &stop) : NAN;
    bool underflow = errno == ERANGE && fabs(x) < 1;
    if (!isfinite(x) || stop == text || (errno && !underflow) || !in_range(range, x))
        return describe(range, "a number");
    *end = stop;
    *out = x;
    return NULL;
}

static const char *parse_number(const char *text, const CliRange *range, double *out)
{
    const char *end = text;
    double x = 0;
    const char *fault = parse_double(text, &end, range, &x);
    if (!fault && *end)
        fault = describe(range, "a number");
    if (!fault)
        *out = x;
    return fault;
}

const char *cli_parse_float(const char *text, const CliRange *range, float *out)
{
    double x = 0;
    const char *fault = parse_number(text, range, &x);
    if (!fault)
        *out = (float)x;
    return fault;
}

const char *cli_parse_int(const char *text, const CliRange *range, int *out)
{
    errno = 0;
    char *end;
    long long x = strtoll(text, &end, 10);
    if (!starts_number(text) || *text == '.' || end == text || *end || errno || x < INT_MIN || x > INT_MAX || !in_range(range, (double)x))
        return describe(range, "a whole number");
    *out = (int)x;
    return NULL;
}

const char *cli_parse_seed(const char *text, uint64_t *out)
{
    errno = 0;
    char *end;
    unsigned long long x = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return "expected a whole number from 0 to 18446744073709551615";
    *out = x;
    return NULL;
}

/* to: room for most numbers; *n: those that were found. */
static const char *parse_numbers(const char *text, const CliRange *range, double *to, int most, int *n)
{
    *n = 0;
    for (const char *at = text;; at++) {
        const char *fault = *n == most ? "too many numbers" : parse_double(at, &at, range, &to[*n]);
        if (!fault && *at && *at != ',')
            fault = describe(range, "a number");
        if (fault)
            return fault;
        ++*n;
        if (!*at)
            return NULL;
    }
}

static const char *parse_list(const char *text, const CliOption *option)
{
    static char fault_text[160];
    double values[64];
    float *to = option->to;
    int n;
    const char *fault = parse_numbers(text, &option->range, values, option->max_count, &n);
    if (fault) {
        snprintf(fault_text, sizeof fault_text, "%s; the list may hold 1 to %d, separated by commas", fault, option->max_count);
        return fault_text;
    }
    for (int i = 0; i < n; i++)
        to[i] = (float)values[i];
    *option->count = n;
    return NULL;
}

static const char *parse_long_list(const char *text, const CliOption *option)
{
    static char fault_text[160];
    int most = 1, n;
    for (const char *c = text; *c; c++)
        most += *c == ',';
    double *values = malloc((size_t)most * sizeof *values);
    if (!values)
        return "out of memory";
    const char *fault = parse_numbers(text, &option->range, values, most, &n);
    if (fault) {
        snprintf(fault_text, sizeof fault_text, "%s; the list holds numbers, separated by commas", fault);
        free(values);
        return fault_text;
    }
    free(*(double **)option->to);
    *(double **)option->to = values;
    *option->count = n;
    return NULL;
}

/* ---------------------------------------------------------------- words */

static int distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return LONGEST;
    int rows[3][LONGEST + 1], *two_up = rows[0], *up = rows[1], *row = rows[2];
    for (size_t j = 0; j <= m; j++)
        up[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_up[j - 2] + 1 < best)
                best = two_up[j - 2] + 1; /* two letters swapped */
            row[j] = best;
        }
        int *oldest = two_up;
        two_up = up, up = row, row = oldest;
    }
    return up[m];
}

const char *cli_closest(const char *word, const char *const *names)
{
    const char *best = NULL;
    int best_distance = strlen(word) < 5 ? 2 : 3; /* must be nearer than this */
    for (; *names; names++) {
        int d = distance(word, *names);
        if (d < best_distance) {
            best = *names;
            best_distance = d;
        }
    }
    return best;
}

static int unknown_option(const CliProgram *program, const char *written, const char *name)
{
    const char *names[128];
    int n = 0;
    for (const CliOption *o = program->options; o->text && n < 125; o++)
        if (o->type != CLI_GROUP)
            names[n++] = o->name;
    names[n++] = "help", names[n++] = "version", names[n] = NULL;
    const char *closest = cli_closest(name, names);
    if (closest)
        return cli_usage_error(program, "unknown option '%s'; did you mean '--%s'?", written, closest);
    return cli_usage_error(program, "unknown option '%s'", written);
}

static int bad_choice(const CliProgram *program, const CliOption *option, const char *text)
{
    char list[256] = "";
    size_t used = 0;
    for (const char *const *choice = option->choices; *choice && used < sizeof list; choice++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *choice);
    const char *closest = cli_closest(text, option->choices);
    return cli_usage_error(program, "--%s: '%s' is not one of %s%s%s%s", option->name, text, list, closest ? "; did you mean '" : "",
        closest ? closest : "", closest ? "'?" : "");
}

/* ---------------------------------------------------------------- parsing */

static const char *const on_off[] = {"on", "off", NULL};

static int choose(const CliProgram *program, const CliOption *option, const char *text, int *index)
{
    for (int i = 0; option->choices[i]; i++)
        if (!strcmp(option->choices[i], text)) {
            *index = i;
            return CLI_CONTINUE;
        }
    return bad_choice(program, option, text);
}

static int set_option(const CliProgram *program, const CliOption *option, const char *text)
{
    const char *fault = NULL;
    int index, code;
    CliOption with_choices = *option;
    switch (option->type) {
    case CLI_GROUP:
        break;
    case CLI_FLAG:
        *(bool *)option->to = true;
        break;
    case CLI_SWITCH:
        with_choices.choices = on_off;
        if ((code = choose(program, &with_choices, text, &index)) != CLI_CONTINUE)
            return code;
        *(bool *)option->to = index == 0;
        break;
    case CLI_CHOICE:
    case CLI_MODE:
        if ((code = choose(program, option, text, &index)) != CLI_CONTINUE)
            return code;
        *(int *)option->to = index;
        break;
    case CLI_STRING:
        if (!*text)
            fault = "expected a text";
        *(const char **)option->to = text;
        break;
    case CLI_INT:
        fault = cli_parse_int(text, &option->range, option->to);
        break;
    case CLI_SEED:
        fault = cli_parse_seed(text, option->to);
        break;
    case CLI_FLOAT:
        fault = cli_parse_float(text, &option->range, option->to);
        break;
    case CLI_NUMBER:
        fault = parse_number(text, &option->range, option->to);
        break;
    case CLI_LIST:
        fault = parse_list(text, option);
        break;
    case CLI_NUMBERS:
        fault = parse_long_list(text, option);
        break;
    }
    if (!fault && option->given)
        *option->given = true;
    return fault ? cli_usage_error(program, "--%s: '%s': %s", option->name, text, fault) : CLI_CONTINUE;
}

/* The option that "--name", "--name=value", "-x" or "-xvalue" stands for; *value is what is joined to it, or NULL. */
static const CliOption *find_option(const CliProgram *program, const char *word, const char **value, char *name, size_t name_bytes)
{
    bool is_long = word[1] == '-';
    const char *begin = word + (is_long ? 2 : 1);
    size_t length = is_long ? strcspn(begin, "=") : 1;
    snprintf(name, name_bytes, "%.*s", (int)(length < name_bytes ? length : name_bytes - 1), begin);
    *value = begin[length] ? begin + length + is_long : NULL;
    for (const CliOption *o = program->options; o->text; o++)
        if (o->type != CLI_GROUP && (is_long ? !strcmp(o->name, name) : o->letter == *begin))
            return o;
    return NULL;
}

static bool is_choice(const CliOption *option, const char *word)
{
    for (const char *const *choice = option->choices; *choice; choice++)
        if (!strcmp(*choice, word))
            return true;
    return false;
}

/* One option at argv[*i]; advances *i past its value. */
static int take_option(const CliProgram *program, int argc, char **argv, int *i)
{
    char name[64];
    const char *word = argv[*i], *value;
    const CliOption *option = find_option(program, word, &value, name, sizeof name);
    bool is_long = word[1] == '-';
    if (!option && !value && (!strcmp(name, "help") || (!is_long && *name == 'h'))) {
        cli_help(program);
        return cli_finish(CLI_DONE);
    }
    if (!option && !value && is_long && !strcmp(name, "version")) {
        printf("%s %s\n", program->name, papa_version());
        return cli_finish(CLI_DONE);
    }
    if (!option)
        return unknown_option(program, word, is_long ? name : word);
    if (option->type == CLI_FLAG && value)
        return cli_usage_error(program, "--%s takes no value", option->name);
    if (option->type == CLI_MODE && !value)
        value = *i + 1 < argc && is_choice(option, argv[*i + 1]) ? argv[++*i] : option->choices[0];
    if (option->type != CLI_FLAG && !value) {
        if (*i + 1 >= argc)
            return cli_usage_error(program, "--%s needs a value", option->name);
        value = argv[++*i];
    }
    return set_option(program, option, value);
}

int cli_parse(const CliProgram *program, int argc, char **argv, int *n_args)
{
    int n = 0;
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        if (!options_end && !strcmp(argv[i], "--")) {
            options_end = true;
        } else if (options_end || argv[i][0] != '-' || !argv[i][1]) {
            argv[1 + n++] = argv[i];
        } else {
            int code = take_option(program, argc, argv, &i);
            if (code != CLI_CONTINUE)
                return code;
        }
    }
    *n_args = n;
    if (n < program->min_args)
        return cli_usage_error(program, "%s is missing", program->arg);
    if (program->max_args >= 0 && n > program->max_args)
        return cli_usage_error(program, "unexpected argument '%s'", argv[1 + program->max_args]);
    return CLI_CONTINUE;
}
