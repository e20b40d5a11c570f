/*
 * The members of one JSON object, as far as the examples need them: numbers and plain strings of the outermost level.
 * It checks nesting and quotes, never reads past the end, and gives up (returns 0) on anything that it does not understand.
 */
#ifndef JSON_FIELD_H
#define JSON_FIELD_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *text;
    size_t len;
} json_slice;

static inline size_t json_blank(const char *json, size_t len, size_t at) {
    while (at < len && (json[at] == ' ' || json[at] == '\t' || json[at] == '\n' || json[at] == '\r')) at++;
    return at;
}

/* The position after the string that begins at the quote here; 0 when it has no end. */
static inline size_t json_string_end(const char *json, size_t len, size_t at) {
    for (at++; at < len; at++) {
        if (json[at] == '\\') at++;
        else if (json[at] == '"') return at + 1;
    }
    return 0;
}

/* The position after the value that begins here; 0 when it has no end. */
static inline size_t json_value_end(const char *json, size_t len, size_t at) {
    size_t depth = 0;
    while (at < len) {
        char c = json[at];
        if (c == '"') {
            at = json_string_end(json, len, at);
            if (at == 0) return 0;
            if (depth == 0) return at;
            continue;
        }
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') {
            if (depth == 0) return at;
            if (--depth == 0) return at + 1;
        }
        if (depth == 0 && c == ',') return at;
        at++;
    }
    return 0;
}

/* Finds a member of the outermost object: its value as written. */
static inline int json_field(const char *json, size_t len, const char *name, json_slice *value) {
    size_t at = json_blank(json, len, 0);
    if (at >= len || json[at] != '{') return 0;
    for (at = json_blank(json, len, at + 1); at < len && json[at] == '"'; at = json_blank(json, len, at + 1)) {
        size_t key_end = json_string_end(json, len, at);
        if (key_end == 0) return 0;
        int is_wanted = key_end - at - 2 == strlen(name) && memcmp(json + at + 1, name, strlen(name)) == 0;
        at = json_blank(json, len, key_end);
        if (at >= len || json[at] != ':') return 0;
        at = json_blank(json, len, at + 1);
        size_t end = json_value_end(json, len, at);
        if (end == 0) return 0;
        if (is_wanted) {
            value->text = json + at;
            value->len = end - at;
            return 1;
        }
        at = json_blank(json, len, end);
        if (at >= len || json[at] != ',') return 0;
    }
    return 0;
}

/* A member that is a string without escapes, copied with a zero byte; 0 when it is none, or does not fit. */
static inline int json_text(const char *json, size_t len, const char *name, char *into, size_t room) {
    json_slice value;
    if (!json_field(json, len, name, &value) || value.len < 2 || value.text[0] != '"' || value.len - 2 >= room) return 0;
    if (memchr(value.text, '\\', value.len) != NULL) return 0;
    memcpy(into, value.text + 1, value.len - 2);
    into[value.len - 2] = '\0';
    return 1;
}

/* A member that is a number. */
static inline int json_number(const char *json, size_t len, const char *name, double *into) {
    json_slice value;
    char digits[40];
    char *end;
    if (!json_field(json, len, name, &value) || value.len == 0 || value.len >= sizeof digits) return 0;
    memcpy(digits, value.text, value.len);
    digits[value.len] = '\0';
    digits[strcspn(digits, " \t\r\n")] = '\0';
    if (strchr("-0123456789", digits[0]) == NULL) return 0;
    *into = strtod(digits, &end);
    return *end == '\0' && end != digits;
}

#endif
