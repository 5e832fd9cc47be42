"""Scopes: the letters that are known, in the order in which they are known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.partner.access_tokens import (
    Identity,
    Scopes,
)
from tests.edges.tokens import (
    access_claims,
    access_token,
    verdict,
)


@pytest.mark.parametrize(
    ("scope", "letters"),
    [
        ("system/Appointment.r", "r"),
        ("system/Appointment.rus", "rsu"),
        ("system/Appointment.cruds", "cdrsu"),
        ("system/Appointment.r system/Appointment.u", "ru"),
        ("openid system/Patient.r system/Appointment.s", "s"),
        ("system/Appointment.", ""),
        ("system/Appointment.*", ""),
        ("system/*.r", ""),
        ("*/*.*", ""),
        ("system/Appointment.read", ""),
        ("system/Appointment.ur", ""),
        ("system/Appointment.rr", ""),
        ("system/Appointment.R", ""),
        ("system/appointment.r", ""),
        ("patient/Appointment.r", ""),
        ("user/Appointment.r", ""),
        ("system/AppointmentResponse.r", ""),
        ("system/Appointment.r?status=booked", ""),
        ("system/Appointment.r\n", ""),
        ("system/Appointment.r\tsystem/Appointment.u", ""),
        ("system/Appointment.r,system/Appointment.u", ""),
        ("", ""),
    ],
)
def test_a_scope_allows_exactly_its_letters(scope: str, letters: str) -> None:
    assert "".join(sorted(letter for letter in "cruds" if Scopes.read(scope).allows(letter))) == letters


@pytest.mark.parametrize("scope", [None, 7, ["system/Appointment.r"], {"system/Appointment.r": True}])
def test_a_token_without_a_scope_in_words_allows_nothing(scope: Any) -> None:
    found = verdict(access_token(claims=access_claims(scope=scope)))
    assert isinstance(found, Identity)
    assert found.scopes == Scopes()


LETTERS = st.sets(st.sampled_from("cruds"), min_size=1).map(lambda chosen: "".join(x for x in "cruds" if x in chosen))


@given(st.lists(LETTERS, max_size=4), st.lists(st.text(alphabet="system/Appoint.cruds*?", max_size=24), max_size=4))
def test_scopes_add_up_and_unknown_ones_add_nothing(known: list[str], others: list[str]) -> None:
    strange = [word for word in others if not word.startswith("system/Appointment.")]
    scopes = Scopes.read(" ".join([*strange, *(f"system/Appointment.{letters}" for letters in known)]))
    assert {letter for letter in "cruds" if scopes.allows(letter)} == set("".join(known))
    assert Scopes.read(str(scopes)) == scopes


@given(st.text(alphabet="cruds", max_size=6))
def test_letters_out_of_order_or_repeated_are_no_scope(letters: str) -> None:
    in_order = bool(letters) and letters == "".join(x for x in "cruds" if x in letters)
    assert bool(Scopes.read(f"system/Appointment.{letters}").known) == in_order


@given(st.text(max_size=40))
def test_no_other_text_is_a_scope(text: str) -> None:
    assert not Scopes.read(text).known
