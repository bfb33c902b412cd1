"""API Gateway's WebSocket APIs and Lambda on this machine, for anyone's Python handlers.

`emulator` is where to begin; docs/emulator.md explains it. Nothing here knows the rest of the gateway.
"""

from gateway.emulator.chaos import Chaos, Fault
from gateway.emulator.deployment import (
    Deployment,
    DeploymentError,
    Function,
    HandlerAbsentError,
    Queue,
)
from gateway.emulator.emulator import Emulator
from gateway.emulator.limits import Limits
from gateway.emulator.setup import emulator
from gateway.emulator.threads import Emulate, EmulatorThread

__all__ = [
    "Chaos",
    "Deployment",
    "DeploymentError",
    "Emulate",
    "Emulator",
    "EmulatorThread",
    "Fault",
    "Function",
    "HandlerAbsentError",
    "Limits",
    "Queue",
    "emulator",
]
