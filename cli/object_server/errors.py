"""Why an own S3 server cannot run, in words meant for the person who started it."""


class ObjectServerError(Exception):
    """The server cannot be started; the text says what is wrong and what to do, with the end of its log."""
