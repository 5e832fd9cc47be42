import base64
import hashlib
import hmac

import pytest

from gateway.domain.pseudonym import Pseudonyms, known_as, read_nhs_number

KEY = b"0123456789abcdef0123456789abcdef"
NAMES = Pseudonyms("k1", KEY)


def by_hand(message: bytes) -> str:
    digest = hmac.new(KEY, message, hashlib.sha256).digest()
    return "k1:" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_a_patient_is_named_by_an_hmac_of_the_nhs_number() -> None:
    assert NAMES.patient("9434765919", "airedale-box", "Patient/p1") == by_hand(b"nhs|9434765919")


def test_a_patient_without_nhs_number_is_named_by_route_and_reference() -> None:
    assert NAMES.patient(None, "airedale-box", "Patient/p1") == by_hand(b"airedale-box|Patient/p1")


def test_another_key_gives_another_name() -> None:
    other = Pseudonyms("k2", KEY[::-1]).patient("9434765919", "airedale-box", "Patient/p1")
    assert other.startswith("k2:")
    assert other[3:] != NAMES.patient("9434765919", "airedale-box", "Patient/p1")[3:]


@pytest.mark.parametrize("text", ["", "back by 5", "Zoë 😀", "\ud800"], ids=ascii)
def test_text_is_recorded_as_length_and_hmac(text: str) -> None:
    assert NAMES.text(text) == {
        "length": len(text),
        "hmac": by_hand(b"text|" + text.encode("utf-8", "surrogatepass")),
    }


def test_a_comment_cannot_be_made_to_look_like_a_patient() -> None:
    assert NAMES.text("nhs|9434765919")["hmac"] != NAMES.patient("9434765919", "airedale-box", "Patient/p1")


def test_the_key_does_not_show_and_a_short_one_is_refused() -> None:
    assert "0123" not in repr(NAMES)
    with pytest.raises(ValueError, match="16 bytes"):
        Pseudonyms("k1", b"short")


def test_a_key_of_sixteen_bytes_is_long_enough_and_one_of_fifteen_is_not() -> None:
    assert Pseudonyms("k1", b"x" * 16).patient("9990548609", "box", "Patient/1").startswith("k1:")
    with pytest.raises(ValueError, match="16 bytes"):
        Pseudonyms("k1", b"x" * 15)


def test_a_patient_is_known_by_one_name_under_each_key() -> None:
    other = Pseudonyms("k2", KEY[::-1])
    expected = {key.patient("9434765919", "any", "Patient/any") for key in (NAMES, other)}
    assert known_as([NAMES, other], "9434765919") == expected
    assert len(expected) == 2


@pytest.mark.parametrize("text", ["9434765919", "943 476 5919", "\t9434765919\n", "0000000000"])
def test_an_nhs_number_is_read_as_people_write_it(text: str) -> None:
    assert read_nhs_number(text) == "".join(text.split())


@pytest.mark.parametrize("text", ["", "943476591", "94347659199", "943-476-5919", "943476591a", "９４３４７６５９１９"])
def test_what_is_no_nhs_number_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="ten digits") as refused:
        read_nhs_number(text)
    assert not text or text not in str(refused.value)
