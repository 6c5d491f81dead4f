"""The rule sets that come with the release, `rule_sets/*.json` in protobuf's JSON form."""

from importlib.resources import files

from google.protobuf import json_format

import services.registry
from zhichao.registry.v1 import resources_pb2 as pb


def rule_sets() -> list[pb.RuleSet]:
    """Read all shipped rule sets, ordered by id and version. Raises json_format.ParseError for a file that is none."""
    directory = files(services.registry) / "rule_sets"
    read = [
        json_format.Parse(file.read_text(encoding="utf-8"), pb.RuleSet())
        for file in directory.iterdir()
        if file.name.endswith(".json")
    ]
    return sorted(read, key=lambda rule_set: (rule_set.rule_set_id, rule_set.version))
