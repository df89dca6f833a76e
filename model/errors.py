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
