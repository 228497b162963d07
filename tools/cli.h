/* What the tools share: options from a table, progress and remarks, results as a table or as JSON, signals, exit codes.
 *
 * Results and help go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 bad usage. Knows papa.h only. */
#ifndef CLI_H
#define CLI_H

#include "papa.h"

#include <float.h>
#include <stdio.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONTINUE = -1 };

/* ---------------------------------------------------------------- options */

typedef enum CliType {
    CLI_GROUP,  /* a heading in the help: text only */
    CLI_FLAG,   /* --name: *(bool *)to becomes true */
    CLI_SWITCH, /* --name on|off: *(bool *)to */
    CLI_STRING, /* *(const char **)to, points into argv */
    CLI_INT,    /* *(int *)to, decimal, within range */
    CLI_SEED,   /* *(uint64_t *)to */
    CLI_FLOAT,  /* *(float *)to, finite and within range */
    CLI_NUMBER, /* *(double *)to, likewise */
    CLI_CHOICE, /* *(int *)to (an enum): index of the word in choices */
    CLI_MODE,   /* --name or --name WORD: likewise; without one of the words the first of them */
    CLI_LIST,   /* "0,.5,1": up to max_count floats within range to (float *)to, their number to *count */
    CLI_NUMBERS, /* likewise any number of doubles: *(double **)to, for the program's life */
} CliType;

/* Which numbers an option takes. Bounds are inclusive unless marked open. All zeros: any finite number. */
typedef struct CliRange {
    double low, high;
    bool low_open, high_open;
} CliRange;

#define CLI_FROM(a) {(a), FLT_MAX, false, false}
#define CLI_ABOVE(a) {(a), FLT_MAX, true, false}
#define CLI_BETWEEN(a, b) {(a), (b), false, false}
#define CLI_BELOW(a, b) {(a), (b), false, true} /* from a to less than b */

typedef struct CliOption {
    CliType type;
    const char *name;           /* without the dashes */
    char letter;                /* short form; 0: none */
    void *to;                   /* holds the default when parsing begins */
    const char *value;          /* what the help calls the value; NULL for flags and switches, and for choices that the help shall list */
    const char *text;           /* help: one sentence without a full stop; of a group: the heading */
    const char *fallback;       /* help: the default in words; NULL: printed from *to; "": not mentioned */
    CliRange range;
    const char *const *choices; /* NULL-terminated */
    int *count, max_count;
    bool *given;                /* becomes true; NULL: nobody asks */
} CliOption;

typedef struct CliProgram {
    const char *name;           /* "papa-eval" */
    const char *usage;          /* "MODEL.onnx... --data DATA [options]" */
    const char *summary;        /* a paragraph, lines broken by hand */
    const CliOption *options;   /* ended by an entry without type and text */
    int min_args, max_args;     /* arguments that are not options; max -1: any number */
    const char *arg;            /* what to call a missing one: "a model (an ONNX file)" */
    const char *closing;        /* a paragraph behind the options, may be NULL */
} CliProgram;

/* Moves the arguments that are not options to the front of argv[1..] and counts them; the rest sets the options' variables. Handles --help
 * and --version. Returns CLI_CONTINUE, or the code to exit with at once: the message has been printed. */
int cli_parse(const CliProgram *program, int argc, char **argv, int *n_args);

/* One line on stderr, ending in where to find help; returns CLI_USAGE. */
int cli_usage_error(const CliProgram *program, const char *format, ...) __attribute__((format(printf, 2, 3)));

void cli_help(const CliProgram *program);

/* Strict numbers: the whole text, no white space, finite, in range. NULL, or what is wrong with it (a static text). */
const char *cli_parse_float(const char *text, const CliRange *range, float *out);
const char *cli_parse_int(const char *text, const CliRange *range, int *out);
const char *cli_parse_seed(const char *text, uint64_t *out);

/* The name in the NULL-terminated list that is closest to a misspelt one, NULL if none is near. */
const char *cli_closest(const char *word, const char *const *names);

/* ---------------------------------------------------------------- while it runs */

/* Hooks that print remarks as lines, show progress as a bar on a terminal and as a line every ten seconds elsewhere, and whose
 * stop flag the first SIGINT or SIGTERM sets; a second one ends the process. Call once. */
PapaHooks cli_start(const char *program_name);

/* Takes the progress bar off the terminal. Called by everything below that prints. */
void cli_clear(void);

/* "program: message" on stderr. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the output: code, or CLI_FAILED where stdout could not be written. */
int cli_finish(int code);

/* One line of progress, at most width - 1 bytes, for a terminal (bar) or a log. */
void cli_progress_line(char *line, size_t size, const PapaProgress *progress, int width, bool bar);

/* ---------------------------------------------------------------- results */

enum { CLI_MAX_COLUMNS = 8, CLI_CELL_BYTES = 64 };

/* Rows of text in columns: the first to the left, the others to the right. */
typedef struct CliTable {
    char (*cells)[CLI_MAX_COLUMNS][CLI_CELL_BYTES];
    int n_columns, n_rows, capacity;
    bool failed; /* memory ran out */
} CliTable;

void cli_table_row(CliTable *table, const char *label, ...) __attribute__((sentinel)); /* cells as strings, ended by NULL; "" for an empty one */
/* Prints to stdout and frees. */
void cli_table_print(CliTable *table);

/* A number as the tables show it; "-" for NaN. The text is valid until the next eight calls. */
const char *cli_percent(double fraction);
const char *cli_number(double x, int digits);

/* JSON on stdout, two spaces a level. Strings are escaped and made valid UTF-8; numbers that are not finite become null. name is NULL inside arrays. */
typedef struct CliJson {
    int depth;
    bool empty[16]; /* by depth: nothing inside yet */
} CliJson;

void cli_json_open(CliJson *json, const char *name, char bracket); /* '{' or '[' */
void cli_json_close(CliJson *json, char bracket);                  /* '}' or ']'; at depth 0 a newline */
void cli_json_string(CliJson *json, const char *name, const char *value); /* NULL: null */
void cli_json_number(CliJson *json, const char *name, double value);
void cli_json_integer(CliJson *json, const char *name, int64_t value);
void cli_json_bool(CliJson *json, const char *name, bool value);

#endif
