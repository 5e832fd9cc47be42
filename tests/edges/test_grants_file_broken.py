"""Grants files with one mistake each: refused, at the right line, in words that help."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.edges.grants_files import GOOD, grants_file, problems


@dataclass(frozen=True)
class Mistake:
    """`old` becomes `new`; the problem stands where `at` is (default: where `new` begins)."""

    old: str
    new: str
    place: str
    gist: str
    at: str | None = None


SUMMER = 'id = "airedale-swiftbook-summer"\n'
FIRST = 'id = "airedale-swiftbook"\n'
LAST = 'id = "bradford-swiftbook"\n'
TRIAL = 'id = "airedale-swiftbook-trial"\n'
SWIFTBOOK = "[partners.swiftbook]"

SHAPE = {
    "name of two lines": Mistake('"View Only"', '"View\\nOnly"', "partners.viewonly.name", "on one line"),
    "name without end": Mistake('"View Only"', f'"{"View" * 60}"', "partners.viewonly.name", "longer than 200"),
    "blank at the end": Mistake('"77aa"', '"77aa "', "partners.viewonly.pkb_client_id", "a blank at the beginning"),
    "list for a name": Mistake('"View Only"', '["View"]', "partners.viewonly.name", "found a list in [ ]"),
    "decimal for a name": Mistake('"View Only"', "1.5", "partners.viewonly.name", "found a decimal number"),
    "switch for a name": Mistake('"View Only"', "true", "partners.viewonly.name", "found true or false"),
    "date with a time for a name": Mistake(
        '"View Only"', "2026-01-01T09:00:00Z", "partners.viewonly.name", "found a date with a time"
    ),
    "date for a name": Mistake('"View Only"', "2026-01-01", "partners.viewonly.name", "found a date"),
    "misspelt key of a grant": Mistake(
        'operations = ["read"]\nfrom = 2027', 'operatons = ["read"]\nfrom = 2027', "grants[1].operatons", '"operations"'
    ),
    "misspelt key of a partner": Mistake('status = "active"', 'staus = "active"', "partners.swiftbook.staus", "status"),
    "misspelt key of an inline table": Mistake(
        "within =", "whitin =", "grants[0].change.whitin", 'did you mean "within"', at="change = {"
    ),
    "misspelt key of an authentication": Mistake(
        'pkb", client_id = ',
        'pkb", clientid = ',
        "partners.swiftbook.authentication[1].clientid",
        "client_id",
        at="access_token",
    ),
    "unknown table": Mistake("[customers.leeds]", "[hospitals.leeds]", "hospitals", "unknown key; known here"),
    "no version": Mistake("version = 1", "", "version", "this key is missing", at=""),
    "later version": Mistake("version = 1", "version = 2", "version", "at most 1"),
    "version as text": Mistake("version = 1", 'version = "1"', "version", "whole number, found text"),
    "partner unknown to PKB": Mistake(
        'pkb_client_id = "2f6c0b1e"\n', "", "partners.swiftbook.pkb_client_id", "identifier PKB granted", at=SWIFTBOOK
    ),
    "empty identifier of PKB": Mistake(
        'pkb_client_id = "2f6c0b1e"', 'pkb_client_id = " "', "partners.swiftbook.pkb_client_id", "must not be empty"
    ),
    "unknown status": Mistake('"active"', '"activ"', "partners.swiftbook.status", 'did you mean "active"'),
    "rate without a unit": Mistake('rate = "600/min"', 'rate = "600"', "partners.swiftbook.rate", '"600/min"'),
    "rate as a number": Mistake('rate = "600/min"', "rate = 600", "partners.swiftbook.rate", "found a whole number"),
    "rate of nothing": Mistake('rate = "600/min"', 'rate = "0/s"', "partners.swiftbook.rate", "above 0"),
    "notice without a unit": Mistake('notice = "72h"', 'notice = "72"', "customers.airedale.notice", '"72h"'),
    "notice in weeks": Mistake('notice = "72h"', 'notice = "2w"', "customers.airedale.notice", "ms, s, m, h or d"),
    "notice below zero": Mistake('notice = "72h"', 'notice = "-1h"', "customers.airedale.notice", "a duration"),
    "notice of a century": Mistake('notice = "72h"', 'notice = "36500d"', "customers.airedale.notice", "3650 days"),
    "id in capitals": Mistake(
        "[customers.leeds]", "[customers.Leeds]", "customers.Leeds", "cannot be an id: use small letters"
    ),
    "id that is an address": Mistake("[customers.leeds]", "[customers.docs]", "customers.docs", "gateway itself"),
    "id that is the token's address": Mistake("[customers.leeds]", "[customers.oauth2]", "customers.oauth2", "gateway"),
    "id of 64 characters": Mistake(FIRST, f'id = "{"a" * 64}"\n', "grants[0].id", "at most 63"),
    "customer without labels": Mistake(
        'route = "leeds-box"\nprivacy_labels = ["GENERAL_HEALTH"]',
        'route = "leeds-box"',
        "customers.leeds.privacy_labels",
        "level of access",
        at="[customers.leeds]",
    ),
    "customer with an empty list of labels": Mistake(
        'route = "leeds-box"\nprivacy_labels = ["GENERAL_HEALTH"]',
        'route = "leeds-box"\nprivacy_labels = []',
        "customers.leeds.privacy_labels",
        "empty list",
        at="privacy_labels = []",
    ),
    "customer of no kind": Mistake(
        'name = "Leeds"\nkind = "organisation"',
        'name = "Leeds"',
        "customers.leeds",
        "kind is missing",
        at="[customers.leeds]",
    ),
    "customer of another kind": Mistake(
        'name = "Leeds"\nkind = "organisation"',
        'name = "Leeds"\nkind = "organization"',
        "customers.leeds",
        'did you mean "organisation"',
        at="[customers.leeds]",
    ),
    "source as an address": Mistake(
        '"Organization/leeds"',
        '"https://pkb.example/Organization/leeds"',
        "customers.leeds.source_organisation",
        "reference",
    ),
    "source without a type": Mistake(
        '"Organization/leeds"', '"leeds"', "customers.leeds.source_organisation", '"Organization/airedale"'
    ),
    "team with an organisation's source": Mistake(
        "source_team",
        "source_organisation",
        "customers.airedale-cardiology.source_organisation",
        "unknown key",
        at='source_organisation = "Organization/cardiology"',
    ),
    "date in quotes": Mistake("until = 2027-09-01", 'until = "2027-09-01"', "grants[1].until", "without quotes"),
    "time without an offset": Mistake("2027-06-01T00:00:00+01:00", "2027-06-01T00:00:00", "grants[1].from", "offset"),
    "time without a date": Mistake("until = 2027-09-01", "until = 09:00:00", "grants[1].until", "found a time"),
    "year of an old calendar": Mistake("until = 2027-09-01", "until = 0027-09-01", "grants[1].until", "2000"),
    "no end": Mistake("until = 2027-09-01\n", "", "grants[1].until", "missing", at="[[grants]]\n" + SUMMER),
    "operation as text": Mistake(
        'operations = ["read"]\nfrom = 2027', 'operations = "read"\nfrom = 2027', "grants[1].operations", "a list"
    ),
    "unknown operation": Mistake(
        '["read", "change"]', '["read", "chnage"]', "grants[2].operations[1]", 'did you mean "change"', at='"chnage"'
    ),
    "no operation": Mistake('["read", "change"]', "[]", "grants[2].operations", "empty list", at="operations = []"),
    "every operation by a wildcard": Mistake('["read", "change"]', '["*"]', "grants[2].operations[0]", "no wildcards"),
    "customer by a wildcard": Mistake(
        FIRST + 'customer = "airedale"', FIRST + 'customer = "*"', "grants[0].customer", "no wildcards", at='"*"'
    ),
    "label by a wildcard": Mistake(
        'privacy_labels = ["GENERAL_HEALTH"]\nspecialties',
        'privacy_labels = ["*"]\nspecialties',
        "grants[0].privacy_labels[0]",
        "no wildcards",
    ),
    "unknown label": Mistake(
        '"SEXUAL_HEALTH"', '"SEXUEL_HEALTH"', "customers.airedale.privacy_labels[1]", 'did you mean "SEXUAL_HEALTH"'
    ),
    "unknown field": Mistake('"start", "end"', '"start", "ende"', "grants[0].change.fields[1]", 'did you mean "end"'),
    "unknown reason": Mistake(
        '"pat", "other"', '"pat", "patient"', "grants[0].cancel.reasons[1]", "cancellation-reason"
    ),
    "specialty in words": Mistake(
        '"394579002"', '"Cardiology"', "grants[0].specialties[0]", "SNOMED CT code", at='"Cardiology", "http'
    ),
    "specialty without a system": Mistake('"394579002"', '"|CARD"', "grants[0].specialties[0]", '"system|code"'),
    "patient as a switch": Mistake(
        'patient = "required"', "patient = true", "grants[0].patient", "optional or required"
    ),
    "shadow in quotes": Mistake("shadow = true", 'shadow = "true"', "grants[2].shadow", "true or false without quotes"),
    "alias with a delimiter": Mistake(
        'hl7_alias = "bradford"', 'hl7_alias = "brad|ford"', "grants[4].hl7_alias", "letters, digits"
    ),
    "grants as a table": Mistake(
        GOOD[GOOD.index("[[grants]]") :], '[grants.first]\nid = "x"\n', "grants", "a list in [ ], found a table"
    ),
    "keys by plain http": Mistake(
        'jwks_file = "keys/swiftbook.jwks.json"',
        'jwks_url = "http://swiftbook.example/jwks"',
        "partners.swiftbook.authentication[0].jwks_url",
        "https://",
        at="jwks_url",
    ),
    "keys in two places": Mistake(
        'jwks_file = "keys',
        'jwks_url = "https://s.example/jwks", jwks_file = "keys',
        "partners.swiftbook.authentication[0]",
        "either jwks_file or jwks_url",
        at="jwks_url",
    ),
    "unknown method": Mistake(
        '"private_key_jwt"',
        '"client_secret"',
        "partners.swiftbook.authentication[0]",
        "access_token or private_key_jwt",
    ),
    "literal secret": Mistake(
        '"env:HL7_PASSWORD"', '"hunter2"', "partners.swiftbook.pkb.hl7_password", '"env:NAME" or "file:/path"'
    ),
    "secret that is not there": Mistake(
        '"env:HL7_PASSWORD"', '"env:NO_SUCH"', "partners.swiftbook.pkb.hl7_password", "env:NO_SUCH cannot be resolved"
    ),
}

RULES = {
    "partner that is not there": Mistake(
        LAST + 'customer = "bradford"\npartner = "swiftbook"', LAST + 'customer = "bradford"\npartner = "swiftbok"',
        "grants[4].partner", 'did you mean "swiftbook"', at='swiftbok"',
    ),
    "customer that is not there": Mistake(
        LAST + 'customer = "bradford"', LAST + 'customer = "brdford"', "grants[4].customer",
        'did you mean "bradford"', at="brdford",
    ),
    "route that is not there": Mistake(
        'route = "box"', 'route = "boxx"', "customers.airedale.route", 'did you mean "box"'
    ),
    "issuer that is not there": Mistake(
        "realms/pkb", "realms/pbk", "partners.swiftbook.authentication[1].issuer", "there is no issuer"
    ),
    "organisation that is not there": Mistake(
        'organisation = "airedale"', 'organisation = "airdale"', "customers.airedale-cardiology.organisation",
        'did you mean "airedale"',
    ),
    "team of itself": Mistake(
        'organisation = "airedale"', 'organisation = "airedale-cardiology"',
        "customers.airedale-cardiology.organisation", "is a team itself",
    ),
    "key file that is not there": Mistake(
        "swiftbook.jwks.json", "other.jwks.json", "partners.swiftbook.authentication[0].jwks_file",
        "cannot read keys/other",
    ),
    "time zone that is not there": Mistake(
        '"Europe/London"', '"Europe/Londn"', "customers.bradford.time_zone", 'did you mean "Europe/London"'
    ),
    "time zone that is a folder": Mistake('"Europe/London"', '"Europe"', "customers.bradford.time_zone", "time zone"),
    "time zone outside the database": Mistake(
        '"Europe/London"', '"../../etc/passwd"', "customers.bradford.time_zone", "not a time zone"
    ),
    "team beyond its organisation": Mistake(
        '"Organization/cardiology"\nprivacy_labels = ["GENERAL_HEALTH"]',
        '"Organization/cardiology"\nprivacy_labels = ["GENERAL_HEALTH", "MENTAL_HEALTH"]',
        "customers.airedale-cardiology.privacy_labels[1]", "MENTAL_HEALTH is beyond the team's organisation",
        at='"MENTAL_HEALTH"',
    ),
    "grant beyond its customer": Mistake(
        'privacy_labels = ["GENERAL_HEALTH"]\nspecialties', 'privacy_labels = ["SOCIAL_CARE"]\nspecialties',
        "grants[0].privacy_labels[0]", "SOCIAL_CARE is beyond the customer",
    ),
    "two customers of one name at PKB": Mistake(
        "Organization/cardiology", "Organization/airedale", "customers.airedale-cardiology.source_team",
        'already is "airedale" on the same route, on line 23', at="source_team",
    ),
    "two customers of a whole endpoint": Mistake(
        'route = "hl7-bradford"', 'route = "leeds-box"', "customers.leeds", 'which is "bradford" on line 35',
        at="[customers.leeds]",
    ),
    "team of a whole endpoint": Mistake(
        'organisation = "airedale"', 'organisation = "leeds"', "customers.airedale-cardiology",
        "cannot tell what is a team's", at="[customers.airedale-cardiology]",
    ),
    "ends before it begins": Mistake("until = 2027-09-01", "until = 2027-05-01", "grants[1].until", "later than from"),
    "ends as it begins": Mistake(
        "until = 2027-09-01", "until = 2027-05-31T23:00:00Z", "grants[1].until", "later than from"
    ),
    "change without read": Mistake(
        '["read", "change"]', '["change"]', "grants[2].operations", 'cannot be granted without read; add "read"'
    ),
    "limits of a change that is not granted": Mistake(
        '["read"]\nfrom = 2027', '["read"]\nchange = { within = "1d" }\nfrom = 2027', "grants[1].change",
        'add "change" to operations', at='change = { within = "1d"',
    ),
    "limits of a cancel that is not granted": Mistake(
        '["read"]\nfrom = 2027', '["read"]\ncancel = { reasons = ["pat"] }\nfrom = 2027', "grants[1].cancel",
        'add "cancel" to operations', at='cancel = { reasons = ["pat"] }',
    ),
    "field the route cannot change": Mistake(
        '"start", "end"', '"start", "managementUrl"', "grants[0].change.fields[1]", "customer-fhir route"
    ),
    "hl7 without an alias": Mistake(
        'hl7_alias = "bradford"\n', "", "grants[4]", "needs the key hl7_alias", at="[[grants]]\n" + LAST
    ),
    "hl7 without credentials": Mistake(
        'pkb = { hl7_username = "env:HL7_USER", hl7_password = "env:HL7_PASSWORD" }\n', "", "grants[4].partner",
        "needs pkb = { hl7_username, hl7_password }",
        at='partner = "swiftbook"\noperations = ["read", "change", "cancel"]\n'
        "from = 2026-01-01\nuntil = 2027-01-01\nhl7_alias",
    ),
    "alias of another organisation": Mistake(
        "[[grants]]\n" + SUMMER,
        """[customers.halifax]
