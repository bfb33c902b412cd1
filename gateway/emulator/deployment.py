"""What is deployed: functions, the routes that lead to them, and the queues that feed them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONNECT: Final = "$connect"
DISCONNECT: Final = "$disconnect"
DEFAULT: Final = "$default"


class DeploymentError(ValueError):
    """What is to be deployed does not fit together; the text is one line for whoever described it."""


class HandlerAbsentError(DeploymentError):
    """A handler's module cannot be imported, or has no such function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A Lambda function.

    Attributes:
        handler: `package.module:function`, or with a dot instead of the colon, as Lambda writes it.
        environment: variables of its processes, over what the emulator sets. `{connections_url}`,
            `{lambda_url}` and `{url}` in a value become the emulator's.
        timeout_s: an invocation that takes longer is killed. Lambda's default is 3 s.
        memory_mb: what the context says; nothing holds it to that.
        concurrency: how many invocations may run at a time; 0 for the default of the limits.
        retries: MaximumRetryAttempts of asynchronous invocations.
        event_age_s: MaximumEventAgeInSeconds of those.
        on_failure: the queue that gets a record of those that failed for good; empty for none.
    """

    handler: str
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    memory_mb: int = 128
    concurrency: int = 0
    retries: int = 2
    event_age_s: float = 21_600.0
    on_failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue of SQS with one consumer.

    Attributes:
        consumer: the function that gets its messages, as an event source mapping hands them over.
        batch_size: most messages of one event.
        visibility_s: a message that was not dealt with comes again after so long.
        max_receives: a message that came so often is put with the dead letters; 0 for no such end.
        reports_failures: whether `batchItemFailures` in the function's answer counts; if not, an answer
            settles the whole batch.
    """

    consumer: str
    batch_size: int = 10
    visibility_s: float = 30.0
    max_receives: int = 0
    reports_failures: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A stage of a WebSocket API and what stands behind it.

    Attributes:
        functions: by name.
        routes: function names by route key. A key without function is no route: without `$connect`
            everybody is let in, without `$default` what no other route takes is answered `Forbidden`.
        queues: by name.
        responses: keys of the routes that have a route response, whose functions' bodies are sent.
        route_selection: the RouteSelectionExpression.
        stage: the path of the API.
        binary_frames: whether binary frames of clients reach the function, as Base64. API Gateway closes
            the connection with 1003 ("Binary media types for WebSocket APIs").
        region: of everything.
        account_id: in ARNs.
    """

    functions: Mapping[str, Function]
    routes: Mapping[str, str]
    queues: Mapping[str, Queue] = field(default_factory=dict)
    responses: frozenset[str] = frozenset()
    route_selection: str = "$request.body.action"
    stage: str = "dev"
    binary_frames: bool = False
    region: str = "us-east-1"
    account_id: str = "123456789012"

    def __post_init__(self) -> None:
        named = {
            **{f"route {key}": name for key, name in self.routes.items()},
            **{f"queue {name}": queue.consumer for name, queue in self.queues.items()},
        }
        for whose, name in named.items():
            if name not in self.functions:
                raise DeploymentError(f"{whose}: there is no function {name!r}")
        for name, function in self.functions.items():
            if function.on_failure and function.on_failure not in self.queues:
                raise DeploymentError(f"function {name}: there is no queue {function.on_failure!r}")
        if missing := self.responses - self.routes.keys():
            raise DeploymentError(f"there is no route {min(missing)!r} to respond")

    def function_arn(self, name: str) -> str:
        """Return the ARN of a function."""
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{name}"

    def queue_arn(self, name: str) -> str:
        """Return the ARN of a queue."""
        return f"arn:aws:sqs:{self.region}:{self.account_id}:{name}"
