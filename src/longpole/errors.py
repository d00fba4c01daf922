"""The one exception whose message is meant for the user's eyes."""


class LongpoleError(Exception):
    """Bad input or a place that cannot be written: one line that says what, where and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """
