/*
 * The interface of DistriC task plugins, version 1.
 *
 * A plugin is a shared library that exports one constant: `distric_plugin_v1`. Its name is the type of the tasks that it runs.
 *
 *     const distric_plugin distric_plugin_v1 = {
 *         .abi = DISTRIC_PLUGIN_ABI, .size = sizeof(distric_plugin),
 *         .get_name = name, .get_version = version, .execute = execute, .cleanup = cleanup,
 *     };
 *
 * Order of calls in one process: init once, then validate and execute any number of times, one at a time, then shutdown once.
 * A process that is killed gets no shutdown. Every text is UTF-8 and ends with a zero byte; every pointer that the host hands in is valid
 * during the call alone. plugins/examples shows plugins in C and Rust.
 */
#ifndef DISTRIC_PLUGIN_H
#define DISTRIC_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. The host refuses any other. */
#define DISTRIC_PLUGIN_ABI 1u

/* What init, execute and validate return. Any other number counts as DISTRIC_FAILED. */
#define DISTRIC_OK 0     /* done */
#define DISTRIC_FAILED 1 /* no further attempt can help */
#define DISTRIC_RETRY 2  /* another attempt may help */

/* Levels of a log line. */
#define DISTRIC_LOG_ERROR 1
#define DISTRIC_LOG_WARN 2
#define DISTRIC_LOG_INFO 3
#define DISTRIC_LOG_DEBUG 4

/* The attempt, and what the host does for it. Only grows at its end: look at `size` before using what a later host added. */
typedef struct distric_context {
    size_t size; /* of this structure as the host knows it, bytes */
    void *host;  /* the host's own */

    const char *task_id;         /* stable over attempts */
    const char *instance_id;     /* of the workflow */
    const char *task;            /* the task's id in its workflow */
    const char *workflow;        /* its name */
    const char *namespace_;      /* its namespace */
    const char *idempotency_key; /* for effects outside: the same for all attempts */
    const char *traceparent;     /* W3C trace context, or empty */
    const char *config_json;     /* the task's config, templates filled in */
    uint64_t fencing_token;      /* greater for every later assignment */
    uint32_t attempt;            /* from 1 */
    uint32_t reserved;           /* zero */

    /* One log line. Lines and bytes per attempt are bounded; what is beyond is dropped and counted. */
    void (*log)(const struct distric_context *context, int level, const char *text);
    /* How far the attempt is, 0 to 1, and in words (or NULL). */
    void (*progress)(const struct distric_context *context, double fraction, const char *text);
    /* Not zero when the result is not wanted any more, or its time is over: return soon, whatever you return. */
    int (*cancelled)(const struct distric_context *context);
    /* Milliseconds until the attempt's time is over; UINT64_MAX without a limit. */
    uint64_t (*remaining_ms)(const struct distric_context *context);
    /* A secret that this plugin was granted, or NULL. */
    const char *(*secret)(const struct distric_context *context, const char *name);
    /* Why the attempt fails: a short stable code and a sentence. The last call counts, if execute does not return DISTRIC_OK. */
    void (*fail)(const struct distric_context *context, const char *code, const char *message);
    /* The least wait before another attempt, milliseconds; for DISTRIC_RETRY. */
    void (*retry_after)(const struct distric_context *context, uint64_t ms);
} distric_context;

typedef struct distric_plugin {
    uint32_t abi;  /* DISTRIC_PLUGIN_ABI */
    uint32_t size; /* sizeof(distric_plugin) */

    /* Required. The type of the tasks that it runs: 1 to 64 of a-z A-Z 0-9 _ . - */
    const char *(*get_name)(void);
    /* Required. For people. */
    const char *(*get_version)(void);
    /* Optional. Once, before anything else; `config_json` is the plugin's config, not a task's. */
    int (*init)(const char *config_json);
    /* Required. Runs one attempt. `input` is JSON. On DISTRIC_OK the plugin sets `*output` to JSON and `*output_len` to its length;
       NULL and 0 stand for null. The host copies it and calls cleanup. */
    int (*execute)(const distric_context *context, const uint8_t *input, size_t input_len, uint8_t **output, size_t *output_len);
    /* Required. Frees what execute has given. */
    void (*cleanup)(uint8_t *output);
    /* Optional. Whether a task's config can be used; called before the first execute with that config. */
    int (*validate)(const char *config_json);
    /* Optional. Once, at the end. */
    void (*shutdown)(void);
} distric_plugin;

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const distric_plugin distric_plugin_v1;

#ifdef __cplusplus
}
#endif

#endif
