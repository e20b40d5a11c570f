/* A program that misbehaves in the way that its argument names, and prints what came of it. For the tests of the sandbox. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char buffer[4096];

static void *idle(void *unused) {
    while (unused == NULL) pause();
    return unused;
}

static int gave(long result) {
    puts(result >= 0 ? "ok" : errno == EPERM ? "EPERM" : errno == EACCES ? "EACCES" : errno == EMFILE ? "EMFILE" : strerror(errno));
    return 0;
}

static int is(const char *what, const char *attack) { return strcmp(what, attack) == 0; }

int main(int count, char **arguments) {
    const char *attack = count > 1 ? arguments[1] : "";
    if (is("socket", attack)) return gave(socket(AF_INET, SOCK_STREAM, 0));
    if (is("unix", attack)) return gave(socket(AF_UNIX, SOCK_STREAM, 0));
    if (is("uring", attack)) return gave(syscall(SYS_io_uring_setup, 1, buffer));
    if (is("ptrace", attack)) return gave(syscall(SYS_ptrace, 16, getppid(), 0, 0));
    if (is("unshare", attack)) return gave(syscall(SYS_unshare, 0x10000000));
    if (is("namespace", attack)) return gave(syscall(SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0));
    if (is("memfd", attack)) return gave(syscall(SYS_memfd_create, "x", 0));
    if (is("setuid", attack)) return gave(syscall(SYS_setuid, 0));
    if (is("kill", attack)) return gave(kill(getppid(), SIGTERM));
    if (is("starve", attack)) {
        struct rlimit none = {0, 0};
        return gave(prlimit(getppid(), RLIMIT_NOFILE, &none, NULL));
    }
    if (is("raise", attack)) {
        struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
        return gave(setrlimit(RLIMIT_AS, &all));
    }
    /* Whoever leads a group cannot begin another session, so a child tries. */
    if (is("leave", attack)) {
        if (fork() != 0) {
            pause();
            return 0;
        }
        long left = setsid();
        gave(left);
        fflush(stdout);
        return kill(getppid(), SIGKILL);
    }
    if (is("group", attack)) return gave(setpgid(0, getppid()));
    if (is("threads", attack)) {
        pthread_t thread;
        puts(pthread_create(&thread, NULL, idle, NULL) == 0 ? "some" : "none");
        return 0;
    }
    if (is("descriptors", attack)) {
        int got = 0;
        while (got < 100000 && dup(1) >= 0) got++;
        return gave(got < 100000 ? -1 : 0);
    }
    if (is("memory", attack)) {
        size_t got = 0;
        char *piece;
        while ((piece = malloc(16 << 20)) != NULL && got < 65536) {
            memset(piece, 1, 16 << 20);
            got += 16;
        }
        fprintf(stderr, "no more after %zu MiB\n", got);
        abort();
    }
    if (is("crash", attack)) {
        fprintf(stderr, "about to fall\n");
        *(volatile int *)8 = 1;
    }
    if (is("deaf", attack)) {
        for (int signal_number = 1; signal_number < 32; signal_number++) signal(signal_number, SIG_IGN);
        for (;;) sleep(1);
    }
    return 9;
}
