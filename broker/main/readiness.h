/* Tells the service manager how far the broker is, by sd_notify(3). Its library is loaded only where a manager asks to
 * be told: it brings six others with it, a megabyte, which every child of the plugins' spawner would have to carry,
 * too. */
#ifndef BROKER_MAIN_READINESS_H
#define BROKER_MAIN_READINESS_H

/* State is such as "READY=1". Nothing where NOTIFY_SOCKET is not set; a warning where it is and nobody could be told:
 * the broker does not depend on being watched. Main thread; waits for a manager that is behind. */
void readiness_tell(const char *state);

#endif
