"""The one family of errors that are the user's to fix: shown without a traceback, exit status 2."""


class PolypragError(Exception):
    """Something the user can mend; the message says what was wrong, where, and what to do."""


class CorpusError(PolypragError):
    """A corpus file, shard or manifest can't be used; names the file and line or member."""
