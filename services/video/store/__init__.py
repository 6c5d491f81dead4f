"""Every SQL statement of the video service, by noun. Runs in the caller's transaction."""
