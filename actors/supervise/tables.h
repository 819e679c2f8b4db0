/* The two state machines of supervision, each one list that generates its states, names and table.
 *
 * A child's machine decides what happens to one actor; a supervisor's decides about the group and its order. Every
 * state × event has a cell; a cell names the function (child_NAME in child.c, phase_NAME in machine.c) that acts and
 * may move on.
 *
 * Cells of a child:
 *   ignore    nothing to do: late news of something settled
 *   refuse    not at present: WEIR_BUSY to whoever asked
 *   launch    spawns a new actor from the plan
 *   come_up   it is ready
 *   stumble   it failed before it was ready: kill it, then miss
 *   miss      it ended before it was ready
 *   fail      its turn failed: it is suspended, mailbox kept
 *   end       it ended by itself
 *   shut      asks it to end, arms its shutdown timeout
 *   recycle   the same, and spawns it again afterwards
 *   revive    the backoff is over (or cut short): in place if it is suspended, else spawned
 *   vanish    a suspended one was ended by somebody else: it will have to be spawned
 *   abandon   a waiting one is to stop: end what is suspended, or restart it if it is to hear of its end, then shut
 *   kill      ends it without its consent
 *   remind    it failed before it heard of its end: kill it, or restart it if it is to hear of that
 *   finish    it has ended, as it was to
 */
#ifndef ACTORS_SUPERVISE_TABLES_H
#define ACTORS_SUPERVISE_TABLES_H

/* A table is read by its columns, which clang-format would take away. */
/* clang-format off */

/* ROW(STATE, name,         SPAWN,  READY,   FAILED,  EXITED, TIMER,  STOP,    RESTART) */
#define CHILD_TABLE(ROW)                                                                           \
    ROW(DOWN,     "down",     launch, ignore,  ignore,  ignore, ignore, ignore,  launch)           \
    ROW(STARTING, "starting", refuse, come_up, stumble, miss,   ignore, shut,    refuse)           \
    ROW(UP,       "up",       refuse, ignore,  fail,    end,    ignore, shut,    recycle)          \
    ROW(WAITING,  "waiting",  revive, ignore,  ignore,  vanish, revive, abandon, revive)           \
    ROW(STOPPING, "stopping", refuse, ignore,  remind,  finish, kill,   ignore,  refuse)           \
    ROW(KILLING,  "killing",  refuse, ignore,  kill,    finish, ignore, ignore,  refuse)

#define CHILD_EVENTS(ROW)                                                                          \
    ROW(SPAWN, "spawn") ROW(READY, "ready") ROW(FAILED, "failed") ROW(EXITED, "exited")            \
    ROW(TIMER, "timer") ROW(STOP, "stop") ROW(RESTART, "restart")

enum child_state {
#define CHILD_STATE_ROW(state, ...) CHILD_##state,
    CHILD_TABLE(CHILD_STATE_ROW)
#undef CHILD_STATE_ROW
    CHILD_STATE_COUNT
};

enum child_event {
#define CHILD_EVENT_ROW(event, name) CHILD_EVENT_##event,
    CHILD_EVENTS(CHILD_EVENT_ROW)
#undef CHILD_EVENT_ROW
    CHILD_EVENT_COUNT
};

/* Cells of a supervisor:
 *   begin     starts its configured children, one after another
 *   advance   the child in hand is settled: the next one
 *   recover   a child needs a restart: counts it, then by strategy
 *   fall      a child did not come up at the first start: stops those that did, then fails
 *   rest      a child is lost while all go down anyway: leave it down
 *   proceed   a child is down: the next one to stop, or done
 *   wind      stops all in reverse order, then ends
 *   (ENDED has no column: its own turn ends it, and whatever the phase, it is down then)
 */
/* ROW(PHASE, name,             START,  CHILD_UP, CHILD_LOST, CHILD_MISSED, CHILD_DOWN, SHUTDOWN, TIMER) */
#define SUPERVISOR_TABLE(ROW)                                                                      \
    ROW(DOWN,       "down",       begin,  ignore,  rest,    rest,    ignore,  wind,   ignore)      \
    ROW(STARTING,   "starting",   ignore, advance, recover, fall,    advance, wind,   ignore)      \
    ROW(RUNNING,    "running",    ignore, ignore,  recover, recover, ignore,  wind,   ignore)      \
    ROW(REGROUPING, "regrouping", ignore, ignore,  rest,    rest,    proceed, wind,   ignore)      \
    ROW(RESTARTING, "restarting", ignore, advance, recover, recover, advance, wind,   resume)      \
    ROW(STOPPING,   "stopping",   ignore, ignore,  rest,    rest,    proceed, ignore, ignore)      \
    ROW(ESCALATING, "escalating", ignore, ignore,  rest,    rest,    proceed, wind,   ignore)

#define SUPERVISOR_EVENTS(ROW)                                                                     \
    ROW(START, "start") ROW(CHILD_UP, "child-up") ROW(CHILD_LOST, "child-lost")                    \
    ROW(CHILD_MISSED, "child-missed") ROW(CHILD_DOWN, "child-down") ROW(SHUTDOWN, "shutdown") ROW(TIMER, "timer")

enum supervisor_phase {
#define SUPERVISOR_PHASE_ROW(phase, ...) SUPERVISOR_##phase,
    SUPERVISOR_TABLE(SUPERVISOR_PHASE_ROW)
#undef SUPERVISOR_PHASE_ROW
    SUPERVISOR_PHASE_COUNT
};

enum supervisor_event {
#define SUPERVISOR_EVENT_ROW(event, name) SUPERVISOR_EVENT_##event,
    SUPERVISOR_EVENTS(SUPERVISOR_EVENT_ROW)
#undef SUPERVISOR_EVENT_ROW
    SUPERVISOR_EVENT_COUNT
};
/* Names the transition in traces. */
#define SUPERVISOR_EVENT_ENDED SUPERVISOR_EVENT_COUNT

/* clang-format on */

#endif
