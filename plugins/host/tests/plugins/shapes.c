/* Tables that are wrong in one way each, chosen by a macro; and, with SIZES, a program that prints the layout of the header. */
#include "distric_plugin.h"

#include <stdio.h>

#ifdef SIZES
int main(void) {
    printf("%zu %zu %zu %zu %zu %zu\n", sizeof(distric_plugin), offsetof(distric_plugin, execute), offsetof(distric_plugin, shutdown),
           sizeof(distric_context), offsetof(distric_context, attempt), offsetof(distric_context, retry_after));
    return 0;
}
#else
static const char *name(void) { return NAME; }
static const char *version(void) { return "1"; }
static int execute(const distric_context *context, const uint8_t *input, size_t input_len, uint8_t **output, size_t *output_len) {
    (void)context, (void)input, (void)input_len, (void)output, (void)output_len;
    return DISTRIC_OK;
}
static void cleanup(uint8_t *output) { (void)output; }

const distric_plugin SYMBOL = {
    .abi = VERSION, .size = SIZE,
    .get_name = name, .get_version = version, .execute = EXECUTE, .cleanup = cleanup,
};
#endif
