"""Rule sets in files: protobuf's JSON form, read and checked without a registry."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

from google.protobuf import json_format

from services.registry import rule_set_checks
from zhichao.registry.v1 import resources_pb2

FILE_CHARACTERS_MAX = 1_000_000
"""A rule set is published in a message of at most 128 KiB (CreateRuleSet); with its white space it is a few times that.
"""


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong in a file: a field of the rule set, or none when the file cannot be read."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class RuleSetFile:
    """A file with a rule set, as far as it could be read, and everything that is wrong with it."""

    name: str
    rule_set: resources_pb2.RuleSet = field(default_factory=resources_pb2.RuleSet)
    violations: Sequence[Violation] = ()


def read_rule_set(file: TextIO) -> RuleSetFile:
    """Read a rule set and check it as the registry would. What the registry itself adds (`info`) is left out.

    Never raises for what is in the file. Whether the version is the next one, only the registry knows.
    """
    name = getattr(file, "name", "-")
    try:
        content = file.read(FILE_CHARACTERS_MAX + 1)
        if len(content) > FILE_CHARACTERS_MAX:
            return _unreadable(name, f"has more than {FILE_CHARACTERS_MAX:,} characters 文件过大")
        content = content.lstrip("\ufeff \t\r\n")
        if not content.startswith("{"):
            # The parser takes an empty list for an empty message, and stumbles over a number.
            return _unreadable(name, "is no rule set in JSON: it does not begin with { 不是 JSON 格式的规则集")
        rule_set = json_format.Parse(content, resources_pb2.RuleSet())
    except UnicodeDecodeError as error:
        return _unreadable(name, f"is not UTF-8 ({error.reason}) 文件不是 UTF-8 编码")
    except json_format.ParseError as error:
        return _unreadable(name, f"is no rule set in JSON: {error} 不是 JSON 格式的规则集")
    rule_set.ClearField("info")
    found = rule_set_checks.validate_rule_set(rule_set)
    return RuleSetFile(name, rule_set, [Violation(one.field, one.description) for one in found])


def _unreadable(name: str, why: str) -> RuleSetFile:
    return RuleSetFile(name, violations=[Violation("", why)])
