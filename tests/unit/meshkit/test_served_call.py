"""What is decided of a call before its handler is asked."""

import pytest
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from meshkit.errors import DeadlineExceeded
from meshkit.incoming import current_call
from meshkit.rpc_metrics import RpcMetrics
from meshkit.served_call import CallSite, ServedCall
from meshkit.settings import IdentitySettings

METHOD = "/mesh.cache.v1.CacheService/Lookup"


class Context:
    """As much of gRPC's context as opening a call needs."""

    def __init__(self, remaining_s):
        self._remaining_s = remaining_s

    def invocation_metadata(self):
        return ()

    def auth_context(self):
        return {}

    def time_remaining(self):
        return self._remaining_s


def served(remaining_s) -> ServedCall:
    site = CallSite(tracer=NoOpTracer(), identity=IdentitySettings(), method=METHOD)
    return ServedCall(site, RpcMetrics(CollectorRegistry()).of(METHOD), Context(remaining_s))  # type: ignore[arg-type]


@pytest.mark.parametrize("remaining_s", [0.0, -1.0])
async def test_a_deadline_that_had_passed_on_arrival_refuses_the_call(remaining_s):
    with pytest.raises(DeadlineExceeded, match="on arrival"):
        served(remaining_s).open()


@pytest.mark.parametrize("remaining_s", [None, 5.0])
async def test_a_call_with_time_left_is_opened(remaining_s):
    served(remaining_s).open()
    call = current_call()
    assert call.method == METHOD
    assert (call.remaining_s() is None) == (remaining_s is None)
