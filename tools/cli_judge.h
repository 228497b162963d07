/* Options of papa-soup and papa-align: images to judge and to measure by, and how to run. */
#ifndef CLI_JUDGE_H
#define CLI_JUDGE_H

#include "tools/cli.h"

enum { CLI_JUDGE_OPTIONS = 20 }; /* entries of cli_judge_options */

typedef struct CliJudge {
    PapaJudgeOptions *options; /* with their defaults */
    uint64_t *seed;
    bool *json;
    const char *heading;       /* of the data's options */
    const char *output;        /* text of --output */
    int n_mean, n_std;
    struct { /* on the command line */
        bool data, val_data, val, test_data, split, norm, output, flip, crop, repair_batches, batch, device, precision;
    } given;
} CliJudge;

/* Writes the options, and the entry that ends a table, to the end of a program's. */
void cli_judge_options(CliOption *to, CliJudge *judge);
/* The first option given that is of no use without --data, but for --output; NULL: there is none. */
const char *cli_judge_needy(const CliJudge *judge);
/* What goes together. Completes *judge->options. CLI_CONTINUE, or the code to exit with. */
int cli_judge_check(const CliProgram *program, CliJudge *judge);

#endif
