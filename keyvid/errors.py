"""Errors that a user can act on; the command line tools print them as one line."""


class KeyvidError(Exception):
    """Base of all errors below. The message says what was found, what was expected, what to do."""


class BundleError(KeyvidError):
    """A bundle is missing, damaged, made for another version, or lacks what was asked for."""


class EngineError(KeyvidError):
    """An engine is unknown or unavailable, refuses a graph, or was called with wrong inputs."""


class MediaError(KeyvidError):
    """A picture, sound or result file cannot be read or written."""


class SettingsError(KeyvidError):
    """An option has a value that is not allowed."""


class ProvenanceError(KeyvidError):
    """A clip cannot be signed, or what it says of its making cannot be read."""
