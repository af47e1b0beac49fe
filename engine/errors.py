"""The exceptions of the engine, in one tree; knows nothing else of it.

    EngineError             whatever the engine refuses: a device, a sampling parameter
    ├── FormatError         a file that is not what it should be
    ├── TensorError         a tensor that is missing, empty, misshapen or of an unsupported type
    ├── PromptError         token ids or text that the model cannot take
    ├── TemplateError       a chat template that is missing or fails
    └── RequestError        an HTTP request that the server refuses

Every message names what was found, what was expected, and where.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class EngineError(Exception):
    """Root of the tree: catch this to catch all."""


class FormatError(EngineError):
    """A file cannot be read, or lacks or contradicts what its architecture needs."""


class TensorError(EngineError):
    """A tensor is missing, empty, of the wrong shape or of an unsupported type."""


class PromptError(EngineError):
    """A prompt is empty, too long, outside the vocabulary, or overflows the KV cache."""


class TemplateError(EngineError):
    """A chat template is missing, does not compile, or fails on these messages."""


class RequestError(EngineError):
    """A request is refused; carries what OpenAI's error object needs.

    `status` is the HTTP status, `param` the offending field, `code` a fixed word for programs.
    """

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Put `where`, the file, in front of what a FormatError or TensorError says."""
    try:
        yield
    except (FormatError, TensorError) as error:
        raise type(error)(f"{where}: {error}") from error
