/*
 * Checks a payment: {"amount": 12.5, "currency": "EUR", "card": "4111111111111111"}. Gives {"valid": true} or what is wrong with it; a
 * payment that is wrong is an answer, not a failure. The task's config may set "max_amount".
 */
#include "distric_plugin.h"
#include "json_field.h"

#include <stdio.h>

static const char *currencies[] = {"CHF", "EUR", "GBP", "JPY", "USD"};

static const char *name(void) { return "payment_validator"; }
static const char *version(void) { return "1.0.0"; }

/* The check digit of ISO/IEC 7812 (Luhn). */
static int is_card(const char *digits) {
    size_t count = strlen(digits);
    int sum = 0;
    if (count < 12 || count > 19 || strspn(digits, "0123456789") != count) return 0;
    for (size_t i = 0; i < count; i++) {
        int digit = digits[count - 1 - i] - '0';
        if (i % 2 == 1) digit = digit > 4 ? 2 * digit - 9 : 2 * digit;
        sum += digit;
    }
    return sum % 10 == 0;
}

static int is_currency(const char *code) {
    for (size_t i = 0; i < sizeof currencies / sizeof *currencies; i++)
        if (strcmp(code, currencies[i]) == 0) return 1;
    return 0;
}

static int validate(const char *config_json) {
    json_slice unused;
    double most;
    if (!json_field(config_json, strlen(config_json), "max_amount", &unused)) return DISTRIC_OK;
    if (json_number(config_json, strlen(config_json), "max_amount", &most) && most > 0) return DISTRIC_OK;
    fprintf(stderr, "max_amount must be a number above zero\n");
    return DISTRIC_FAILED;
}

static int execute(const distric_context *context, const uint8_t *input, size_t input_len, uint8_t **output, size_t *output_len) {
    const char *json = (const char *)input;
    char card[32], currency[8];
    double amount, most = 10000;
    json_number(context->config_json, strlen(context->config_json), "max_amount", &most);
    const char *wrong = NULL;
    if (!json_number(json, input_len, "amount", &amount)) wrong = "amount is missing or no number";
    else if (!(amount > 0)) wrong = "amount is not above zero";
    else if (amount > most) wrong = "amount is above the limit";
    else if (!json_text(json, input_len, "currency", currency, sizeof currency) || !is_currency(currency)) wrong = "currency is unknown";
    else if (!json_text(json, input_len, "card", card, sizeof card) || !is_card(card)) wrong = "card number is not valid";
    char *text = malloc(128);
    if (text == NULL) return DISTRIC_RETRY;
    int len = wrong == NULL ? snprintf(text, 128, "{\"valid\":true,\"amount\":%.2f}", amount)
                            : snprintf(text, 128, "{\"valid\":false,\"reason\":\"%s\"}", wrong);
    *output = (uint8_t *)text;
    *output_len = (size_t)len;
    return DISTRIC_OK;
}

static void cleanup(uint8_t *output) { free(output); }

const distric_plugin distric_plugin_v1 = {
    .abi = DISTRIC_PLUGIN_ABI, .size = sizeof(distric_plugin),
    .get_name = name, .get_version = version, .execute = execute, .cleanup = cleanup, .validate = validate,
};
