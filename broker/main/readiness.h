/* Tells the service manager how far the broker is: systemd's notify protocol, sd_notify(3). Its library would bring
 * six others into this process and into every child of the plugins' spawner. */
#ifndef BROKER_MAIN_READINESS_H
#define BROKER_MAIN_READINESS_H

/* One datagram, such as "READY=1", to the socket that NOTIFY_SOCKET names; nothing where it names none, or where nobody
 * takes it: the broker does not depend on being watched. Main thread; waits for a manager that is behind, for 5 s. */
void readiness_tell(const char *state);

#endif
