"""The template as CloudFormation gets it: SAM's resources replaced by those they stand for."""

import json
import os
import subprocess
from functools import cache
from typing import Any

from tests.infra.deployment import TEMPLATE, sam_environment

Resource = dict[str, Any]

_TRANSFORM = """
import json, sys
from types import SimpleNamespace
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(open(sys.argv[1]).read())
json.dump(transform(template, {}, SimpleNamespace(load=dict)), sys.stdout)
"""


@cache
def transformed() -> Resource:
    """Return the template after SAM's transform; not to be changed."""
    done = subprocess.run(
        [sam_environment() / "bin" / "python", "-c", _TRANSFORM, TEMPLATE],
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    template: Resource = json.loads(done.stdout)
    return template


def resources(kind: str) -> dict[str, Resource]:
    """Return the properties of the transformed resources of a type, by name."""
    return {
        name: resource["Properties"]
        for name, resource in transformed()["Resources"].items()
        if resource["Type"] == kind
    }


def properties(name: str) -> Resource:
    """Return the properties of a transformed resource."""
    found: Resource = transformed()["Resources"][name]["Properties"]
    return found


def function_names() -> list[str]:
    """Return the names of the functions, such as `ReplyFunction`."""
    return sorted(resources("AWS::Lambda::Function"))


def statements(function: str) -> list[Resource]:
    """Return what a function's role allows, those that depend on a condition included."""
    role = properties(function)["Role"]["Fn::GetAtt"][0]
    (policy,) = properties(role)["Policies"]
    return [
        statement["Fn::If"][1] if "Fn::If" in statement else statement
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def listed(value: Any) -> list[Any]:
    """Return a list, of what may be one or one thing."""
    return value if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """Return a value as text that shows what it refers to."""
    return value if isinstance(value, str) else json.dumps(value)
