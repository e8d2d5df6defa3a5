"""Errors that a user may meet: one sentence with what was found, where, and what to do."""


class InnervateError(Exception):
    """Base of every error that the project raises on purpose.

    Its message is shown to the user as it stands, without a traceback. `exit_code` is what the
    command line returns for it.
    """

    exit_code = 1


class ConfigError(InnervateError):
    """A pipeline file, a setting or an option that cannot work. Nothing was started."""

    exit_code = 2


class RecordingError(InnervateError):
    """A recording that cannot be read, understood or written."""


class ModelError(InnervateError):
    """A model file that is no model file of ours, or does not fit what it is linked to."""


class GraphError(InnervateError):
    """Data from which no graph of units can be estimated."""


class WireError(InnervateError):
    """Bytes on a socket that are not a packet of this project."""


class RunError(InnervateError):
    """A run that failed, or was cut short. Its report says the rest."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class MissingExtraError(InnervateError):
    """A command needs packages that an extra of this project installs."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the '{extra}' extra: pip install 'innervate[{extra}]'"
            f" (or pip install -e '.[{extra}]' in a checkout)."
        )
