"""The ids that the gateway makes."""

import uuid

from gateway.app.assembly import new_id


def test_a_new_id_is_a_random_uuid_in_its_one_spelling() -> None:
    made = [new_id() for _ in range(200)]
    assert len(set(made)) == 200
    for text in made:
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 4, uuid.RFC_4122)
    assert {text[19] for text in made} == set("89ab")
