"""Every setting: where it comes from, what it may be, and how a mistake is told."""

from pathlib import Path
from typing import Any

import pytest

from gateway.identity.issuers import make_issuer
from gateway.settings import Settings, SettingsError, key_variable, read_settings, variable
from gateway.settings_table import README, settings_table, with_table

ISSUER = {
    "MAKOTO_ISSUER": "https://id.example/pool",
    "MAKOTO_JWKS_URL": "https://id.example/keys",
    "MAKOTO_AUDIENCE": "chat",
}
AZURE = {
    "AZURE_OPENAI_ENDPOINT": "https://example.openai.azure.com",
    "AZURE_OPENAI_API_KEY": "secret-azure-key",
    "AZURE_OPENAI_DEPLOYMENT": "chat",
}
POOL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_EXAMPLE"
FIELDS = sorted(Settings.model_fields)


def read(**environ: str) -> Settings:
    return read_settings(environ=environ)


# What there is


def test_nothing_needs_to_be_set() -> None:
    assert read() == Settings()


@pytest.mark.parametrize("field", FIELDS)
def test_every_setting_is_described_and_has_a_default(field: str) -> None:
    info = Settings.model_fields[field]
    assert info.description
    assert not info.is_required()


def test_no_two_settings_share_a_variable() -> None:
    assert len({variable(field) for field in FIELDS}) == len(FIELDS)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("data_dir", "MAKOTO_DATA_DIR"),
        ("openai_api_key", "OPENAI_API_KEY"),
        ("azure_endpoint", "AZURE_OPENAI_ENDPOINT"),
    ],
)
def test_the_variable_of_a_setting(field: str, name: str) -> None:
    assert variable(field) == name


VALUES: dict[str, tuple[str, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("0", 0),
    "data_dir": ("/srv/データ", Path("/srv/データ")),
    "durability": ("power", "power"),
    "log_level": ("debug", "debug"),
    "allowed_origins": (
        "https://a.example, https://b.example:8443,",
        ("https://a.example", "https://b.example:8443"),
    ),
    "trusted_proxies": ("127.0.0.1,::1", ("127.0.0.1", "::1")),
    "tenant": ("acme", "acme"),
    "issuers": (
        '[{"issuer": "urn:a", "jwks_url": "https://a.example/", "audience": ["b"], "tenant": "t"}]',
        (make_issuer("urn:a", jwks_url="https://a.example/", audience=["b"], tenant="t"),),
    ),
    "query_token": ("true", True),
    "openai_api_key": ("sk-1", "sk-1"),
    "openai_base_url": ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"),
    "openai_model": ("m", "m"),
    "azure_api_version": ("2025-01-01", "2025-01-01"),
    "scripted_pace": ("0", 0.0),
    "first_token_s": ("1.5", 1.5),
    "between_chunks_s": ("2", 2.0),
    "reply_s": ("3", 3.0),
    "reply_tokens": ("256", 256),
    "unread_run_s": ("600", 600.0),
    "characters": ('{"誠":"あなたは誠です。","b":"B"}', {"誠": "あなたは誠です。", "b": "B"}),
    "emotions": ("嬉しい,悲しい", ("嬉しい", "悲しい")),
    "categories": ("one", ("one",)),
    "history_bytes": ("1000", 1000),
    "memories_bytes": ("1", 1),
    "content_bytes": ("10", 10),
    "live_runs": ("1", 1),
    "sockets": ("5", 5),
    "user_sockets": ("5", 5),
    "user_commands": ("5", 5),
    "idle_s": ("0.5", 0.5),
    "lifetime_s": ("60", 60.0),
    "heartbeat_s": ("1", 1.0),
    "shutdown_s": ("0", 0.0),
    "purge_s": ("1", 1.0),
}
TOGETHER = {
    *("issuer", "jwks_url", "audience", "token_use", "azure_endpoint", "azure_api_key"),
    "azure_deployment",
}


def test_the_table_of_values_is_whole() -> None:
    assert VALUES.keys() | TOGETHER == set(FIELDS)


@pytest.mark.parametrize(("field", "given"), VALUES.items(), ids=VALUES)
def test_a_setting_is_read_from_its_variable(field: str, given: tuple[str, Any]) -> None:
    text, value = given
    assert getattr(read_settings(environ={variable(field): f" {text} "}), field) == value


@pytest.mark.parametrize("field", FIELDS)
def test_an_empty_value_means_the_default(field: str) -> None:
    assert read_settings(environ={variable(field): "  "}) == Settings()


def test_settings_that_go_together() -> None:
    read_issuer, read_azure = read(**ISSUER), read(**AZURE)
    assert (read_issuer.issuer, read_issuer.audience) == ("https://id.example/pool", ("chat",))
    assert (read_azure.azure_api_key, read_azure.azure_deployment) == ("secret-azure-key", "chat")


# Who answers


@pytest.mark.parametrize(
    ("environ", "provider"),
    [
        ({}, "scripted"),
        ({"OPENAI_MODEL": "m", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "scripted"),
        ({"OPENAI_API_KEY": "sk-1"}, "openai"),
        (AZURE, "azure"),
        ({**AZURE, "OPENAI_API_KEY": "sk-1"}, "azure"),
    ],
    ids=["nothing", "no key", "OpenAI", "Azure", "Azure wins"],
)
def test_who_answers(environ: dict[str, str], provider: str) -> None:
    assert read(**environ).provider == provider


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, "openai"),
        ("  ", "openai"),
        ("https://example.openai.azure.com", "azure"),
    ],
)
def test_a_key_alone_is_that_of_who_answers_with_it(endpoint: str | None, expected: str) -> None:
    environ = {} if endpoint is None else {"AZURE_OPENAI_ENDPOINT": endpoint}
    whole = {"AZURE_OPENAI_DEPLOYMENT": "chat", **environ, key_variable(environ): "key"}
    assert read(**whole).provider == expected


