"""What the template says. Emulators ignore much of it, such as expiry, lifecycle, retries and alarms."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.aws_settings import read_aws_settings
from gateway.runs.beat import LEASE_S
from gateway.settings import Settings, read_settings, variable
from storage import ttl
from storage.dynamodb import tables
from tests.infra.deployment import ROOT, TEMPLATE, sam
from tests.infra.template import (
    Resource,
    function_names,
    listed,
    properties,
    resources,
    statements,
    text,
    transformed,
)

FUNCTIONS = ("Connect", "Disconnect", "Http", "Message", "Reply", "Seal")
DAY = 86_400


def test_cfn_lint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), TEMPLATE],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sam_calls_it_valid() -> None:
    said = sam(
        *("validate", "--lint", "--template", str(TEMPLATE)),
        environment={"AWS_DEFAULT_REGION": "eu-central-1"},
    )
    assert "is a valid SAM Template" in said


# What is kept


@pytest.mark.parametrize(
    ("name", "table"), [("DataTable", tables.DATA), ("DoorTable", tables.DOOR)]
)
def test_a_table_is_what_the_repositories_expect(name: str, table: tables.Table) -> None:
    made = properties(name)
    attributes = {
        entry["AttributeName"]: entry["AttributeType"] for entry in made["AttributeDefinitions"]
    }
    indexes = {index["IndexName"]: index for index in made.get("GlobalSecondaryIndexes", ())}
    assert made["BillingMode"] == "PAY_PER_REQUEST"
    assert keys(made) == (tables.PARTITION_KEY, tables.SORT_KEY)
    assert made["TimeToLiveSpecification"] == {"AttributeName": tables.TTL, "Enabled": True}
    assert set(indexes) == {index.name for index in table.indexes}
    expected = {tables.PARTITION_KEY: "S", tables.SORT_KEY: "S"}
    for index in table.indexes:
        assert keys(indexes[index.name]) == (index.partition, index.sort)
        assert indexes[index.name]["Projection"] == {"ProjectionType": index.projection}
        expected |= {index.partition: "S", index.sort: "N"}
    assert attributes == expected
    recovery = made.get("PointInTimeRecoverySpecification", {})
    assert recovery.get("PointInTimeRecoveryEnabled", False) is table.point_in_time_recovery
    assert made["SSESpecification"] == {"SSEEnabled": True}


def keys(made: Resource) -> tuple[str, str]:
    partition, sort = made["KeySchema"]
    assert (partition["KeyType"], sort["KeyType"]) == ("HASH", "RANGE")
    return partition["AttributeName"], sort["AttributeName"]


@pytest.mark.parametrize("name", ["DataTable", "DoorTable", "Bucket"])
def test_production_keeps_its_data(name: str) -> None:
    resource = transformed()["Resources"][name]
    for attribute in ("DeletionPolicy", "UpdateReplacePolicy"):
        assert resource[attribute] == {"Fn::If": ["IsProd", "Retain", "Delete"]}


def test_the_bucket_is_closed_encrypted_and_spoken_to_by_tls_alone() -> None:
    bucket, policy = properties("Bucket"), properties("BucketPolicy")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2


def test_the_bucket_forgets_what_nobody_can_ask_for_any_more() -> None:
    rules = {rule["Id"]: rule for rule in properties("Bucket")["LifecycleConfiguration"]["Rules"]}
    expiry, unfinished = rules["expire-spills-and-uploads"], rules["abort-unfinished-uploads"]
    assert {expiry["Status"], unfinished["Status"]} == {"Enabled"}
    assert expiry["ExpirationInDays"] * DAY > max(ttl.SPILL, ttl.UPLOAD)
    # All else is the text of a message, and stays.
    assert expiry["TagFilters"] == [{"Key": "expires", "Value": "soon"}]
    assert unfinished["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert len(rules) == 2


def test_pages_of_the_named_origins_alone_may_use_bucket_and_tickets() -> None:
    condition, cors, otherwise = properties("Bucket")["CorsConfiguration"]["Fn::If"]
    (rule,) = cors["CorsRules"]
    assert (condition, otherwise) == ("HasOrigins", {"Ref": "AWS::NoValue"})
    assert rule["AllowedOrigins"] == {"Ref": "AllowedOrigins"}
    assert rule["AllowedMethods"] == ["GET", "POST"]
    condition, cors, otherwise = properties("HttpApi")["CorsConfiguration"]["Fn::If"]
    assert (condition, otherwise) == ("HasOrigins", {"Ref": "AWS::NoValue"})
    assert cors["AllowOrigins"] == {"Ref": "AllowedOrigins"}
    assert cors["AllowHeaders"] == ["authorization", "content-type"]
    assert cors["AllowMethods"] == ["GET", "POST"]


# What runs


def test_there_are_the_six_functions() -> None:
    assert function_names() == [f"{name}Function" for name in FUNCTIONS]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_begins_in_the_layer_with_a_handler_that_exists(name: str) -> None:
    function = properties(f"{name}Function")
    module, _, handler = function["Handler"].rpartition(".")
    assert module == f"gateway.hosts.aws.{name.lower()}"
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    assert f"\ndef {handler}(" in Path(found.origin).read_text()
    (layer,) = function["Layers"]
    assert layer["Ref"].startswith("CommonLayer")
    assert function["Runtime"] == {"Ref": "Runtime"}
    assert function["Architectures"] == [{"Ref": "Architecture"}]
    parameters = transformed()["Parameters"]
    assert parameters["Runtime"]["Default"] == "python3.13"
    assert parameters["Architecture"]["Default"] == "arm64"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_is_told_is_read(name: str) -> None:
    told = set(properties(f"{name}Function")["Environment"]["Variables"])
    settings = {variable(field) for field in Settings.model_fields}
    example = {"MAKOTO_CONNECTIONS_URL": "https://x", "MAKOTO_POSTS_PER_SECOND": "1"}
    example["MAKOTO_ISSUERS"] = "[]"
    read = read_aws_settings({name: example.get(name, "x") for name in told})
    only_on_aws = told - set(read.rest)
    assert told - settings - only_on_aws == set()


def test_empty_parameters_are_the_defaults_of_the_settings() -> None:
    variables = properties("ReplyFunction")["Environment"]["Variables"]
    given = {name for name in variables if name not in {"MAKOTO_LOG_LEVEL"}}
    rest = read_aws_settings(dict.fromkeys(given, "")).rest
    assert read_settings(environ=rest) == Settings()


def test_an_unread_answer_is_ended_only_if_that_is_asked_for() -> None:
    assert transformed()["Parameters"]["UnreadRunSeconds"]["Default"] == 0
    variables = properties("ReplyFunction")["Environment"]["Variables"]
    assert variables["MAKOTO_UNREAD_RUN_S"] == {"Ref": "UnreadRunSeconds"}


def test_a_reply_is_generated_once_and_reported_when_it_fails() -> None:
    ((_, config),) = resources("AWS::Lambda::EventInvokeConfig").items()
    assert config["FunctionName"] == {"Ref": "ReplyFunction"}
    assert config["MaximumRetryAttempts"] == 0
    assert config["MaximumEventAgeInSeconds"] == 60
    on_failure = config["DestinationConfig"]["OnFailure"]["Destination"]
    assert on_failure == {"Fn::GetAtt": ["Failures", "Arn"]}
    ((_, source),) = resources("AWS::Lambda::EventSourceMapping").items()
    assert source["EventSourceArn"] == on_failure
    assert source["FunctionName"] == {"Ref": "SealFunction"}
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_failure_that_cannot_be_sealed_is_kept() -> None:
    failures, dead = properties("Failures"), properties("DeadLetters")
    assert failures["DelaySeconds"] > LEASE_S  # before that a run that died cannot be sealed
    assert failures["RedrivePolicy"]["deadLetterTargetArn"] == {
        "Fn::GetAtt": ["DeadLetters", "Arn"]
    }
    assert failures["VisibilityTimeout"] >= 6 * properties("SealFunction")["Timeout"]
    assert dead["MessageRetentionPeriod"] == 14 * DAY
    assert failures["SqsManagedSseEnabled"] is dead["SqsManagedSseEnabled"] is True


def test_reply_is_long_and_has_its_own_concurrency() -> None:
    reply = properties("ReplyFunction")
    assert reply["Timeout"] == 900
    condition, reserved, _ = reply["ReservedConcurrentExecutions"]["Fn::If"]
    assert (condition, reserved) == ("HasReservation", {"Ref": "ReplyConcurrency"})
    for name in ("Connect", "Message", "Disconnect", "Http"):
        assert properties(f"{name}Function")["Timeout"] <= 29  # API Gateway waits no longer
        assert properties(f"{name}Function")["MemorySize"] < reply["MemorySize"]


# What each may do

MAY: dict[str, dict[str, str]] = {
    "Connect": {"DoorTable": "GetItem PutItem UpdateItem"},
    "Disconnect": {"DoorTable": "DeleteItem"},
    "Http": {"DoorTable": "GetItem PutItem"},
    "Message": {"DoorTable": "DeleteItem GetItem PutItem UpdateItem"},
    "Reply": {"DoorTable": "DeleteItem GetItem UpdateItem"},
    "Seal": {"DoorTable": "DeleteItem GetItem UpdateItem"},
}
DATA = "BatchGetItem BatchWriteItem ConditionCheckItem DeleteItem GetItem PutItem Query UpdateItem"
OBJECTS = {
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:PutObject",
    "s3:PutObjectTagging",
    "s3:ListBucket",
}
SERVICES = {"dynamodb", "execute-api", "lambda", "logs", "s3", "secretsmanager", "sqs", "ssm"}
WORKERS = ("Message", "Reply", "Seal")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_allows_what_its_function_does_and_nothing_else(name: str) -> None:
    assert allowed(name, "logs") == {"logs:CreateLogStream", "logs:PutLogEvents"}
    for table, operations in MAY[name].items():
        assert allowed(name, "dynamodb", table) == {
            f"dynamodb:{operation}" for operation in operations.split()
        }
    is_worker = name in WORKERS
    data = {f"dynamodb:{operation}" for operation in DATA.split()} if is_worker else set()
    assert allowed(name, "dynamodb", "DataTable") == data
    assert allowed(name, "s3") == (OBJECTS if is_worker else set())
    posts = {"execute-api:ManageConnections"} if is_worker else set()
    assert allowed(name, "execute-api") == posts
    assert allowed(name, "lambda") == ({"lambda:InvokeFunction"} if is_worker else set())
    queue = {"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"} if name == "Seal" else set()
    queue |= {"SendMessage"} if name == "Reply" else set()
    assert allowed(name, "sqs") == {f"sqs:{action}" for action in queue}
    key = name == "Reply"
    assert allowed(name, "secretsmanager") == ({"secretsmanager:GetSecretValue"} if key else set())
    assert allowed(name, "ssm") == ({"ssm:GetParameter"} if key else set())
    services = {action.split(":")[0] for action in allowed(name, "")}
    assert services <= SERVICES


def allowed(name: str, service: str, resource: str = "") -> set[str]:
    return {
        action
        for statement in statements(f"{name}Function")
        for action in listed(statement["Action"])
        if action.startswith(service) and resource in text(statement["Resource"])
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_role_reaches_beyond_the_stack(name: str) -> None:
    assert "ManagedPolicyArns" not in properties(f"{name}Role")
    for statement in statements(f"{name}Function"):
        assert statement["Effect"] == "Allow"
        assert "*" not in "".join(listed(statement["Action"]))
        for resource in listed(statement["Resource"]):
            said = text(resource)
            assert re.search(r"\$\{(?!AWS::(?!StackName))|Fn::GetAtt|Ref", said), said
            # Objects of the bucket, indexes of the table, and methods and connections of the stage.
            rest = said.replace("${Bucket.Arn}/*", "").replace("${DataTable.Arn}/index/*", "")
            rest = rest.replace("${SocketApi}/${Env}/*/@connections/*", "")
            assert "*" not in rest


# What faces clients


def test_every_command_has_its_function() -> None:
    api = properties("SocketApi")
    assert api["ProtocolType"] == "WEBSOCKET"
    assert api["RouteSelectionExpression"] == "$request.body.type"
    routes = {}
    for route in resources("AWS::ApiGatewayV2::Route").values():
        integration = re.search(r"\$\{(\w+)\}", route["Target"]["Fn::Sub"])
        assert integration is not None
        uri = text(properties(integration[1])["IntegrationUri"])
        function = re.search(r"(\w+)Function", uri)
        assert function is not None
        routes[route["ApiId"]["Ref"], route["RouteKey"]] = function[1]
    assert routes == {
        ("SocketApi", "$connect"): "Connect",
        ("SocketApi", "$default"): "Message",
        ("SocketApi", "$disconnect"): "Disconnect",
        ("HttpApi", "$default"): "Http",
    }


@pytest.mark.parametrize("name", ["Connect", "Message", "Disconnect", "Http"])
def test_api_gateway_may_invoke_a_function_for_its_route_alone(name: str) -> None:
    permission = properties(f"{name}Permission")
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["FunctionName"] == {"Ref": f"{name}Function"}
    route = {"Connect": "$connect", "Disconnect": "$disconnect"}.get(name, "$default")
    assert permission["SourceArn"]["Fn::Sub"].endswith(f"/{route}")


@pytest.mark.parametrize("name", ["SocketStage", "HttpStage"])
def test_a_stage_is_throttled_and_logs_no_query(name: str) -> None:
    stage = properties(name)
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"]["Fn::FindInMap"]
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"]["Fn::FindInMap"]
    assert stage["DefaultRouteSettings"].get("LoggingLevel", "OFF") == "OFF"
    written = stage["AccessLogSettings"]["Format"]
    assert json.loads(written)["status"] == "$context.status"
    assert "\n" not in written
    # Tickets are in the query string, tokens in headers.
    assert re.search(r"querystring|requestOverride|header|authorizer", written, re.I) is None


def test_every_log_group_forgets() -> None:
    groups = resources("AWS::Logs::LogGroup")
    assert len(groups) == len(FUNCTIONS) + 2
    for group in groups.values():
        assert group["RetentionInDays"] == {"Fn::FindInMap": ["Size", {"Ref": "Env"}, "LogDays"]}


def test_no_secret_is_in_the_template() -> None:
    assert re.search(r"sk-|AKIA|api[_-]?key *[:=]", TEMPLATE.read_text(), re.I) is None


# What is watched


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_alarm_rings_when_more_than_a_twentieth_fails(name: str) -> None:
    alarm = properties(f"{name}Errors")
    metrics = {metric["Id"]: metric for metric in alarm["Metrics"]}
    assert metrics["rate"]["Expression"] == "100 * errors / invocations"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 5)
    for id_, metric in (("errors", "Errors"), ("invocations", "Invocations")):
        measured = metrics[id_]["MetricStat"]["Metric"]
        assert (measured["Namespace"], measured["MetricName"]) == ("AWS/Lambda", metric)
        assert measured["Dimensions"] == [
            {"Name": "FunctionName", "Value": {"Ref": f"{name}Function"}}
        ]


def test_alarms_ring_for_throttles_dead_letters_and_replies_near_their_end() -> None:
    alarms = resources("AWS::CloudWatch::Alarm")
    throttled = {
        text(metric["MetricStat"]["Metric"]["Dimensions"][0]["Value"])
        for alarm in ("FunctionThrottles", "TableThrottles")
        for metric in alarms[alarm]["Metrics"]
        if "MetricStat" in metric
    }
    tables_too = ["DataTable", "DoorTable"]
    names = [*(f"{name}Function" for name in FUNCTIONS), *tables_too]
    assert throttled == {text({"Ref": name}) for name in names}
    assert alarms["DeadLettersLeft"]["Threshold"] == 0
    limit = properties("ReplyFunction")["Timeout"] * 1000
    assert 0.9 * limit < alarms["ReplyTooLong"]["Threshold"] < limit
    for alarm in alarms.values():
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["AlarmActions"]["Fn::If"][:2] == ["HasTopic", [{"Ref": "AlarmTopic"}]]


def test_the_dashboard_shows_every_function() -> None:
    body = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(body)["widgets"]
    assert len({(widget["x"], widget["y"]) for widget in widgets}) == len(widgets)
    for name in FUNCTIONS:
        assert f"${{{name}Function}}" in body


def test_outputs_name_what_others_build_upon() -> None:
    outputs: dict[str, Any] = transformed()["Outputs"]
    guide = (ROOT / "docs" / "aws.md").read_text()
    for name, output in outputs.items():
        assert output["Description"]
        assert f"`{name}`" in guide, name
    for name in transformed()["Parameters"]:
        assert f"`{name}`" in guide, name
