"""Calling the function of a route, as API Gateway's Lambda proxy integration does."""

import asyncio

import orjson

from gateway.emulator.answers import ProxyAnswer, read_answer
from gateway.emulator.deployment import Deployment
from gateway.emulator.events import Event
from gateway.emulator.invocations import Invocations
from gateway.emulator.limits import Limits


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
    """

    def __init__(self, deployment: Deployment, *, invocations: Invocations, limits: Limits) -> None:
        self._routes = deployment.routes
        self._invocations = invocations
        self._limits = limits

    async def call(self, route_key: str, event: Event) -> ProxyAnswer:
        """Hand an event to the function of a route that there is. Cancelling does not end the function.

        Raises:
            IntegrationTimeoutError: it takes too long.
            IntegrationFailedError: there is no usable answer.
        """
        task = self._invocations.spawn(
            self._invocations.run_or_fail(self._routes[route_key], orjson.dumps(event))
        )
        done, _ = await asyncio.wait({task}, timeout=self._limits.integration_s)
        if not done:
            raise IntegrationTimeoutError
        outcome = task.result()
        answer = None if outcome.error else read_answer(outcome.payload)
        if answer is None:
            raise IntegrationFailedError
        return answer