# Issuers


def test_without_an_issuer_the_server_is_its_own() -> None:
    assert read(MAKOTO_TENANT="acme").trusted_issuers() == ()


def test_one_issuer_has_a_short_form() -> None:
    settings = read(**ISSUER, MAKOTO_TENANT="acme", MAKOTO_TOKEN_USE="id")
    assert settings.trusted_issuers() == (
        make_issuer(
            "https://id.example/pool",
            jwks_url="https://id.example/keys",
            audience=["chat"],
            token_use="id",
            tenant="acme",
        ),
    )


def test_a_user_pool_needs_no_place_of_its_keys() -> None:
    (pool,) = read(
        MAKOTO_ISSUER=POOL, MAKOTO_AUDIENCE="client-1", MAKOTO_TOKEN_USE="access"
    ).trusted_issuers()
    assert pool.jwks_url == f"{POOL}/.well-known/jwks.json"


def test_several_issuers_are_a_list() -> None:
    text, issuers = VALUES["issuers"]
    assert read(MAKOTO_ISSUERS=text).trusted_issuers() == issuers


@pytest.mark.parametrize(
    "name", [*ISSUER, "MAKOTO_TOKEN_USE", "MAKOTO_TENANT"], ids=lambda name: name
)
def test_the_list_and_the_short_form_exclude_each_other(name: str) -> None:
    value = {**ISSUER, "MAKOTO_TOKEN_USE": "id", "MAKOTO_TENANT": "acme"}[name]
    with pytest.raises(SettingsError) as caught:
        read(MAKOTO_ISSUERS=VALUES["issuers"][0], **{name: value})
    assert str(caught.value) == f"MAKOTO_ISSUERS and {name} exclude each other"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({**ISSUER, "MAKOTO_JWKS_URL": "http://id.example/keys"}, "must be https"),
        ({"MAKOTO_ISSUER": POOL, "MAKOTO_AUDIENCE": "a"}, "token_use, access or id"),
        ({"MAKOTO_ISSUERS": "[{}]"}, "MAKOTO_ISSUERS: entry 1: issuer must be a text"),
        ({"MAKOTO_ISSUERS": "issuer"}, "MAKOTO_ISSUERS: not JSON"),
        ({"MAKOTO_TOKEN_USE": "id"}, "MAKOTO_ISSUER is missing"),
        ({"MAKOTO_AUDIENCE": "chat"}, "MAKOTO_ISSUER is missing"),
    ],
)
def test_an_issuer_that_cannot_be_trusted_is_one_line(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ=environ)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# Overrides


def test_overrides_win_and_none_is_no_override() -> None:
    settings = read_settings(
        {"port": 0, "host": None}, environ={"MAKOTO_PORT": "1", "MAKOTO_HOST": "::1"}
    )
    assert (settings.port, settings.host) == (0, "::1")


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKOTO_PORT", "4242")
    assert read_settings().port == 4242


