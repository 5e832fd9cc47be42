"""What the story needs from the edges, declared beside its only reader."""


class JournalUnavailable(Exception):
    """The audit stream cannot take a record; nothing may be done that it would have to hold."""


class StateUnavailable(Exception):
    """The state store cannot answer."""
