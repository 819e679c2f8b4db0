/* What a service manager hears. */
#include "broker/main/readiness.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* A socket of that name, '@' for an abstract one, which is where states are told from now on. */
static int manager_open(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    memcpy(address.sun_path, name, size);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (name[0] == '/'));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

static void hears(int fd, const char *wanted)
{
    char text[64] = "";
    assert_int_equal(recv(fd, text, sizeof text - 1, MSG_DONTWAIT), (ssize_t)strlen(wanted));
    assert_string_equal(text, wanted);
}

static void states_come_to_a_path(void **unused)
{
    char folder[] = "/tmp/weir-readiness-XXXXXX", name[64];
    (void)unused;
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof name, "%s/notify", folder);
    int fd = manager_open(name);
    readiness_tell("READY=1");
    readiness_tell("STOPPING=1");
    hears(fd, "READY=1");
    hears(fd, "STOPPING=1");
    close(fd);
    unlink(name);
    rmdir(folder);
}

static void states_come_to_an_abstract_name(void **unused)
{
    char name[64];
    (void)unused;
    snprintf(name, sizeof name, "@weir-readiness-%d", (int)getpid());
    int fd = manager_open(name);
    readiness_tell("READY=1");
    hears(fd, "READY=1");
    close(fd);
}

/* The lowest descriptor that is free tells of one that was left open. */
static void nobody_to_tell_is_no_matter(void **unused)
{
    static const char *const names[] = {"", "/nowhere/at/all", "vsock:2:1234", "@weir-readiness-nobody"};
    char longest[200];
    (void)unused;
    int before = dup(0);
    close(before);
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        readiness_tell("READY=1");
    }
    setenv("NOTIFY_SOCKET", longest, 1);
    readiness_tell("READY=1");
    unsetenv("NOTIFY_SOCKET");
    readiness_tell("READY=1");
    int after = dup(0);
    close(after);
    assert_int_equal(after, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_come_to_a_path),
        cmocka_unit_test(states_come_to_an_abstract_name),
        cmocka_unit_test(nobody_to_tell_is_no_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
