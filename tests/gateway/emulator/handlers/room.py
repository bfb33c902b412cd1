"""Lambda handlers that the tests of the emulator run. They know nothing of it."""
# ruff: noqa: T201 - what is printed is what the tests see

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

calls = 0


def seen(event, context):
    print(json.dumps(event))
    return {"statusCode": 200}


def refuse(event, context):
    return {"statusCode": int(event["queryStringParameters"]["status"])}


def welcome(event, context):
    return {"statusCode": 200, "headers": {"sec-websocket-protocol": "chat.v2"}}


def fail(event, context):
    raise ValueError("a detail")


def nothing(event, context):
    return None


def not_json(event, context):
    return {"statusCode": 200, "body": object()}


def give_back(event, context):
    return event


def large(event, context):
    return "x" * event["bytes"]


def upper(event, context):
    return {"statusCode": 200, "body": event["body"].upper()}


def describe(event, context):
    """Answer with what the process knows of itself."""
    global calls
    calls += 1
    return {
        "process": os.getpid(),
        "calls": calls,
        "folder": str(Path.cwd()),
        "variables": dict(os.environ),
        "name": context.function_name,
        "arn": context.invoked_function_arn,
        "request_id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "modules": sorted(sys.modules),
    }


def meet(event, context):
    """Wait until other invocations are here too, which they can be in other processes only."""
    body = json.loads(event["body"])
    folder = Path(os.environ["FOLDER"])
    (folder / body["name"]).touch()
    until = time.monotonic() + 20
    while len(list(folder.iterdir())) < body["of"]:
        assert time.monotonic() < until, "nobody came"
        time.sleep(0.005)
    return {"statusCode": 200, "body": body["name"]}


def hang(event, context):
    print("hanging")
    time.sleep(600)


def hang_with_child(event, context):
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
    time.sleep(600)


def wait_for_file(event, context):
    """Work on until a file is there, then leave another one."""
    folder = Path(os.environ["FOLDER"])
    print("waiting")
    while not (folder / "go").exists():
        time.sleep(0.005)
    (folder / "went").touch()
    return {"statusCode": 200}


def leave(event, context):
    sys.exit(3)


def leave_child(event, context):
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
    sys.exit(3)


def crash(event, context):
    os.kill(os.getpid(), signal.SIGSEGV)


def background(event, context):
    """Begin something in a thread, which goes on only while an invocation runs."""

    def tick():
        while True:
            with (Path(os.environ["FOLDER"]) / "ticks").open("a") as file:
                file.write(".")
            time.sleep(0.001)

    if event.get("begin"):
        threading.Thread(target=tick, daemon=True).start()
    time.sleep(0.1)


def post_back(event, context):
    """Post to the connection of the event, without any SDK, and print the status."""
    of = event["requestContext"]
    host, _, port = of["domainName"].partition(":")
    kind = HTTPSConnection if event.get("body") == "securely" else HTTPConnection
    connection = kind(host, int(port), timeout=10)
    scope = "AKID/20260101/us-east-1/execute-api/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"
    connection.request(
        "POST",
        f"/{of['stage']}/@connections/{of['connectionId'].replace('=', '%3D')}",
        b"from inside",
        {"Authorization": signature},
    )
    response = connection.getresponse()
    response.read()
    connection.close()
    print(response.status)
    return {"statusCode": 200}


def by_turns(event, context):
    """Fail until so many have tried."""
    attempts = Path(os.environ["FOLDER"]) / "attempts"
    with attempts.open("a") as file:
        file.write(f"{context.aws_request_id}\n")
    print(json.dumps(event))
    count = len(attempts.read_text().splitlines())
    if count < int(os.environ["ATTEMPTS"]):
        raise RuntimeError(f"attempt {count}")
    return {"attempts": count}


def some_of_a_batch(event, context):
    """Deal with the records but for those whose body says `later`, the first time they come."""
    print(json.dumps(event))
    failed = [
        {"itemIdentifier": record["messageId"]}
        for record in event["Records"]
        if "later" in record["body"] and record["attributes"]["ApproximateReceiveCount"] == "1"
    ]
    return {"batchItemFailures": failed}
