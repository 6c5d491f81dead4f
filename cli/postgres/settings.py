"""The settings of an embedded server, written anew at every start; a person's own go into `local.conf` beside them."""

SETTINGS_FILE = "postgresql.conf"
ACCESS_FILE = "pg_hba.conf"
LOCAL_SETTINGS_FILE = "local.conf"

# The name PostgreSQL gives its socket; written in the URLs, so that PGPORT in someone's environment changes nothing.
PORT = 5432

SETTINGS = f"""\
# Written at every start of the platform; changes here are lost. Put your own settings into {LOCAL_SETTINGS_FILE}.

# Reached only through a socket in a private directory.
listen_addresses = ''
port = {PORT}
unix_socket_permissions = 0700

# A handful of services with a pool of connections each.
max_connections = 100
shared_buffers = 128MB

# A reply means committed: these two are promises of the platform, not tuning.
fsync = on
synchronous_commit = on

# Room for a catching-up platform to write for minutes between two checkpoints.
max_wal_size = 2GB
min_wal_size = 80MB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
wal_compression = on

# Short statements over a few rows: compiling them costs more than it saves.
jit = off

timezone = 'UTC'
log_timezone = 'UTC'

# A file per weekday, overwritten a week later: bounded without anyone's care.
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_line_prefix = '%m [%p] %q%a@%d '
log_checkpoints = off
# Personal data stays out of the log, also when a statement fails.
log_parameter_max_length_on_error = 0
log_error_verbosity = terse

include_if_exists = '{LOCAL_SETTINGS_FILE}'
"""

# The socket directory lets in its owner and root only, who could read the files of the database anyway.
ACCESS = """\
# Written at every start of the platform.
local all all trust
# For backups of the running server.
local replication all trust
"""
