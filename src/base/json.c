/* A recursive descent that only ever moves forward; the readers of checked text trust it. */
#include "base/json.h"

#include <math.h>
#include <string.h>

enum { MOST_LEVELS = 64 };

typedef struct Reader {
    const char *at, *end;
    const char *expected; /* at `at`, where something else stood; NULL: all well */
} Reader;

static bool fail(Reader *r, const char *expected)
{
    if (!r->expected)
        r->expected = expected;
    return false;
}

static void skip_space(Reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
}

static bool take(Reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take_digits(Reader *r)
{
    const char *first = r->at;
    while (r->at < r->end && is_digit(*r->at))
        r->at++;
    return r->at > first || fail(r, "a digit");
}

static bool take_number(Reader *r)
{
    take(r, '-');
    if (!take(r, '0') && !take_digits(r))
        return false;
    if (take(r, '.') && !take_digits(r))
        return false;
    if (!take(r, 'e') && !take(r, 'E'))
        return true;
    if (!take(r, '+'))
        take(r, '-');
    return take_digits(r);
}

static bool take_escape(Reader *r)
{
    if (!take(r, 'u')) {
        if (r->at == r->end || !*r->at || !strchr("\"\\/bfnrt", *r->at))
            return fail(r, "an escape");
        r->at++;
        return true;
    }
    for (int i = 0; i < 4; i++, r->at++)
        if (r->at == r->end || !*r->at || !strchr("0123456789abcdefABCDEF", *r->at))
            return fail(r, "a hexadecimal digit");
    return true;
}

static bool take_string(Reader *r)
{
    if (!take(r, '"'))
        return fail(r, "a string");
    while (!take(r, '"')) {
        if (r->at == r->end || (unsigned char)*r->at < ' ')
            return fail(r, "a quotation mark");
        if (take(r, '\\')) {
            if (!take_escape(r))
                return false;
        } else {
            r->at++;
        }
    }
    return true;
}

static bool take_word(Reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n))
        return fail(r, "a value");
    r->at += n;
    return true;
}

static bool take_value(Reader *r, int level);

/* Whether [key, key + bytes) is among the keys of the object that begins at `object` and is checked up to here. */
static bool is_twice(const char *object, const char *key, size_t bytes)
{
    PapaJson name = {0}, value = {0}, all = {object, (size_t)(key - object)};
    while (papa_json_next(all, &name, &value))
        if (name.bytes == bytes && !memcmp(name.at, key, bytes))
            return true;
    return false;
}

static bool take_members(Reader *r, char close, int level)
{
    const char *container = r->at - 1;
    if (level == MOST_LEVELS)
        return fail(r, "fewer levels");
    skip_space(r);
    if (take(r, close))
        return true;
    for (;;) {
        skip_space(r);
        if (close == '}') {
            const char *key = r->at;
            if (!take_string(r))
                return false;
            if (is_twice(container, key, (size_t)(r->at - key)))
                return fail(r, "each key once");
            skip_space(r);
            if (!take(r, ':'))
                return fail(r, "a colon");
        }
        if (!take_value(r, level + 1))
            return false;
        skip_space(r);
        if (take(r, close))
            return true;
        if (!take(r, ','))
            return fail(r, close == '}' ? "a comma or the object's end" : "a comma or the array's end");
    }
}

static bool take_value(Reader *r, int level)
{
    skip_space(r);
    if (r->at == r->end)
        return fail(r, "a value");
    switch (*r->at) {
    case '{':
        r->at++;
        return take_members(r, '}', level);
    case '[':
        r->at++;
        return take_members(r, ']', level);
    case '"':
        return take_string(r);
    case 't':
        return take_word(r, "true");
    case 'f':
        return take_word(r, "false");
    case 'n':
        return take_word(r, "null");
    default:
        return is_digit(*r->at) || *r->at == '-' ? take_number(r) : fail(r, "a value");
    }
}

PapaStatus papa_json_parse(PapaJson *out, const char *text, size_t bytes, const char *file)
{
    Reader r = {.at = text, .end = text + bytes};
    *out = (PapaJson){0};
    skip_space(&r);
    const char *first = r.at;
    if (take_value(&r, 0)) {
        *out = (PapaJson){first, (size_t)(r.at - first)};
        skip_space(&r);
        if (r.at != r.end)
            fail(&r, "the file's end");
    }
    if (!r.expected)
        return PAPA_OK;
    int line = 1;
    for (const char *at = text; at < r.at; at++)
        line += *at == '\n';
    return papa_fail(PAPA_ERR_FORMAT, "%s:%d: not JSON: expected %s", file, line, r.expected);
}

char papa_json_kind(PapaJson value)
{
    char c = value.bytes ? *value.at : 'n';
    return is_digit(c) || c == '-' ? '0' : c;
}

bool papa_json_next(PapaJson container, PapaJson *key, PapaJson *value)
{
    Reader r = {.at = value->bytes ? value->at + value->bytes : container.at + 1, .end = container.at + container.bytes};
    skip_space(&r);
    take(&r, ',');
    skip_space(&r);
    if (r.at == r.end || *r.at == '}' || *r.at == ']')
        return false;
    if (key) {
        key->at = r.at;
        take_string(&r);
        key->bytes = (size_t)(r.at - key->at);
        skip_space(&r);
        take(&r, ':');
        skip_space(&r);
    }
    value->at = r.at;
    take_value(&r, 0);
    value->bytes = (size_t)(r.at - value->at);
    return value->bytes > 0;
}

bool papa_json_is(PapaJson value, const char *text)
{
    size_t n = strlen(text);
    return papa_json_kind(value) == '"' && value.bytes == n + 2 && !memchr(value.at, '\\', value.bytes) && !memcmp(value.at + 1, text, n);
}

bool papa_json_text(PapaJson value, char *out, size_t bytes)
{
    if (papa_json_kind(value) != '"' || value.bytes - 2 >= bytes || memchr(value.at, '\\', value.bytes))
        return false;
    memcpy(out, value.at + 1, value.bytes - 2);
    out[value.bytes - 2] = '\0';
    return true;
}

/* Not strtod, which reads the decimal point of the program's locale. Exact up to 15 digits and 22 places, which sizes and speeds keep to. */
bool papa_json_number(PapaJson value, double *out)
{
    if (papa_json_kind(value) != '0')
        return false;
    double number = 0;
    int places = 0, exponent = 0;
    bool behind_point = false;
    size_t i = *value.at == '-';
    for (; i < value.bytes && (is_digit(value.at[i]) || value.at[i] == '.'); i++) {
        if (value.at[i] == '.') {
            behind_point = true;
            continue;
        }
        number = number * 10 + (value.at[i] - '0');
        places += behind_point;
    }
    if (i < value.bytes) { /* stands on the e */
        bool negative = value.at[i + 1] == '-';
        for (i += negative || value.at[i + 1] == '+' ? 2 : 1; i < value.bytes; i++)
            exponent = exponent < 10000 ? exponent * 10 + (value.at[i] - '0') : exponent;
        exponent = negative ? -exponent : exponent;
    }
    exponent -= places;
    number = exponent < 0 ? number / pow(10, -exponent) : number * pow(10, exponent);
    *out = *value.at == '-' ? -number : number;
    return true;
}
