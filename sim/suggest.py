"""A misspelt word's nearest neighbour."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is meant most likely; None when none is close."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "alpha"?`, or nothing when no known word is close."""
    close = nearest(word, known)
    return f'; did you mean "{close}"?' if close else ""
