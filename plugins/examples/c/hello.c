/* The smallest useful plugin: greets whoever the input names. Build: cc -shared -fPIC -I plugins/abi/include -o hello.so hello.c */
#include "distric_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *name(void) { return "hello"; }
static const char *version(void) { return "1.0.0"; }

static int execute(const distric_context *context, const uint8_t *input, size_t input_len, uint8_t **output, size_t *output_len) {
    /* The input is JSON such as {"name":"Ada"}. A real plugin brings a JSON library; here the text between two quotes will do. */
    static const char key[] = "\"name\":\"";
    char *text = malloc(input_len + 1);
    if (text == NULL) return DISTRIC_RETRY;
    memcpy(text, input, input_len);
    text[input_len] = '\0';
    char *who = strstr(text, key);
    char *end = who == NULL ? NULL : strchr(who + sizeof key - 1, '"');
    if (end == NULL) {
        free(text);
        context->fail(context, "bad_input", "expected {\"name\":\"...\"}");
        return DISTRIC_FAILED;
    }
    *end = '\0';
    who += sizeof key - 1;
    context->log(context, DISTRIC_LOG_INFO, who);
    size_t room = strlen(who) + 32;
    *output = malloc(room);
    if (*output != NULL) *output_len = (size_t)snprintf((char *)*output, room, "{\"greeting\":\"Hello, %s!\"}", who);
    free(text);
    return *output == NULL ? DISTRIC_RETRY : DISTRIC_OK;
}

static void cleanup(uint8_t *output) { free(output); }

const distric_plugin distric_plugin_v1 = {
    .abi = DISTRIC_PLUGIN_ABI, .size = sizeof(distric_plugin),
    .get_name = name, .get_version = version, .execute = execute, .cleanup = cleanup,
};
