"""The error table: vocabulary to gRPC status with google.rpc details, and back to the same class on the caller's side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from runtime import errors

if TYPE_CHECKING:
    from google.protobuf.message import Message

TABLE: dict[type[errors.ParleyError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
"""Every class of the vocabulary and its status; a subclass is looked up by its nearest ancestor here."""

_CLASSES = {code: cls for cls, code in TABLE.items()}
_CLASSES[grpc.StatusCode.UNKNOWN] = errors.Internal
_CLASSES[grpc.StatusCode.DATA_LOSS] = errors.Internal

_PLAIN = {
    grpc.StatusCode.CANCELLED: "The call was cancelled.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "The service did not answer in time.",
    grpc.StatusCode.UNAVAILABLE: "The service is not reachable right now.",
    grpc.StatusCode.UNIMPLEMENTED: "The service does not know this call.",
}


def code_of(error: errors.ParleyError) -> grpc.StatusCode:
    """Returns the gRPC code of an error, by the nearest ancestor in the table."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def to_status(error: errors.ParleyError, *, domain: str, request_id: str) -> grpc.Status:
    """Builds the status an error travels as.

    Args:
        error: What happened.
        domain: Who says so: `<service>.parley`. An error that came from another service keeps its own.
        request_id: Put into the metadata, so that a report can be found in the logs.

    Returns: A status whose details hold one ErrorInfo and, where the error knows when to try again, one RetryInfo.
    """
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=error.domain or domain, metadata=error.metadata)
    if request_id:
        info.metadata["request_id"] = request_id
    details: list[Message] = [info]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    code = code_pb2.Code.Value(code_of(error).name)
    status: grpc.Status = rpc_status.to_status(status_pb2.Status(code=code, message=error.message, details=packed))
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> errors.ParleyError:
    """Rebuilds the error a call ended with: the same class, reason, message and metadata as the server raised.

    A status without ErrorInfo comes from the transport, whose own text is kept from callers; a traceback shows it.
    """
    cls = _CLASSES.get(error.code(), errors.Internal)
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after_s: float | None = None
    for detail in status.details if status is not None else ():
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    if not info.reason:
        plain = cls(_PLAIN.get(error.code(), "The service failed."), retry_after_s=retry_after_s)
        plain.add_note(f"The transport says: {error.details()}")
        return plain
    metadata = {key: value for key, value in info.metadata.items() if key != "request_id"}
    rebuilt = cls.of(info.reason, error.details() or "", retry_after_s=retry_after_s, **metadata)
    rebuilt.domain = info.domain
    return rebuilt
