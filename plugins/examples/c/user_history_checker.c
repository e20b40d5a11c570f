/*
 * Looks a user up in a local SQLite file: {"user": "u-1"} gives {"known": true, "payments": 3, "chargebacks": 0, "total": 120.50}.
 * The plugin's config names the file, {"database": "/data/history.db"}, and its settings grant it: `grants: { read: [/data/history.db] }`.
 * The file is opened as immutable, so that nothing beside it has to be granted. Needs sqlite3.h to build; link with -lsqlite3.
 */
#include "distric_plugin.h"
#include "json_field.h"

#include <sqlite3.h>
#include <stdio.h>

static sqlite3 *database;
static sqlite3_stmt *query;

static const char *name(void) { return "user_history_checker"; }
static const char *version(void) { return "1.0.0"; }

static int init(const char *config_json) {
    char path[1024], uri[1100];
    if (!json_text(config_json, strlen(config_json), "database", path, sizeof path) || strpbrk(path, "?#%") != NULL) {
        fprintf(stderr, "config.database must be the path of a SQLite file\n");
        return DISTRIC_FAILED;
    }
    snprintf(uri, sizeof uri, "file:%s?immutable=1", path);
    if (sqlite3_open_v2(uri, &database, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(database,
                           "SELECT count(*), coalesce(sum(chargeback), 0), coalesce(sum(amount), 0) FROM payments WHERE user = ?1", -1,
                           &query, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", path, sqlite3_errmsg(database));
        return DISTRIC_FAILED;
    }
    return DISTRIC_OK;
}

static int execute(const distric_context *context, const uint8_t *input, size_t input_len, uint8_t **output, size_t *output_len) {
    char user[256];
    if (!json_text((const char *)input, input_len, "user", user, sizeof user)) {
        context->fail(context, "bad_input", "expected {\"user\": \"...\"}");
        return DISTRIC_FAILED;
    }
    sqlite3_reset(query);
    /* Bound, never pasted into the query. */
    if (sqlite3_bind_text(query, 1, user, -1, SQLITE_TRANSIENT) != SQLITE_OK || sqlite3_step(query) != SQLITE_ROW) {
        context->fail(context, "database", sqlite3_errmsg(database));
        return DISTRIC_RETRY;
    }
    long long payments = sqlite3_column_int64(query, 0), chargebacks = sqlite3_column_int64(query, 1);
    double total = sqlite3_column_double(query, 2);
    char *text = malloc(256);
    if (text == NULL) return DISTRIC_RETRY;
    *output_len = (size_t)snprintf(text, 256, "{\"known\":%s,\"payments\":%lld,\"chargebacks\":%lld,\"total\":%.2f}",
                                   payments > 0 ? "true" : "false", payments, chargebacks, total);
    *output = (uint8_t *)text;
    return DISTRIC_OK;
}

static void cleanup(uint8_t *output) { free(output); }

static void at_end(void) {
    sqlite3_finalize(query);
    sqlite3_close(database);
}

const distric_plugin distric_plugin_v1 = {
    .abi = DISTRIC_PLUGIN_ABI, .size = sizeof(distric_plugin),
    .get_name = name, .get_version = version, .init = init, .execute = execute, .cleanup = cleanup, .shutdown = at_end,
};