# Mistakes


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAKOTO_PORT", "eighty", "integer"),
        ("MAKOTO_PORT", "65536", "65535"),
        ("MAKOTO_PORT", "-1", "0"),
        ("MAKOTO_DURABILITY", "yes", "process"),
        ("MAKOTO_LOG_LEVEL", "loud", "debug"),
        ("MAKOTO_QUERY_TOKEN", "perhaps", "boolean"),
        ("MAKOTO_FIRST_TOKEN_S", "0", "greater than 0"),
        ("MAKOTO_REPLY_S", "inf", "finite"),
        ("MAKOTO_REPLY_S", "nan", ""),
        ("MAKOTO_SHUTDOWN_S", "-1", "greater than or equal to 0"),
        ("MAKOTO_UNREAD_RUN_S", "-1", "greater than or equal to 0"),
        ("MAKOTO_HISTORY_BYTES", "1.5", "integer"),
        ("MAKOTO_CONTENT_BYTES", "0", "greater than 0"),
        ("MAKOTO_LIVE_RUNS", "0", "greater than or equal to 1"),
        ("MAKOTO_CHARACTERS", "not json", ""),
        ("MAKOTO_CHARACTERS", "{}", "must name at least one"),
        ("MAKOTO_CHARACTERS", '["a"]', "dictionary"),
        ("MAKOTO_CHARACTERS", '{"a": 1}', "string"),
        ("MAKOTO_EMOTIONS", ",", "must name at least one"),
        ("MAKOTO_CATEGORIES", ", ,", "must name at least one"),
        ("MAKOTO_TOKEN_USE", "refresh", "access"),
        ("MAKOTO_TENANT", "a#b", "pattern"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_variable(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ={name: value})
    text = str(caught.value)
    assert text.startswith(f"{name}: ")
    assert says in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("missing", "environ"),
    [
        *[(name, ISSUER) for name in ISSUER],
        ("AZURE_OPENAI_API_KEY", AZURE),
        ("AZURE_OPENAI_DEPLOYMENT", AZURE),
    ],
)
def test_a_missing_companion_is_named(missing: str, environ: dict[str, str]) -> None:
    rest = {name: value for name, value in environ.items() if name != missing}
    with pytest.raises(SettingsError, match=missing) as caught:
        read_settings(environ=rest)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["MAKOTO_PROT", "MAKOTO_OPENAI_API_KEY", "MAKOTO_"])
def test_an_unknown_variable_with_our_prefix_is_a_typing_error(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: there is no such setting$"):
        read_settings(environ={name: "1"})


def test_variables_of_others_are_none_of_our_business() -> None:
    assert read(PATH="/bin", MAKOTOISH="1", OPENAI_ORG_ID="x") == Settings()


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SettingsError):
        read_settings({"prot": 1}, environ={})


# Secrets


def test_secrets_are_not_shown() -> None:
    settings = read(OPENAI_API_KEY="sk-secret", **AZURE)
    assert "secret" not in repr(settings)
    assert "secret" not in str(settings)


@pytest.mark.parametrize(
    "environ",
    [
        {"OPENAI_API_KEY": "sk-secret", "MAKOTO_PORT": "x"},
        {"AZURE_OPENAI_API_KEY": "secret", "AZURE_OPENAI_ENDPOINT": "https://a.example"},
        {"MAKOTO_CHARACTERS": '{"a": ["secret"]}'},
        {"MAKOTO_CHARACTERS": "secret"},
    ],
)
def test_no_value_is_repeated_in_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ=environ)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc] # that is the point


# The table in README.md


def test_the_readme_has_the_table_of_settings() -> None:
    """Write it anew with: python -m gateway.settings_table."""
    text = README.read_text("utf-8")
    assert "<!-- settings -->" in text
    assert text == with_table(text)


def test_the_table_has_every_setting_once() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [variable(name) for name in Settings.model_fields]
    assert all(row.count("|") == 5 for row in rows)


@pytest.mark.parametrize(
    "row",
    [
        "| `MAKOTO_PORT` | `8765` |  | port; 0 picks a free one |",
        "| `MAKOTO_REPLY_S` | `300` | seconds | deadline of a whole reply |",
        "| `MAKOTO_CONTENT_BYTES` | `262144` | bytes | longest message of a user |",
        "| `MAKOTO_QUERY_TOKEN` | `false` |  | accept a token as `?token=` (URLs end up in logs: "
        "leave it off) |",
        "| `OPENAI_API_KEY` |  |  | key of OpenAI or a compatible server |",
    ],
)
def test_a_row_tells_default_and_unit(row: str) -> None:
    assert row in settings_table().splitlines()


def test_what_stands_around_the_table_stays() -> None:
    before, after = "# Title\n<!-- settings -->\n", "<!-- /settings -->\nmore `\\1` text\n"
    assert with_table(f"{before}old\n{after}") == f"{before}{settings_table()}{after}"
