"""Calling the function of a route, as API Gateway's Lambda proxy integration does."""

import asyncio

import orjson

from gateway.emulator.answers import ProxyAnswer, read_answer
from gateway.emulator.deployment import Deployment
from gateway.emulator.events import Event
from gateway.emulator.invocations import Invocations
from gateway.emulator.limits import Limits
from gateway.emulator.output import Output


class IntegrationTimeoutError(Exception):
    """The function runs longer than API Gateway waits. It runs on."""


class IntegrationFailedError(Exception):
    """The function failed, was throttled, or returned something that is no answer."""


class Integrations:
    """The functions behind the routes.

    Args:
        deployment: says which those are.
        invocations: invokes them; what runs on when nobody waits any more ends with it.
        limits: says how long is waited.
        output: is told why a client gets no answer, where the function itself has not said so.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        invocations: Invocations,
        limits: Limits,
        output: Output,
    ) -> None:
        self._routes = deployment.routes
        self._invocations = invocations
        self._limits = limits
        self._output = output

    async def call(self, route_key: str, event: Event) -> ProxyAnswer:
        """Hand an event to the function of a route that there is. Cancelling does not end the function.

        Raises:
            IntegrationTimeoutError: it takes too long.
            IntegrationFailedError: there is no usable answer.
        """
        name = self._routes[route_key]
        task = self._invocations.spawn(self._invocations.run_or_fail(name, orjson.dumps(event)))
        done, _ = await asyncio.wait({task}, timeout=self._limits.integration_s)
        if not done:
            self._output(name, "Endpoint request timed out; the function runs on")
            raise IntegrationTimeoutError
        outcome = task.result()
        if outcome.error:
            raise IntegrationFailedError
        answer = read_answer(outcome.payload)
        if answer is None:
            self._output(name, "Malformed Lambda proxy response: no object with a statusCode")
            raise IntegrationFailedError
        return answer
