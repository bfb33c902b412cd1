"""What the template says. Emulators ignore much of it, such as expiry, lifecycle, retries and alarms."""

import importlib.util
import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.aws_settings import read_aws_settings
from gateway.runs.beat import LEASE_S
from gateway.settings import Settings, read_settings, variable
from gateway.telemetry import JsonFormatter
from storage import ttl
from storage.dynamodb import tables
from storage.dynamodb.client import ConditionFailedError
from storage.dynamodb.connections import DynamoConnections
from storage.dynamodb.key_documents import DynamoKeyDocuments
from storage.dynamodb.post_slots import DynamoPostSlots
from storage.dynamodb.tickets import DynamoTickets
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


# A table that was restored instead of the stack's own

USED_DATA_TABLE = {
    "Fn::If": ["HasRestored", {"Ref": "RestoredDataTable"}, {"Ref": "DataTable"}],
}


def test_a_restored_table_takes_the_place_of_the_stacks_own() -> None:
    for name in FUNCTIONS:
        variables = properties(f"{name}Function")["Environment"]["Variables"]
        assert variables["MAKOTO_DATA_TABLE"] == USED_DATA_TABLE
    assert transformed()["Outputs"]["DataTableName"]["Value"] == USED_DATA_TABLE
    arn = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/"
    for name in WORKERS:
        (data,) = (each for each in statements(f"{name}Function") if each["Sid"] == "Data")
        condition, restored, own = data["Resource"]["Fn::If"]
        assert condition == "HasRestored"
        assert restored == [
            {"Fn::Sub": f"{arn}${{RestoredDataTable}}"},
            {"Fn::Sub": f"{arn}${{RestoredDataTable}}/index/*"},
        ]
        assert own == [
            {"Fn::GetAtt": ["DataTable", "Arn"]},
            {"Fn::Sub": "${DataTable.Arn}/index/*"},
        ]


# What runs


ENTRY_POINTS = {"Reply": "provider_reply"}
"""Modules that are named otherwise than their functions."""


def test_there_are_the_six_functions() -> None:
    assert function_names() == [f"{name}Function" for name in FUNCTIONS]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_begins_in_the_layer_with_a_handler_that_exists(name: str) -> None:
    function = properties(f"{name}Function")
    # In which file CloudFormation puts what is inline is not to be chosen.
    assert function["Handler"] == "index.handler"
    module = f"gateway.hosts.aws.{ENTRY_POINTS.get(name, name.lower())}"
    assert function["Code"] == {"ZipFile": f"from {module} import handler"}
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    assert re.search(
        r"^(def|from .* import) handler\b", Path(found.origin).read_text(), re.MULTILINE
    )
    assert function["Layers"] == [{"Ref": "CommonLayerArn"}]
    assert function["Runtime"] == {"Ref": "Runtime"}
    assert function["Architectures"] == [{"Ref": "Architecture"}]
    parameters = transformed()["Parameters"]
    assert parameters["Runtime"]["Default"] == "python3.13"
    assert parameters["Architecture"]["Default"] == "arm64"


@pytest.mark.parametrize(
    ("parameter", "given", "is_allowed"),
    [
        # Lambda's Python 3.11 is on Amazon Linux 2, with glibc 2.26; the wheels need 2.28.
        ("Runtime", "python3.11", False),
        ("Runtime", "python3.12", True),
        ("Runtime", "python3.13", True),
        ("Runtime", "python3.14", True),
        ("Runtime", "python3.15", False),
        ("Characters", "", True),
        ("Characters", '{"a": "b",\n "c": "d"}', True),
        ("Characters", "makoto", False),
        ("Issuers", "{}", False),
        ("RestoredDataTable", "makoto-prod-data-2", True),
        ("RestoredDataTable", "arn:aws:dynamodb:eu-central-1:1:table/x", False),
    ],
)
def test_a_parameter_takes_what_can_work(parameter: str, given: str, is_allowed: bool) -> None:
    pattern = transformed()["Parameters"][parameter]["AllowedPattern"]
    assert (re.fullmatch(pattern, given) is not None) == is_allowed


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


def test_the_door_knows_the_origins_and_messages_how_many_answers_a_user_may_have() -> None:
    for name in ("Connect", "Http"):
        variables = properties(f"{name}Function")["Environment"]["Variables"]
        assert variables["MAKOTO_ALLOWED_ORIGINS"] == {"Fn::Join": [",", {"Ref": "AllowedOrigins"}]}
    variables = properties("MessageFunction")["Environment"]["Variables"]
    assert variables["MAKOTO_LIVE_RUNS"] == {"Ref": "LiveRuns"}
    live_runs = transformed()["Parameters"]["LiveRuns"]
    assert (live_runs["Default"], live_runs["MinValue"]) == (Settings().live_runs, 1)


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


