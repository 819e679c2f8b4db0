/* Sessions: PAIR0 peers, who publish with answers, follow topics and ask, all over one connection with credit both ways
 * (clients/PROTOCOL.md, section 6). The gateway knows them only by this table, which boot gives to gateway_create. */
#ifndef BROKER_SESSION_SESSION_H
#define BROKER_SESSION_SESSION_H

#include "broker/gateway/connection.h"

extern const struct connection_ops session_ops;

#endif
