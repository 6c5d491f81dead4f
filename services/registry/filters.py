"""Filters of lists: which column is compared how with a value of the request. An empty value does not filter."""

from dataclasses import dataclass
from enum import Enum, auto

from services.registry import forms
from services.registry.forms import Form, Violation


class Comparison(Enum):
    """How a filter compares."""

    EQUAL = auto()
    """The column has the value."""
    BEFORE = auto()
    """The column holds a day before the value."""
    VALID_ON = auto()
    """The value is a day from the first column on and before the second, where empty means open."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: the request's field and value, the form that the value must have, and the columns to compare."""

    field: str
    value: str | int
    form: Form
    comparison: Comparison
    columns: tuple[str, ...]

    @property
    def is_set(self) -> bool:
        """Whether it filters at all."""
        return bool(self.value)

    def violations(self) -> list[Violation]:
        """Check the value's form."""
        description = self.form(self.value) if self.is_set else ""
        return [Violation(self.field, description)] if description else []


def equal(column: str, value: str, form: Form) -> Filter:
    """Filter by a text; the column is named like the request's field."""
    return Filter(column, value, form, Comparison.EQUAL, (column,))


def equal_number(column: str, value: int) -> Filter:
    """Filter by an enum number; any is taken, since an unknown one finds nothing."""
    return Filter(column, value, lambda _: "", Comparison.EQUAL, (column,))


def before(field: str, value: str, column: str) -> Filter:
    """Filter by a day that must lie after the column's."""
    return Filter(field, value, forms.day, Comparison.BEFORE, (column,))


def valid_on(field: str, value: str, from_column: str, until_column: str) -> Filter:
    """Filter by a day that must lie in the period of the two columns."""
    return Filter(field, value, forms.day, Comparison.VALID_ON, (from_column, until_column))
