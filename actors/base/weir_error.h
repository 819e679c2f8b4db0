/* Every outcome that a Weir function can report. Installed beside weir.h; includes only libc.
 *
 * 0 is success everywhere. A *refusal* leaves what was offered with the caller, is counted by
 * whoever refused and can be tried again or elsewhere. A *fault* is a failure of the machine or of
 * user code; unhandled, the actor it happens in exits and its supervisor decides. */
#ifndef WEIR_ERROR_H
#define WEIR_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_MUST_USE __attribute__((warn_unused_result))

/* ROW(name, wire code, sentence) */
#define WEIR_ERROR_TABLE(ROW)                                                                 \
    ROW(OK, "ok", "no error")                                                                 \
    /* refusals */                                                                            \
    ROW(FULL, "full", "the queue is full")                                                    \
    ROW(BUSY, "busy", "the topic takes no more records at present")                           \
    ROW(STALE, "stale", "the handle names something that has ended")                          \
    ROW(TOO_BIG, "too-big", "the size is beyond a configured bound")                          \
    ROW(CLOSED, "closed", "the other side is closing")                                        \
    ROW(FORBIDDEN, "forbidden", "that is not allowed")                                        \
    ROW(NOT_FOUND, "not-found", "there is no such thing")                                     \
    ROW(EXISTS, "exists", "there is one already")                                             \
    ROW(OUTDATED, "outdated", "the number is older than what is remembered of its publisher") \
    ROW(CONFLICT, "conflict", "the present record is another than the one expected")          \
    ROW(BAD_REQUEST, "bad-request", "the request is malformed")                               \
    ROW(BAD_TOPIC, "bad-topic", "the topic name or pattern is malformed")                     \
    ROW(POISONED, "poisoned", "the record failed repeatedly and was quarantined")             \
    ROW(TIMEOUT, "timeout", "the time allowed ran out")                                       \
    ROW(AGAIN, "again", "nothing is there yet")                                               \
    /* faults */                                                                              \
    ROW(NO_MEMORY, "no-memory", "the memory budget or the machine's memory is exhausted")     \
    ROW(IO, "io", "input or output failed")                                                   \
    ROW(CONNECT, "connect", "no connection could be made")                                    \
    ROW(PROTOCOL, "protocol", "the peer broke the protocol")                                  \
    ROW(FAILED, "failed", "the actor failed")                                                 \
    ROW(INTERNAL, "internal", "a bug in Weir")

enum weir_error {
#define WEIR_ERROR_ROW(name, code, sentence) WEIR_##name,
    WEIR_ERROR_TABLE(WEIR_ERROR_ROW)
#undef WEIR_ERROR_ROW
        WEIR_ERROR_COUNT
};

/* The code used on the wire and in logs, e.g. "too-big"; never NULL. */
__attribute__((visibility("default"))) const char *weir_error_code(enum weir_error error);

/* A sentence for people, without a full stop; never NULL. */
__attribute__((visibility("default"))) const char *weir_error_text(enum weir_error error);

/* The error that a wire code names; WEIR_INTERNAL for an unknown code. */
__attribute__((visibility("default"))) enum weir_error weir_error_from_code(const char *code, unsigned long size);

#ifdef __cplusplus
}
#endif

#endif
