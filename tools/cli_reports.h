/* What merging found out (papa.h's reports), for people and as JSON. */
#ifndef CLI_REPORTS_H
#define CLI_REPORTS_H

#include "tools/cli.h"

/* out: the file that was written. base: NULL: there is none. method: its name. */
void cli_print_soup(const PapaSoupReport *report, const char *method, const char *base, const char *out, bool json);
/* svg: NULL: none was drawn. */
void cli_print_path(const PapaPathReport *report, const char *svg, bool json);
void cli_print_alignment(const PapaAlignReport *report, const PapaAlignOptions *options, bool json);
void cli_print_diagnosis(const PapaDiagnosis *diagnosis, bool json);

/* A member of a JSON object: null where nothing was scored. */
void cli_json_score(CliJson *json, const char *name, const PapaScore *score);

/* A file's name as a cell of a table: its end where it is long. */
const char *cli_file_cell(char cell[CLI_CELL_BYTES], const char *path);

#endif
