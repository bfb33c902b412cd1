"""What the template expects of the layer: its fingerprint changes with that, and with nothing else."""

import json

import pytest
import yaml

from layers.contract import TEMPLATE, read_contract
from layers.errors import LayerError

TEXT = TEMPLATE.read_text()


def test_it_has_every_handler_and_variable() -> None:
    contract = read_contract()
    assert contract.handlers == tuple(
        f"from gateway.hosts.aws.{name} import handler"
        for name in ("connect", "disconnect", "http", "message", "provider_reply", "seal")
    )
    assert {"MAKOTO_DATA_TABLE", "MAKOTO_REPLY_FUNCTION", "OPENAI_MODEL"} <= {*contract.variables}


@pytest.mark.parametrize(
    "changed",
    [
        TEXT.replace("hosts.aws.seal import", "hosts.aws.end import"),
        TEXT.replace("MAKOTO_LOG_LEVEL:", "MAKOTO_LEVEL:"),
        TEXT.replace("OPENAI_BASE_URL:", "OPENAI_TIMEOUT: 3\n          OPENAI_BASE_URL:"),
    ],
)
def test_it_changes_with_what_the_code_is_told(changed: str) -> None:
    assert changed != TEXT
    assert read_contract(changed).fingerprint != read_contract().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        TEXT.replace("Timeout: 29", "Timeout: 28"),
        TEXT.replace("!Ref LogLevel", "debug"),
        TEXT.replace("Answers a command", "Obeys"),
    ],
)
def test_it_stays_the_same_when_all_else_changes(changed: str) -> None:
    assert changed != TEXT
    assert read_contract(changed) == read_contract()


def test_a_template_without_functions_is_no_contract() -> None:
    with pytest.raises(LayerError, match="no function"):
        read_contract("Resources: {}")


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags as the SAM CLI does, in their long form."""


def read_tag(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return {f"Fn::{name}": loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return {f"Fn::{name}": loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.ScalarNode)
    return {f"Fn::{name}": loader.construct_scalar(node)}


Loader.add_multi_constructor("!", read_tag)


def test_it_stays_the_same_when_the_template_is_written_anew() -> None:
    """What is uploaded by `sam deploy` is `yaml.dump` of what it read; the SDK hands out JSON as read."""
    read = yaml.load(TEXT, Loader)
    for text in (
        yaml.dump(read, default_flow_style=False),
        yaml.dump(read, default_flow_style=False, default_style='"'),
        yaml.dump(read, default_flow_style=False, width=40),
        json.dumps(read, indent=1),
    ):
        assert text != TEXT
        assert read_contract(text) == read_contract()
