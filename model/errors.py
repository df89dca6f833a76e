"""What can go wrong with a model, as seen by a user.

Every message says what is wrong, where, and what to do.
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of the errors below."""


class CheckpointError(ModelError):
    """A checkpoint is missing, incomplete, damaged or of an unsupported kind."""


class PromptTooLongError(ModelError):
    """Prompt and requested tokens do not fit the model's context."""


class RemoteError(ModelError):
    """A remote server cannot be used. `status` is its HTTP status, 0 when it gave none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Interrupted(Exception):  # noqa: N818  nothing is wrong
    """A forward pass ended early, since nobody wants what comes of it."""
