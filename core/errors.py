"""The one error tree. Each kind says who has to act; the server maps kinds to HTTP, the CLI to
an exit message. Library errors are translated into one of these where they enter."""

from __future__ import annotations

from collections.abc import Sequence


class AttuneError(Exception):
    """Something Attune refuses or cannot do; the message says what to do about it.

    `param` names the offending field in the caller's terms, `code` is a stable machine word.
    """

    code = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class Invalid(AttuneError):
    """The input is malformed or outside the limits; the caller must change it."""

    code = "invalid_value"


class Unauthenticated(AttuneError):
    """No key, or one that is unknown, expired or revoked."""

    code = "invalid_api_key"


class Forbidden(AttuneError):
    """The key is known but lacks the scope."""

    code = "insufficient_scope"


class NotFound(AttuneError):
    """It does not exist, or belongs to another tenant, which is the same to the caller."""

    code = "not_found"


class WrongMethod(AttuneError):
    """It exists, but not for this method; `allowed` are those it takes."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str] = (), **more: str | None) -> None:
        super().__init__(message, **more)
        self.allowed = tuple(allowed)


class BeyondEnd(AttuneError):
    """The part of a file that was asked for lies behind its end, at `size_bytes`."""

    code = "range_not_satisfiable"

    def __init__(self, message: str, *, size_bytes: int = 0, **more: str | None) -> None:
        super().__init__(message, **more)
        self.size_bytes = size_bytes


class Conflict(AttuneError):
    """The state has moved on, or the name is taken; read again, then decide."""

    code = "conflict"


class TooLarge(AttuneError):
    """The body or upload is over a configured limit."""

    code = "too_large"


class TooMany(AttuneError):
    """More at once than one caller may ask for; later, with less at once, it works."""

    code = "too_many_requests"


class Unavailable(AttuneError):
    """It cannot be done now; trying again later may help."""

    code = "unavailable"


class ShuttingDown(Unavailable):
    """This server has been told to stop; another, or this one after its restart, can do it."""

    code = "shutting_down"
