"""Persons responsible for a source unit: what is refused, and that no refusal and no log repeats personal data."""

from typing import Any

import pytest

from services.registry import forms
from services.registry.persons import RESPONSIBLE_PERSONS_MAX, ResponsibleDuty, ResponsiblePerson, persons_violations
from tests.registry import examples
from tests.registry.calls import create, get, refused_create, update
from tests.registry.harness import RunningRegistry
from zhichao.registry.v1 import resources_pb2 as pb


def person(**fields: Any) -> ResponsiblePerson:
    values: dict[str, Any] = {"duty": ResponsibleDuty.SUPERVISOR, "name": "示例甲", "phone_number": ""}
    return ResponsiblePerson(**values | fields)


def fields_refused(*persons: ResponsiblePerson) -> list[str]:
    return [violation.field for violation in persons_violations(persons)]


def test_duties_are_those_of_the_contract() -> None:
    contract = pb.ResponsibleDuty.items()
    assert {f"RESPONSIBLE_DUTY_{duty.name}": duty.value for duty in ResponsibleDuty} == {
        name: number for name, number in contract if number
    }


@pytest.mark.parametrize("phone_number", ["", "1", "10000000000", "+8610000000000", "0" * 20])
def test_numbers_that_people_have_are_taken(phone_number: str) -> None:
    assert fields_refused(person(phone_number=phone_number)) == []


@pytest.mark.parametrize("phone_number", ["+", "1-2", "１２", "1 2", "100*****00", "0" * 21, "12\n", "1+2"])
def test_numbers_with_other_characters_are_refused(phone_number: str) -> None:
    assert fields_refused(person(phone_number=phone_number)) == ["responsible_persons[0].phone_number"]


@pytest.mark.parametrize("name", ["", " ", "示例甲 ", "示*甲", "示\n甲", "甲" * 65, "甲\u202e乙"])
def test_names_that_nobody_has_are_refused(name: str) -> None:
    assert fields_refused(person(name=name)) == ["responsible_persons[0].name"]


def test_every_bad_field_of_every_person_is_named() -> None:
    assert fields_refused(person(duty=0), person(), person(duty=9, name="", phone_number="x")) == [
        "responsible_persons[0].duty",
        "responsible_persons[2].duty",
        "responsible_persons[2].name",
        "responsible_persons[2].phone_number",
    ]


def test_one_person_may_have_two_duties_but_none_twice() -> None:
    assert fields_refused(person(), person(duty=ResponsibleDuty.MAINTAINER)) == []
    assert fields_refused(person(), person(name="示例乙"), person()) == ["responsible_persons[2]"]


def test_a_crowd_is_refused_as_one() -> None:
    crowd = [person(name=f"示例{number}") for number in range(RESPONSIBLE_PERSONS_MAX)]
    assert fields_refused(*crowd) == []
    assert fields_refused(*crowd, person(name="")) == ["responsible_persons"]


@pytest.mark.parametrize(
    "bad", [{"name": "秘密姓名 "}, {"name": "秘密姓名\n"}, {"phone_number": "19900000000x"}, {"name": "秘密姓名" * 20}]
)
def test_refusals_do_not_repeat_what_is_personal(bad: dict[str, str]) -> None:
    (violation,) = persons_violations([person(**bad)])
    assert "秘密" not in violation.description
    assert "199" not in violation.description


def test_the_masked_form_of_a_name_cannot_be_stored(registry: RunningRegistry) -> None:
    unit = examples.attended_unit()
    unit.responsible_persons[0].name = f"示{forms.MASK_CHARACTER * 2}"
    refused = refused_create(registry, unit)
    assert refused.fields == ["source_unit.responsible_persons[0].name"]


def test_persons_are_stored_changed_and_removed(registry: RunningRegistry) -> None:
    create(registry, examples.attended_unit())
    changed = examples.source_unit(responsible_persons=[{"duty": pb.RESPONSIBLE_DUTY_MAINTAINER, "name": "示例丙"}])

    updated = update(registry, changed, "responsible_persons")
    assert list(updated.responsible_persons) == list(changed.responsible_persons)
    assert get(registry, changed) == updated

    emptied = update(registry, examples.source_unit(responsible_persons=[]), "responsible_persons")
    assert list(emptied.responsible_persons) == []


def test_persons_are_part_of_the_entry(registry: RunningRegistry) -> None:
    create(registry, examples.attended_unit())
    assert "示例甲".encode() in registry.entries()[-1]
