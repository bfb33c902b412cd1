"""The layer is built for what is deployed, and published where that is, or nothing is done."""

import pytest

from layers.errors import LayerError
from layers.samconfig import read_target


def config(overrides: str, *, stack: str = 'stack_name = "a-stack"', more: str = "") -> str:
    return f"[dev.deploy.parameters]\n{stack}\nparameter_overrides = {overrides}\n{more}"


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_every_environment_of_ours_says_what_to_build_for(environment: str) -> None:
    target = read_target(environment)
    assert (target.runtime, target.architecture) == ("python3.13", "arm64")
    assert (target.stack, target.layer) == (
        f"makoto-{environment}",
        f"makoto-{environment}-common",
    )
    assert (target.region, target.profile) == (None, None)


@pytest.mark.parametrize(
    "overrides",
    [
        '["Architecture=x86_64", "Env=dev", "Runtime=python3.12"]',
        '["Runtime=python3.12", \'\'\'Issuers="[{\\"a\\": \\"b=c\\"}]"\'\'\', "Architecture=x86_64"]',
        '["Runtime=\\"python3.12\\"", "Architecture=\\"x86_64\\"", "Model=it\'s"]',
        '"Env=dev Runtime=python3.12 Architecture=\\"x86_64\\""',
        '["Env=dev Runtime=python3.12 Architecture=x86_64"]',
    ],
)
def test_it_is_read_in_every_form_that_sam_takes(overrides: str) -> None:
    target = read_target("dev", config(overrides))
    assert (target.runtime, target.architecture) == ("python3.12", "x86_64")


def test_what_goes_to_sam_is_as_it_was_written() -> None:
    written = ['Issuers="[{\\"a\\": \\"b c\\"}]"', "Runtime=python3.12", "Architecture=x86_64"]
    target = read_target("dev", config("[" + ", ".join(f"'{each}'" for each in written) + "]"))
    assert list(target.overrides) == written


def test_what_is_said_for_all_commands_counts_but_for_deploy_counts_more() -> None:
    everything = '["Runtime=python3.12", "Architecture=x86_64"]'
    more = '[dev.global.parameters]\nregion = "eu-west-1"\nprofile = "mine"\nstack_name = "other"\n'
    target = read_target("dev", config(everything, more=more))
    assert (target.region, target.profile, target.stack) == ("eu-west-1", "mine", "a-stack")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "infra/samconfig.toml has no dev"),
        ("[dev", "infra/samconfig.toml: Expected"),
        (config("[]"), "has no Runtime=... for dev"),
        (config('["Runtime=python3.13"]'), "has no Architecture=... for dev"),
        ("[dev.deploy.parameters]\n", "has no Runtime=... for dev"),
        (config('["Runtime=python3.13", "Architecture=arm64"]', stack=""), "has no stack_name"),
        ('dev = "0.1"', "infra/samconfig.toml has no dev"),
        ("dev.deploy = 1", "has no Runtime=... for dev"),
    ],
)
def test_what_is_not_said_is_asked_for(text: str, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        read_target("dev", text)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ('"Runtime=python3.13 Architecture=arm64 Note=it\'s"', "no closing quotation"),
        ('{Runtime = "python3.13", Architecture = "arm64"}', "a table or numbers"),
        ('[{Runtime = "python3.13"}]', "a table or numbers"),
        ("3", "a table or numbers"),
        ('"ParameterKey=Runtime,ParameterValue=python3.13"', "ParameterKey"),
        ('["ParameterKey=Runtime,ParameterValue=python3.13", "Env=dev"]', "ParameterKey"),
        ('["Env=dev", "file://parameters.toml"]', "file://parameters.toml"),
    ],
)
def test_forms_that_are_not_read_are_named(overrides: str, told: str) -> None:
    with pytest.raises(LayerError) as failed:
        read_target("dev", config(overrides))
    assert str(failed.value) == (
        "parameter_overrides of dev in infra/samconfig.toml are not read in this form "
        f'({told}): write them as ["NAME=VALUE", ...]'
    )


@pytest.mark.parametrize("name", ["CommonLayerArn", "PreviousLayerArn"])
def test_the_layer_is_not_chosen_there(name: str) -> None:
    """SAM would take the one of its command line, or for the one before whatever is written here."""
    overrides = f'["Runtime=python3.13", "Architecture=arm64", "{name}=arn"]'
    with pytest.raises(LayerError, match=f"sets {name} for dev: leave that to make deploy"):
        read_target("dev", config(overrides))
