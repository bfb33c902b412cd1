"""The functions of the template in the emulator, wired to each other as the template wires them."""

from gateway.emulator import Emulator, Function, Queue, emulator
from gateway.emulator.emulator import to_stderr
from gateway.emulator.output import Output
from tests.gateway.hosts.aws.functions import Functions
from tests.ops.examples import ROOT

VISIBILITY_S = 1.0
"""A run is sealed when its lease is over; until then its message comes again and again."""


def emulated_gateway(world: Functions, *, output: Output = to_stderr, **variables: str) -> Emulator:
    """Return an emulator of our functions, to be used with `async with`.

    Args:
        world: whose tables, bucket and issuer they use.
        output: gets what they print.
        variables: further ones for them.
    """
    host = "gateway.hosts.aws"
    return emulator(
        root=ROOT,
        connect=f"{host}.connect.handler",
        default=f"{host}.message.handler",
        disconnect=f"{host}.disconnect.handler",
        functions={
            "makoto-reply": Function(
                handler=f"{host}.reply.handler",
                timeout_s=900,
                retries=0,
                event_age_s=60,
                on_failure="failures",
            ),
            "seal": f"{host}.seal.handler",
        },
        queues={"failures": Queue(consumer="seal", batch_size=5, visibility_s=VISIBILITY_S)},
        environment={
            **world.environ,
            "AWS_ENDPOINT_URL_LAMBDA": "{lambda_url}",
            "MAKOTO_CONNECTIONS_URL": "{connections_url}",
            **variables,
        },
        route_selection="$request.body.type",
        output=output,
    )
