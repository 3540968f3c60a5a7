"""What both sides show of their work while it runs: traces."""

from purposematch.telemetry.tracing import (
    EXPORTER_VARIABLE,
    ServedCall,
    propagation,
    span,
    traces_exported,
)

__all__ = ["EXPORTER_VARIABLE", "ServedCall", "propagation", "span", "traces_exported"]
