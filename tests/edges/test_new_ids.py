"""The ids that the gateway makes."""

import time
import uuid

from gateway.app.assembly import new_id


def test_a_new_id_is_a_uuid_in_its_one_spelling() -> None:
    made = [new_id() for _ in range(200)]
    assert len(set(made)) == 200
    for text in made:
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 7, uuid.RFC_4122)
    assert {text[19] for text in made} == set("89ab")


def test_all_of_it_but_its_time_is_random() -> None:
    made = [uuid.UUID(new_id()).int for _ in range(400)]
    for bit in (*range(62), *range(64, 76)):
        assert 0 < sum(number >> bit & 1 for number in made) < 400


def test_ids_sort_by_the_time_at_which_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    one = new_id()
    after = time.time_ns() // 1_000_000
    assert before <= uuid.UUID(one).int >> 80 <= after
    time.sleep(0.002)
    assert one < new_id()
