"""Errors as clients read them: every kind has its status, every body one envelope."""

from __future__ import annotations

import json

import pytest

from core import errors
from core.errors import AttuneError
from server.errors import http_error

STATUS = {
    "Invalid": 400,
    "Unauthenticated": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "Conflict": 409,
    "TooLarge": 413,
    "Unavailable": 503,
}
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AttuneError) and kind is not AttuneError
]


def test_no_kind_of_error_is_left_without_a_status() -> None:
    assert {kind.__name__ for kind in KINDS} == set(STATUS)
    assert all(http_error(kind("x"))[0] == STATUS[kind.__name__] for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_envelope_is_openais_and_its_length_is_true(kind: type[AttuneError]) -> None:
    _, body, headers = http_error(kind('Say "ä"\x00\ud800.', param="model", code="some_code"))
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == ("model", "some_code")
    assert dict(headers)[b"content-length"] == str(len(body)).encode()
    assert dict(headers)[b"content-type"] == b"application/json"


def test_an_error_of_no_kind_is_the_servers_fault() -> None:
    assert http_error(AttuneError("?"))[0] == 500


def test_a_kind_derived_from_another_keeps_its_status() -> None:
    class Stale(errors.Conflict):
        """A conflict of a special sort."""

    assert http_error(Stale("x"))[0] == 409


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (errors.Conflict, b"x-should-retry", b"false"),
        (errors.Unavailable, b"retry-after", b"1"),
        (errors.Unauthenticated, b"www-authenticate", b"Bearer"),
    ],
)
def test_clients_are_told_whether_to_try_again(
    kind: type[AttuneError], name: bytes, value: bytes
) -> None:
    assert dict(http_error(kind("x"))[2])[name] == value
    assert name not in dict(http_error(errors.Invalid("x"))[2])
