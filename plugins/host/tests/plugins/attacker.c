/* A plugin that misbehaves in the way that its task's config names. For the tests of the sandbox. */
#define _GNU_SOURCE
#include "distric_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *name(void) { return "attacker"; }
static const char *version(void) { return "6.6.6"; }

static int is_first = 1;
static char answer[4096];

static int says(const distric_context *context, const char *what) { return strstr(context->config_json, what) != NULL; }

static void *idle(void *unused) {
    while (unused == NULL) pause();
    return unused;
}

/* What a system call gave: "ok" or the name of its error. */
static const char *gave(long result) {
    if (result >= 0) return "ok";
    switch (errno) {
    case EPERM: return "EPERM";
    case EACCES: return "EACCES";
    case ENOSYS: return "ENOSYS";
    case EAGAIN: return "EAGAIN";
    case ENOENT: return "ENOENT";
    case EMFILE: return "EMFILE";
    default: return "other";
    }
}

static int give(uint8_t **output, size_t *output_len, const char *text) {
    snprintf(answer, sizeof answer, "\"%s\"", text);
    *output = (uint8_t *)answer;
    *output_len = strlen(answer);
    return DISTRIC_OK;
}

static int execute(const distric_context *context, const uint8_t *input, size_t input_len, uint8_t **output, size_t *output_len) {
    if (says(context, "echo")) {
        *output = malloc(input_len + 1);
        memcpy(*output, input, input_len);
        *output_len = input_len;
        return DISTRIC_OK;
    }
    if (says(context, "crash")) {
        fprintf(stderr, "about to fall\n");
        *(volatile int *)8 = 1;
    }
    if (says(context, "abort")) abort();
    if (says(context, "exit")) exit(3);
    if (says(context, "loop")) {
        context->log(context, DISTRIC_LOG_WARN, "round and round");
        for (volatile unsigned long i = 0;; i++) {}
    }
    if (says(context, "listen")) {
        while (!context->cancelled(context)) usleep(1000);
        return give(output, output_len, "stopped");
    }
    if (says(context, "memory")) {
        size_t got = 0;
        char *piece;
        while ((piece = malloc(16 << 20)) != NULL) {
            memset(piece, 1, 16 << 20);
            got += 16;
            if (got > 65536) return give(output, output_len, "unbounded");
        }
        fprintf(stderr, "no more after %zu MiB\n", got);
        abort();
    }
    if (says(context, "forks")) {
        for (int i = 0; i < 1000; i++) {
            pid_t pid = fork();
            if (pid < 0) return give(output, output_len, gave(-1));
            if (pid == 0) pause();
        }
        return give(output, output_len, "ok");
    }
    if (says(context, "threads")) {
        for (int i = 0; i < 10000; i++) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, idle, NULL) != 0) return give(output, output_len, i == 0 ? "none" : "some");
        }
        return give(output, output_len, "unbounded");
    }
    if (says(context, "descriptors")) {
        int count = 0;
        while (count < 100000 && dup(1) >= 0) count++;
        return give(output, output_len, count < 100000 ? gave(-1) : "unbounded");
    }
    if (says(context, "wild")) {
        /* Over its own heap, stack and the host's state alike. */
        for (size_t i = 0; i < (64 << 10); i++) ((volatile char *)context->host)[i] = (char)0xa5;
        return give(output, output_len, "written");
    }
    if (says(context, "garbage")) {
        /* Over the host's own socket, which is some low descriptor. */
        char junk[256];
        memset(junk, 0xff, sizeof junk);
        for (int fd = 3; fd < 16; fd++) (void)!send(fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL);
        return give(output, output_len, "sent");
    }
    if (says(context, "flood")) {
        for (int i = 0; i < 100000; i++) {
            context->log(context, DISTRIC_LOG_INFO, "again");
            printf("and again\n");
        }
        fflush(stdout);
        return give(output, output_len, "flooded");
    }
    if (says(context, "huge")) {
        size_t bytes = (size_t)64 << 20;
        *output = malloc(bytes);
        if (*output == NULL) return DISTRIC_RETRY;
        memset(*output, ' ', bytes);
        *output_len = bytes;
        return DISTRIC_OK;
    }
    if (says(context, "null")) {
        *output = NULL;
        *output_len = 10;
        return DISTRIC_OK;
    }
    if (says(context, "liar")) {
        *output = (uint8_t *)answer;
        *output_len = 900000;
        return DISTRIC_OK;
    }
    if (says(context, "kill")) {
        long result = kill(getppid(), SIGTERM);
        return give(output, output_len, gave(result));
    }
    if (says(context, "execve")) {
        char *arguments[] = {"/bin/sh", NULL};
        return give(output, output_len, gave(execve("/bin/sh", arguments, NULL)));
    }
    if (says(context, "socket")) return give(output, output_len, gave(socket(AF_INET, SOCK_STREAM, 0)));
    if (says(context, "unix")) return give(output, output_len, gave(socket(AF_UNIX, SOCK_STREAM, 0)));
    if (says(context, "starve")) {
        /* Limits of another process of the same user: the worker would have no descriptors left. */
        struct rlimit none = {0, 0};
        return give(output, output_len, gave(prlimit(getppid(), RLIMIT_NOFILE, &none, NULL)));
    }
    if (says(context, "uring")) return give(output, output_len, gave(syscall(SYS_io_uring_setup, 1, answer)));
    if (says(context, "ptrace")) return give(output, output_len, gave(syscall(SYS_ptrace, 16, getppid(), 0, 0)));
    if (says(context, "unshare")) return give(output, output_len, gave(syscall(SYS_unshare, 0x10000000)));
    if (says(context, "passwd")) return give(output, output_len, gave(open("/etc/passwd", O_RDONLY)));
    if (says(context, "_given")) {
        char path[1024];
        snprintf(path, sizeof path, "%.*s", (int)input_len, (const char *)input);
        int flags = says(context, "write") ? O_WRONLY | O_CREAT : O_RDONLY;
        return give(output, output_len, gave(open(path, flags, 0600)));
    }
    if (says(context, "environment")) {
        extern char **environ;
        return give(output, output_len, environ == NULL || environ[0] == NULL ? "empty" : environ[0]);
    }
    if (says(context, "secret")) {
        const char *granted = context->secret(context, "GRANTED");
        const char *other = context->secret(context, "OTHER");
        char both[256];
        snprintf(both, sizeof both, "%s/%s", granted == NULL ? "-" : granted, other == NULL ? "-" : other);
        return give(output, output_len, both);
    }
    if (says(context, "privileges")) {
        /* Changing the owner of root's own file needs a capability. */
        return give(output, output_len, gave(syscall(SYS_setuid, 0)));
    }
    if (says(context, "stdin")) return give(output, output_len, getchar() == EOF ? "nothing" : "frames");
    if (says(context, "retry")) {
        context->fail(context, "busy", "come back later");
        context->retry_after(context, 1500);
        return DISTRIC_RETRY;
    }
    if (says(context, "context")) {
        char text[1024];
        snprintf(text, sizeof text, "%s %s %s %s %s %s %s %u %llu %d", context->task_id, context->instance_id, context->task, context->workflow,
                 context->namespace_, context->idempotency_key, context->traceparent, context->attempt,
                 (unsigned long long)context->fencing_token, context->remaining_ms(context) <= 5000);
        return give(output, output_len, text);
    }
    if (says(context, "warm")) {
        int first = is_first;
        is_first = 0;
        return give(output, output_len, first ? "first" : "again");
    }
    return DISTRIC_FAILED;
}

static void cleanup(uint8_t *output) {
    if (output != (uint8_t *)answer) free(output);
}

static int init(const char *config_json) {
    while (strstr(config_json, "hang") != NULL) pause();
    if (strstr(config_json, "die") != NULL) abort();
    if (strstr(config_json, "refuse") != NULL) {
        fprintf(stderr, "I want a better config\n");
        return DISTRIC_FAILED;
    }
    return DISTRIC_OK;
}

static int validate(const char *config_json) { return strstr(config_json, "invalid") == NULL ? DISTRIC_OK : DISTRIC_FAILED; }

const distric_plugin distric_plugin_v1 = {
    .abi = DISTRIC_PLUGIN_ABI, .size = sizeof(distric_plugin),
    .get_name = name, .get_version = version, .init = init, .execute = execute, .cleanup = cleanup, .validate = validate,
};
