"""The errors rcodec raises on purpose. A leaf module: every package may import it."""

from __future__ import annotations


class RcodecError(ValueError):
    """Base of every error that rcodec raises on purpose."""


class UsageError(RcodecError):
    """Bad user input; the message says what was expected and what was given."""


class BudgetError(UsageError):
    """A budget in bytes below the smallest file of a picture."""


class StorageError(RcodecError):
    """A disk that is full or went away in the middle of a run; the same again may go well."""


class BundleError(RcodecError):
    """A model bundle that is missing, damaged or unusable."""


class WeightsError(RcodecError):
    """A folder of weights that is missing, damaged or unusable."""


class BitstreamError(RcodecError):
    """A file that cannot be decoded.

    Attributes:
      offset: byte position in the file (or section) where the fault was found, None if unknown;
        always known of a file that was read as a whole.
      reason: the message without the offset.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.reason = message
        self.offset = offset

    def in_section(self, start: int) -> BitstreamError:
        """The same error, its offset counted from the start of the file.

        Args:
          start: where in the file the section begins that `offset` counts from; it is also the
            offset of an error that had none.
        """
        return type(self)(self.reason, offset=start + (self.offset or 0))


class TruncatedError(BitstreamError):
    """The data ends before the structure it declares."""


class ChecksumError(BitstreamError):
    """A CRC does not match: the data were changed or cut after they were written."""


class UnsupportedVersionError(BitstreamError):
    """Not an rcodec file, or a format version this release does not read."""


class LimitError(BitstreamError):
    """A declared size is above the limits the caller set."""


class DigestError(BitstreamError):
    """The file was made with another model."""


class CorruptPayloadError(BitstreamError):
    """The entropy coded payload contradicts itself."""
