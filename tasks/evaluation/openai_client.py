"""Ask an OpenAI-compatible service: in parallel, again where that can help, loopback without a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from multiprocessing import TimeoutError as NothingYet
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from schemas.errors import ConfigError, ServiceUnreachable
from tasks.engine.redaction import without_secrets

if TYPE_CHECKING:
    from requests import Session

PARALLEL_REQUESTS = 8
RETRIES = 4
"""After 0, 1, 2 and 4 seconds, or after the time in the service's `Retry-After`."""
BACKOFF_SECONDS = 0.5
LONGEST_RETRY_AFTER_SECONDS = 60
RETRIED_STATUS = frozenset({408, 409, 429, *range(500, 600)})
WAKE_SECONDS = 1.0
"""So often the waiting thread wakes, since nothing else interrupts it outside the main thread."""
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Service:
    """Where a service is, and how messages name it."""

    name: str
    """Subject of messages, such as "the judge"."""
    setting: str
    """Section of the configuration."""
    url: str
    """Base address, ending with /v1."""
    timeout_seconds: float
    api_key: str = ""
    parallel_requests: int = PARALLEL_REQUESTS
    fix: str = "check the address and the service"

    @property
    def is_local(self) -> bool:
        """Return whether the service is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    finish_reason: str
    n_prompt_tokens: int | None
    """As the service counted them, if it did."""
    n_tokens: int | None


class Client:
    """Sends requests to one service; made by `open_client`."""

    def __init__(self, service: Service, session: Session) -> None:
        """Keep the service and a session with its retries."""
        self.service = service
        self._session = session

    def ask_all(
        self,
        path: str,
        bodies: Sequence[Mapping[str, Any]],
        take: Callable[[int, Reply], None],
    ) -> None:
        """Send many requests, some at a time; the first error ends it.

        Args:
            path: /chat/completions or /completions.
            bodies: The JSON of each request.
            take: Gets the number of a request and its reply, in the order of arrival.
        """
        n_threads = min(self.service.parallel_requests, len(bodies)) or 1
        # Threads of this pool are daemons: an error or Ctrl-C does not wait for open requests.
        with ThreadPool(n_threads) as pool:
            replies = pool.imap_unordered(
                lambda numbered: (numbered[0], self.ask(path, numbered[1])), enumerate(bodies)
            )
            for _ in bodies:
                take(*_next(replies))

    def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Send one request.

        Args:
            path: /chat/completions or /completions.
            body: Its JSON.

        Returns:
            The reply.

        Raises:
            ServiceUnreachable: There is no reply after all retries, or it cannot be read.
            ConfigError: The service rejects the request.
        """
        import requests

        service = self.service
        address = f"{service.url}{path}"
        where = f"{service.setting}, {without_secrets(address)}"
        try:
            answer = self._session.post(address, json=body, timeout=service.timeout_seconds)
        except requests.RequestException as error:
            raise self._unanswered(where, f"{type(error).__name__}: {error}") from error
        text = " ".join(answer.text.split())[:SHOWN_CHARACTERS]
        if answer.ok:
            try:
                return _read(answer.json())
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                raise self._unanswered(where, f"no completion: {text}") from error
        got = f"HTTP {answer.status_code}: {text}"
        if answer.status_code in RETRIED_STATUS:
            raise self._unanswered(where, got)
        raise ConfigError(
            f"{service.name} rejects the request",
            where=where,
            expected=f"an OpenAI-compatible service that has {path} and the model",
            got=got,
            fix=service.fix,
        )

    def _unanswered(self, where: str, got: str) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"{self.service.name} does not answer",
            where=where,
            expected="a completion of an OpenAI-compatible service",
            got=got,
            fix=self.service.fix,
        )


@contextmanager
def open_client(service: Service) -> Iterator[Client]:
    """Open connections to a service, and close them when the block ends.

    Args:
        service: The service.

    Yields:
        Its client.
    """
    import requests

    with requests.Session() as session:
        session.trust_env = not service.is_local
        if service.api_key:
            session.headers["Authorization"] = f"Bearer {service.api_key}"
        for scheme in ("http://", "https://"):
            session.mount(scheme, _adapter(service.parallel_requests))
        yield Client(service, session)


def _adapter(n_connections: int) -> Any:
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retries = Retry(
        total=RETRIES,
        read=1,  # a request that ran into its time limit would only run into it again
        status_forcelist=RETRIED_STATUS,
        allowed_methods=None,
        backoff_factor=BACKOFF_SECONDS,
        retry_after_max=LONGEST_RETRY_AFTER_SECONDS,
        raise_on_status=False,
    )
    return HTTPAdapter(pool_maxsize=n_connections, max_retries=retries)


def _next(replies: Any) -> tuple[int, Reply]:
    while True:
        try:
            return replies.next(timeout=WAKE_SECONDS)
        except NothingYet:
            continue


def _read(document: Any) -> Reply:
    """Read the first choice of a completion or a chat completion."""
    choice, usage = document["choices"][0], document.get("usage") or {}
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return Reply(
        text=str(text or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        n_prompt_tokens=usage.get("prompt_tokens"),
        n_tokens=usage.get("completion_tokens"),
    )
