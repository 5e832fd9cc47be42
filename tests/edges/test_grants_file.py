"""What a good grants file means."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.configuration.grants import GrantsReader, Hl7Credentials, IssuerClient
from gateway.configuration.problems import ConfigurationRefused
from gateway.domain.appointment import SNOMED_CT
from gateway.domain.grant import Coding, CustomerKind, Field, Operation, Rate
from tests.edges.grants_files import ENVIRON, GOOD, ROUTES, grants_file, problems, reader


def test_every_value_of_a_grant_arrives(tmp_path: Path) -> None:
    grant = reader(grants_file(tmp_path)).load().policy.grants[0]
    assert grant.operations == frozenset(Operation)
    assert grant.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert grant.privacy_labels == {"GENERAL_HEALTH"}
    assert grant.specialties == frozenset({Coding(SNOMED_CT, "394579002"), Coding("https://codes.example/own", "CARD")})
    assert grant.notice == timedelta(hours=48)
    assert grant.patient_required
    assert grant.change_fields == {Field.START, Field.END}
    assert grant.within == timedelta(days=90)
    assert grant.cancel_reasons == frozenset({"pat", "other"})
    assert grant.rate == Rate(60, 60)
    assert grant.approved_by == "Director of Informatics"
    assert not grant.shadow


def test_what_a_grant_leaves_out_comes_from_its_customer_and_route(tmp_path: Path) -> None:
    policy = reader(grants_file(tmp_path)).load().policy
    _, summer, trial, cardiology, bradford = policy.grants
    assert summer.privacy_labels == {"GENERAL_HEALTH", "SEXUAL_HEALTH"}
    assert summer.notice == timedelta(hours=72)
    assert (summer.cancel_reasons, summer.specialties, summer.rate, summer.within) == (None, None, None, None)
    assert trial.shadow
    assert trial.change_fields == frozenset(Field) - {Field.MANAGEMENT_URL}
    assert cardiology.notice == timedelta(hours=72)
    assert bradford.change_fields == frozenset(Field)
    assert (bradford.notice, bradford.hl7_alias) == (timedelta(0), "bradford")
    assert (summer.patient_required, bradford.patient_required) == (False, True)


def test_a_team_takes_route_zone_and_notice_from_its_organisation(tmp_path: Path) -> None:
    team = reader(grants_file(tmp_path)).load().policy.customers["airedale-cardiology"]
    assert (team.kind, team.organisation, team.source) == (CustomerKind.TEAM, "airedale", "Organization/cardiology")
    assert team.route is ROUTES["box"]
    assert team.time_zone.key == "Europe/London"
    assert team.notice == timedelta(hours=72)


def test_a_team_may_have_its_own_zone_and_notice(tmp_path: Path) -> None:
    own = 'organisation = "airedale"\ntime_zone = "Europe/Dublin"\nnotice = "0s"'
    path = grants_file(tmp_path, GOOD.replace('organisation = "airedale"', own))
    team = reader(path).load().policy.customers["airedale-cardiology"]
    assert (team.time_zone.key, team.notice) == ("Europe/Dublin", timedelta(0))


def test_a_date_is_midnight_in_the_customers_zone(tmp_path: Path) -> None:
    summer = reader(grants_file(tmp_path)).load().policy.grants[1]
    assert summer.valid_from == datetime(2027, 5, 31, 23, tzinfo=UTC)
    assert summer.valid_until == datetime(2027, 8, 31, 23, tzinfo=UTC)


def test_partners_come_with_the_ways_they_prove_themselves(tmp_path: Path) -> None:
    grants = reader(grants_file(tmp_path)).load()
    assert grants.policy.partners["viewonly"].suspended
    registration = grants.registrations["swiftbook"]
    key_file = tmp_path / "keys" / "swiftbook.jwks.json"
    assert registration.key_files == (key_file,)
    assert registration.clients == (IssuerClient("https://iam.example/realms/pkb", "swiftbook"),)
    assert isinstance(registration.hl7, Hl7Credentials)
    assert registration.hl7.password.reveal() == "not-to-be-seen"
    assert dict(grants.keys) == {key_file: "swiftbook.jwks.json"}


def test_a_secret_never_shows(tmp_path: Path) -> None:
    assert "not-to-be-seen" not in repr(reader(grants_file(tmp_path)).load())


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    assert reader(path).load().digest == sha256(path.read_bytes()).hexdigest()


def test_a_file_with_only_a_version_grants_nothing(tmp_path: Path) -> None:
    policy = reader(grants_file(tmp_path, "version = 1\n")).load().policy
    assert (dict(policy.partners), dict(policy.customers), policy.grants) == ({}, {}, ())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="begins with a byte order mark"),
        pytest.param(GOOD.replace("\n", "\r\n").encode(), id="lines end as on Windows"),
    ],
)
def test_what_editors_leave_behind_does_no_harm(tmp_path: Path, content: bytes) -> None:
    path = grants_file(tmp_path)
    path.write_bytes(content)
    assert problems(path) == ()


def test_grants_of_one_pair_may_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    path = grants_file(tmp_path, GOOD.replace("2027-06-01T00:00:00+01:00", "2027-01-01"))
    assert problems(path) == ()


def test_without_routes_what_hangs_on_them_is_not_checked_and_no_secret_is_needed(tmp_path: Path) -> None:
    path = grants_file(tmp_path, GOOD.replace('route = "box"', 'route = "nowhere"'))
    grants = GrantsReader(path, secrets=False, environ={}).load()
    assert grants.registrations["swiftbook"].hl7 is None
    assert len(grants.policy.grants) == 5


def test_without_key_files_they_are_not_looked_for(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    (tmp_path / "keys" / "swiftbook.jwks.json").unlink()
    with pytest.raises(ConfigurationRefused):
        GrantsReader(path, secrets=False).load()
    assert len(GrantsReader(path, secrets=False, key_files=False).load().policy.grants) == 5


def test_relative_paths_start_at_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grants_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    reading = GrantsReader(Path("grants.toml"), routes=ROUTES, environ=ENVIRON)
    assert reading.load().registrations["swiftbook"].key_files == (tmp_path / "keys" / "swiftbook.jwks.json",)