name = "Halifax"
kind = "organisation"
source_organisation = "Organization/halifax"
route = "hl7-bradford"
privacy_labels = ["GENERAL_HEALTH"]

[[grants]]
id = "halifax"
customer = "halifax"
partner = "swiftbook"
operations = ["read"]
from = 2026-01-01
until = 2027-01-01
hl7_alias = "bradford" # not its own

[[grants]]
""" + SUMMER,
        "grants[5].hl7_alias", 'already stands for "halifax" on line 80', at='hl7_alias = "bradford"\n',
    ),
    "id used twice": Mistake(
        SUMMER, 'id = "airedale-swiftbook" # summer\n', "grants[1].id", "is the id of another grant on line 51"
    ),
    "two grants at once": Mistake(
        "from = 2027-06-01T00:00:00+01:00", "from = 2026-12-31", "grants[1]",
        '"airedale-swiftbook-summer" overlaps in time with the grant "airedale-swiftbook" on line 50',
        at="[[grants]]\n" + SUMMER,
    ),
    "two shadow grants at once": Mistake(
        "until = 2027-09-01\n", "until = 2027-09-01\nshadow = true\n" + """
[[grants]]
id = "second-trial"
customer = "airedale"
partner = "swiftbook"
operations = ["read"]
from = 2026-06-30
until = 2026-12-31
shadow = true
""", "grants[3]", "with the shadow grant", at="[[grants]]\n" + TRIAL,
    ),
    "one token for two partners": Mistake(
        'status = "suspended"',
        'authentication = [{ method = "access_token", '
        'issuer = "https://iam.example/realms/pkb", client_id = "swiftbook" }]',
        "partners.viewonly.authentication[0].client_id", "one token cannot name two partners",
    ),
}  # fmt: skip


def line_of(text: str, at: str) -> int:
    return text.count("\n", 0, text.index(at)) + 1


@pytest.mark.parametrize("mistake", [pytest.param(m, id=name) for name, m in {**SHAPE, **RULES}.items()])
def test_a_grants_file_with_one_mistake_is_refused_at_its_line(tmp_path: Path, mistake: Mistake) -> None:
    assert mistake.old in GOOD
    text = GOOD.replace(mistake.old, mistake.new, 1)
    found = problems(grants_file(tmp_path, text))
    told = [problem for problem in found if problem.place == mistake.place and mistake.gist in problem.message]
    assert told, [str(problem) for problem in found]
    assert told[0].line == line_of(text, mistake.new if mistake.at is None else mistake.at)
    assert "hunter2" not in str(found)
