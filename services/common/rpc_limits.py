"""Limits and link options of RPC, the same on both sides; each says where its number comes from."""

# A journal batch of 1,000 entries and 4 MiB, or one larger entry alone (at most 8 MiB), and a checkpoint; with room for
# a peer of the next minor version. A message is held in memory whole, several times.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

# Calls in work and waiting, per server: with 16 threads and 2 ms each, the last one has waited about 0.1 s.
UNARY_CALLS_MAX = 1024
# Refusals under way at once; over that gRPC itself answers RESOURCE_EXHAUSTED without our details.
REFUSALS_MAX = 256

# Our request ids have 16 characters, trace ids 32, UUIDs 36.
REQUEST_ID_CHARACTERS_MAX = 64
REQUEST_ID_METADATA = "x-request-id"

# How long a refused caller is asked to wait.
RETRY_AFTER_BUSY_SECONDS = 1.0
RETRY_AFTER_STOPPING_SECONDS = 2.0

# Mobile networks forget an idle connection after 30 s at the earliest; a ping every 20 s keeps it and finds a dead one.
CLIENT_PING_SECONDS = 20
# A 2G round trip with retransmissions stays below 10 s; twice that before a link is given up.
PING_TIMEOUT_SECONDS = 20
# The server pings too, for clients that do not; rarer, because it has many.
SERVER_PING_SECONDS = 60
# Pings from clients in any language are welcome down to this distance; gRPC's default of 300 s would end connections.
PING_SECONDS_MIN = 5
# A connection that is this old (gRPC spreads it by a tenth) takes no more calls, and its client opens another one: so
# replicas that were added get their share, and names that moved are looked up again. Streams under way stay on the old
# one for as long as they last.
CONNECTION_SECONDS_MAX = 600
# The next try after a broken connection comes soon: a site's backlog waits for it. gRPC's default goes to 120 s.
RECONNECT_SECONDS_MIN = 1
RECONNECT_SECONDS_MAX = 5

_COMMON = {
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    "grpc.keepalive_timeout_ms": PING_TIMEOUT_SECONDS * 1000,
    # Idle streams and idle connections are the normal state of a site at night.
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
}

SERVER_OPTIONS = _COMMON | {
    # Off: with it a second server on the same port would start without a word and take half of the connections.
    "grpc.so_reuseport": 0,
    "grpc.keepalive_time_ms": SERVER_PING_SECONDS * 1000,
    "grpc.max_connection_age_ms": CONNECTION_SECONDS_MAX * 1000,
    "grpc.http2.min_ping_interval_without_data_ms": PING_SECONDS_MIN * 1000,
}

# For a server that takes big bytes in streams: nothing is read ahead of a stream but the message that is waited for.
# Otherwise gRPC makes room for what a fast link may send, up to tens of megabytes for each stream, however slowly the
# bytes are taken.
NO_READ_AHEAD_OPTIONS = {"grpc.http2.bdp_probe": 0}

CLIENT_OPTIONS = _COMMON | {
    # Off: what may be repeated is the caller's knowledge, and a push continues from the receiver's position anyway.
    "grpc.enable_retries": 0,
    "grpc.keepalive_time_ms": CLIENT_PING_SECONDS * 1000,
    "grpc.initial_reconnect_backoff_ms": RECONNECT_SECONDS_MIN * 1000,
    # Despite its name the least time that one attempt to connect is given.
    "grpc.min_reconnect_backoff_ms": RECONNECT_SECONDS_MAX * 1000,
    "grpc.max_reconnect_backoff_ms": RECONNECT_SECONDS_MAX * 1000,
    # Off: a proxy for the web, set for the whole machine, cannot reach the services of this platform.
    "grpc.enable_http_proxy": 0,
    # Connections are not shared between channels: closing one never hurts another, and tests stay apart.
    "grpc.use_local_subchannel_pool": 1,
}
