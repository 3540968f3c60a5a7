"""Messages of set exchanges on the wire as values of the protocol; the platform's side.

Not protected against: nothing is verified here but lengths and ranges.
"""

from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.v1 import set_matching_pb2 as pb

__all__ = ["parse_own", "parse_returned"]


def parse_own(message: pb.SendElementsRequest) -> OwnBatch:
    """One batch of own elements.

    Raises:
        DecodeError: the elements are not whole.
        LimitError: the number or the count of elements is out of range.
    """
    return OwnBatch.decode(message.batch_number, message.exponent, message.elements)


def parse_returned(message: pb.ReturnPointsRequest) -> ReturnedBatch:
    """One batch of returned points.

    Raises:
        DecodeError: the elements are not whole, or the proof is malformed.
        LimitError: the number or the count of elements is out of range.
    """
    return ReturnedBatch.decode(message.batch_number, message.elements, message.proof)
