/* JSON (RFC 8259), read in place: a value is a stretch of a text that was checked once, as a whole. Nothing is allocated. */
#ifndef PAPA_JSON_H
#define PAPA_JSON_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct PapaJson {
    const char *at;
    size_t bytes; /* 0: no value */
} PapaJson;

/* The one value that the text is, white space around it cut off. Errors: PAPA_ERR_FORMAT "FILE:LINE: expected ...". Nesting beyond 64 levels and
 * a key that an object holds twice are errors too. */
PapaStatus papa_json_parse(PapaJson *out, const char *text, size_t bytes, const char *file);

/* '{', '[', '"', '0' (a number), 't', 'f' or 'n' (null). */
char papa_json_kind(PapaJson value);

/* Steps to the next member of an object, or element of an array (key NULL). *value is empty before the first. False behind the last. */
bool papa_json_next(PapaJson container, PapaJson *key, PapaJson *value);

/* Whether value is the string `text`; strings with escapes equal none. */
bool papa_json_is(PapaJson value, const char *text);

/* A string's contents, at most bytes - 1 of them; false where it is no string, has escapes or is longer. */
bool papa_json_text(PapaJson value, char *out, size_t bytes);

/* False where it is no number. */
bool papa_json_number(PapaJson value, double *out);

#endif
