"""Errors as clients read them: every kind has its status, every body one envelope."""

from __future__ import annotations

import json

import pytest

from core import errors
from core.errors import AttuneError
from server.errors import error_response

STATUS = {
    "Invalid": 400,
    "Unauthenticated": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "WrongMethod": 405,
    "Conflict": 409,
    "TooLarge": 413,
    "BeyondEnd": 416,
    "TooMany": 429,
    "Unavailable": 503,
    "ShuttingDown": 503,
}
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AttuneError) and kind is not AttuneError
]


def test_no_kind_of_error_is_left_without_a_status() -> None:
    assert {kind.__name__ for kind in KINDS} == set(STATUS)
    assert all(error_response(kind("x")).status_code == STATUS[kind.__name__] for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_envelope_is_openais_and_its_length_is_true(kind: type[AttuneError]) -> None:
    answer = error_response(kind('Say "ä"\x00\ud800.', param="model", code="some_code"))
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["code"]) == ("model", "some_code")
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["content-type"] == "application/json"


def test_an_error_of_no_kind_is_the_servers_fault() -> None:
    assert error_response(AttuneError("?")).status_code == 500


def test_a_kind_derived_from_another_keeps_its_status() -> None:
    class Stale(errors.Conflict):
        """A conflict of a special sort."""

    assert error_response(Stale("x")).status_code == 409


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (errors.Conflict, "x-should-retry", "false"),
        (errors.Unavailable, "retry-after", "1"),
        (errors.TooMany, "retry-after", "1"),
        (errors.ShuttingDown, "retry-after", "1"),
        (errors.ShuttingDown, "connection", "close"),
        (errors.Unauthenticated, "www-authenticate", "Bearer"),
    ],
)
def test_clients_are_told_whether_to_try_again(
    kind: type[AttuneError], name: str, value: str
) -> None:
    assert error_response(kind("x")).headers[name] == value
    assert name not in error_response(errors.Invalid("x")).headers


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_refusal_has_an_id_where_anthropics_clients_look_for_it(path: str) -> None:
    one, another = (error_response(errors.Invalid("x"), path).headers for _ in range(2))
    assert one["request-id"] != another["request-id"]
    assert one["request-id"].startswith("req_")
    assert "request-id" not in error_response(errors.Invalid("x"), "/v1/chat/completions").headers
