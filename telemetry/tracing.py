"""Traces across client and server, by OpenTelemetry: where that is missing or not set up, nothing happens.

Source: W3C Trace Context, level 1, for what travels: the one header `traceparent`, two random numbers and a
flag. Neither `tracestate` nor baggage is sent or read, because both may hold any text.

A span has a name, a session id, counts, and the kind of the error that ended it. Texts of errors are never
recorded. A program that embeds the client and has set OpenTelemetry up sees these spans among its own; our
own programs set it up where the environment asks for it (`traces_exported`).

Not protected against: an advertiser that has its trace recorded by the platform: a client decides whether
its trace is sampled, and can see from nothing whether anybody records it.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from purposematch.protocol.errors import ConfigurationError, PurposematchError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

try:
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError:
    _PROPAGATOR = None
else:
    _PROPAGATOR = TraceContextTextMapPropagator()

__all__ = ["EXPORTER_VARIABLE", "ServedCall", "propagation", "span", "traces_exported"]

EXPORTER_VARIABLE: Final = "OTEL_TRACES_EXPORTER"
"""OpenTelemetry's own variable: `otlp`, `console` (on stderr), or `none`, which an unset one means, too."""

_HEADER: Final = "traceparent"
_TRACER: Final = "purposematch"

Value = str | int | bool


@contextmanager
def span(name: str, **attributes: Value) -> Iterator[None]:
    """Records how long the body takes, within the span that is current; an error by its kind.

    Args:
        name: what is done; never anything of anybody's.
        attributes: counts and session ids.
    """
    if _PROPAGATOR is None:
        yield
        return
    # What an exception says, and where, could hold anything.
    with trace.get_tracer(_TRACER).start_as_current_span(
        name, attributes=_named(attributes), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except BaseException as error:
            _fail(current, error)
            raise


def propagation() -> tuple[tuple[str, str], ...]:
    """What a call sends along of the current span, as metadata; empty where nothing is recorded."""
    if _PROPAGATOR is None:
        return ()
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return ((_HEADER, carrier[_HEADER]),) if _HEADER in carrier else ()


class ServedCall:
    """One call as the server sees it: a span that a client's may be the parent of.

    It is current for the rest of the task that a call is served in, and for the tasks made there.

    Args:
        name: of the method.
        metadata: what came with the call, of which one header is read.
    """

    def __init__(self, name: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        self._span: Any = None
        if _PROPAGATOR is None:
            return
        sent = {key: value for key, value in metadata if key == _HEADER and isinstance(value, str)}
        parent = _PROPAGATOR.extract(sent, context.Context())
        self._span = trace.get_tracer(_TRACER).start_span(name, parent, trace.SpanKind.SERVER)
        # The task ends with the call, and its context with it. A generator that is closed from elsewhere
        # could not detach what it attached here.
        context.attach(trace.set_span_in_context(self._span))

    def note(self, **attributes: Value) -> None:
        """Adds what is known by now."""
        if self._span is not None:
            self._span.set_attributes(_named(attributes))

    def end(self, error: BaseException | None = None) -> None:
        """Ends the span, by an error or well."""
        if self._span is not None:
            if error is not None:
                _fail(self._span, error)
            self._span.end()


@contextmanager
def traces_exported(service: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Sets tracing up for a program while the body runs, where the environment asks for it.

    Args:
        service: the name of the program, unless OTEL_SERVICE_NAME gives another.
        environ: the environment; OTEL_EXPORTER_OTLP_ENDPOINT says where `otlp` sends to, see OpenTelemetry.

    Raises:
        ConfigurationError: the exporter is not known, or is not installed.
    """
    kind = environ.get(EXPORTER_VARIABLE, "none") or "none"
    if kind == "none":
        yield
        return
    if kind not in ("otlp", "console"):
        raise ConfigurationError(f"{EXPORTER_VARIABLE} must be otlp, console or none")
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        processor = _processor(kind)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{EXPORTER_VARIABLE} is set, and {error.name} is missing: run pip install 'purposematch[traces]'"
        ) from None
    resource = Resource.create({} if environ.get("OTEL_SERVICE_NAME") else {"service.name": service})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def _processor(kind: str) -> "SpanProcessor":
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    if kind == "console":
        return SimpleSpanProcessor(
            ConsoleSpanExporter(out=sys.stderr, formatter=lambda each: each.to_json(indent=None) + "\n")
        )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporter: SpanExporter = OTLPSpanExporter()
    return BatchSpanProcessor(exporter)


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {f"purposematch.{name}": value for name, value in attributes.items()}


def _fail(current: Any, error: BaseException) -> None:
    """The kind of an error: its class, where that is one of ours or of Python's own."""
    kind = type(error)
    known = isinstance(error, PurposematchError) or kind.__module__ in ("builtins", "asyncio.exceptions")
    current.set_attribute("error.type", kind.__name__ if known else "other")
    current.set_status(trace.StatusCode.ERROR)
