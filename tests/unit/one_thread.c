/* Linked into the tests that by CMakeLists.txt have one thread and are not built where races are looked for: one
 * that begins a second thread all the same, or has a library begin it, ends here. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*function)(void *), void *argument)
{
    (void)thread;
    (void)attributes;
    (void)function;
    (void)argument;
    fputs("this test begins a thread: have tests_of_threads in CMakeLists.txt name it\n", stderr);
    abort();
}
