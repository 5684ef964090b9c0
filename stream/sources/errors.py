"""What a source raises when it cannot be used."""


class SourceError(ValueError):
    """A source that cannot be opened; one line says what was expected, what came and what to do."""