ROWS = {
    "Connect": {"CONNECTION#", "JWKS#", "TICKET#"},
    "Disconnect": {"CONNECTION#"},
    "Http": {"JWKS#", "TICKET#"},
    "Message": {"CONNECTION#", "JWKS#", "POSTS#"},
    "Reply": {"CONNECTION#", "POSTS#"},
    "Seal": {"CONNECTION#", "POSTS#"},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_reaches_its_own_rows_of_the_door(name: str) -> None:
    """Whoever could write a key document could sign in as anybody."""
    (door,) = (each for each in statements(f"{name}Function") if each["Sid"] == "Door")
    assert door["Condition"] == {
        "ForAllValues:StringLike": {
            "dynamodb:LeadingKeys": [f"{prefix}*" for prefix in sorted(ROWS[name])]
        }
    }


async def test_rows_of_the_door_begin_as_the_roles_say() -> None:
    client = Recorded()
    await DynamoConnections(client, "door", clock=lambda: 0.0).remove("an id")
    await DynamoTickets(client, "door").redeem("a hash", now=0.0)
    await DynamoKeyDocuments(client, "door").get("https://issuer.example/jwks.json")
    await DynamoPostSlots(client, "door").take("a window", 0, holder="me", expires_at=0.0)
    kinds = {key.partition("#")[0] + "#" for key in client.keys}
    assert kinds == set().union(*ROWS.values())


class Recorded:
    """A client of DynamoDB that remembers which rows it was asked for, and has none."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.keys.append(request["Key"][tables.PARTITION_KEY]["S"])
        if operation == "UpdateItem":
            raise ConditionFailedError(None)
        return {}

    async def aclose(self) -> None:
        pass


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
            rest = rest.replace("table/${RestoredDataTable}/index/*", "")
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
        # No route takes OPTIONS, or API Gateway would hand preflights on; see
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html.
        ("HttpApi", "POST /v1/tickets"): "Http",
        ("HttpApi", "GET /healthz"): "Http",
    }


@pytest.mark.parametrize(
    ("name", "function", "route"),
    [
        ("Connect", "Connect", "${SocketApi}/${Env}/$connect"),
        ("Message", "Message", "${SocketApi}/${Env}/$default"),
        ("Disconnect", "Disconnect", "${SocketApi}/${Env}/$disconnect"),
        ("Tickets", "Http", "${HttpApi}/$default/POST/v1/tickets"),
        ("Health", "Http", "${HttpApi}/$default/GET/healthz"),
    ],
)
def test_api_gateway_may_invoke_a_function_for_its_route_alone(
    name: str, function: str, route: str
) -> None:
    permission = properties(f"{name}Permission")
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["FunctionName"] == {"Ref": f"{function}Function"}
    assert permission["SourceArn"]["Fn::Sub"].endswith(f":{route}")


def test_the_stage_waits_for_every_route() -> None:
    for stage, api in (("SocketStage", "SocketApi"), ("HttpStage", "HttpApi")):
        routes = {
            name
            for name, route in resources("AWS::ApiGatewayV2::Route").items()
            if route["ApiId"] == {"Ref": api}
        }
        assert set(transformed()["Resources"][stage]["DependsOn"]) == routes


@pytest.mark.parametrize("name", ["SocketStage", "HttpStage"])
def test_a_stage_is_throttled_and_logs_no_query(name: str) -> None:
    stage = properties(name)
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"]["Fn::FindInMap"]
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"]["Fn::FindInMap"]
    assert stage["DefaultRouteSettings"].get("LoggingLevel", "OFF") == "OFF"
    written = stage["AccessLogSettings"]["Format"]
    assert json.loads(written)["status"] == "$context.status"
    assert json.loads(written)["error"] == "$context.error.message"  # `messageString` has quotes
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
def test_an_alarm_rings_when_more_than_a_twentieth_fails_or_logs_an_error(name: str) -> None:
    alarm = properties(f"{name}Errors")
    metrics = {metric["Id"]: metric for metric in alarm["Metrics"]}
    rate = "100 * (FILL(errors, 0) + FILL(faults, 0)) / invocations"
    assert metrics["rate"]["Expression"] == rate
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 5)
    for id_, metric in (("errors", "Errors"), ("invocations", "Invocations")):
        measured = metrics[id_]["MetricStat"]["Metric"]
        assert (measured["Namespace"], measured["MetricName"]) == ("AWS/Lambda", metric)
        assert measured["Dimensions"] == [
            {"Name": "FunctionName", "Value": {"Ref": f"{name}Function"}}
        ]
    (counted,) = properties(f"{name}Faults")["MetricTransformations"]
    assert metrics["faults"]["MetricStat"]["Metric"] == {
        "Namespace": counted["MetricNamespace"],
        "MetricName": counted["MetricName"],
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_that_a_function_logs_is_counted(name: str) -> None:
    counting = properties(f"{name}Faults")
    assert counting["LogGroupName"] == {"Ref": f"{name}Log"}
    selector = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', counting["FilterPattern"])
    assert selector is not None
    field, value = selector.groups()
    assert logged("ERROR")[field] == value
    assert logged("WARNING")[field] != value
    (counted,) = counting["MetricTransformations"]
    # Without the default, a function that never logged an error has no metric to be added to the others.
    assert (counted["MetricValue"], counted["DefaultValue"]) == ("1", 0)
    assert counted["MetricName"] == f"{name.lower()}-faults"


def logged(level: str) -> dict[str, Any]:
    """Return a line of the functions' logs."""
    record = logging.makeLogRecord({"levelname": level, "name": "gateway", "msg": "it broke"})
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def test_alarms_ring_for_throttles_dead_letters_and_replies_near_their_end() -> None:
    alarms = resources("AWS::CloudWatch::Alarm")
    functions = {
        text(metric["MetricStat"]["Metric"]["Dimensions"])
        for metric in alarms["FunctionThrottles"]["Metrics"]
        if "MetricStat" in metric
    }
    assert functions == {
        text([{"Name": "FunctionName", "Value": {"Ref": f"{name}Function"}}]) for name in FUNCTIONS
    }
    assert alarms["DeadLettersLeft"]["Threshold"] == 0
    limit = properties("ReplyFunction")["Timeout"] * 1000
    assert 0.9 * limit < alarms["ReplyTooLong"]["Threshold"] < limit
    # IntegrationError counts each refused handshake too.
    assert alarms["SocketFaults"]["MetricName"] == "ExecutionError"
    for alarm in alarms.values():
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["AlarmActions"]["Fn::If"][:2] == ["HasTopic", [{"Ref": "AlarmTopic"}]]


@pytest.mark.parametrize("operation", ["Read", "Write"])
def test_an_alarm_rings_for_throttles_of_every_table_and_index(operation: str) -> None:
    """Those of an index are counted apart from its table's."""
    watched = {
        tuple(text(dimension["Value"]) for dimension in measured["Dimensions"])
        for metric in properties("TableThrottles")["Metrics"]
        if (measured := metric.get("MetricStat", {}).get("Metric", {})).get("MetricName")
        == f"{operation}ThrottleEvents"
    }
    data, door = text(USED_DATA_TABLE), text({"Ref": "DoorTable"})
    assert watched == {(door,), (data,), *((data, index.name) for index in tables.DATA.indexes)}


@pytest.mark.parametrize("name", ["FunctionThrottles", "TableThrottles"])
def test_an_alarm_of_throttles_adds_up_all_it_measures(name: str) -> None:
    total, *measured = properties(name)["Metrics"]
    assert re.findall(r"FILL\((\w+), 0\)", total["Expression"]) == [each["Id"] for each in measured]
    assert len(measured) <= 10  # CloudWatch takes no more in one alarm


def test_the_dashboard_shows_every_function() -> None:
    body, given = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(body)["widgets"]
    assert given == {"DataTableName": USED_DATA_TABLE}
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


def test_the_guide_adds_up_what_a_million_replies_cost() -> None:
    _, _, table = (ROOT / "docs" / "aws.md").read_text().partition("## What a million replies cost")
    *rows, total = re.findall(r"^\| (.+?) \|.*\| \**([\d.]+)\** \|$", table, re.M)
    assert total[0] == "**sum**"
    assert sum(round(100 * float(price)) for _, price in rows) == round(100 * float(total[1]))
    measured = sum(
        sum("MetricStat" in metric for metric in alarm.get("Metrics", ())) or 1
        for alarm in resources("AWS::CloudWatch::Alarm").values()
    )
    assert f"| alarms | {measured} metrics × $0.10 | {measured / 10:.2f} |" in table
    counted = len(resources("AWS::Logs::MetricFilter"))
    assert f"| counts of logged errors | {counted} metrics × $0.30 | {counted * 0.3:.2f} |" in table
