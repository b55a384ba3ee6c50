"""What a network puts between this machine and a server: a proxy, or an authority of its own."""

from __future__ import annotations

import os

from schemas.errors import ConfigError
from tasks.engine.redaction import without_secrets

PROXY_VARIABLES = ("all_proxy", "http_proxy", "https_proxy")
NO_TRUST = "CERTIFICATE_VERIFY_FAILED"
"""Of OpenSSL, in the text of each library's error."""


def check_proxies() -> None:
    """Check that the proxies of the environment can be used.

    The HTTP client of Prefect and of the Hub reads all of them at its start, also those of other servers.

    Raises:
        ConfigError: One has a scheme, a port or a form that the client cannot use, or a package is missing.
    """
    chosen = {name: value for name, value in os.environ.items() if name.lower() in PROXY_VARIABLES}
    if not any(chosen.values()):
        return
    import httpx

    try:
        httpx.Client(verify=False).close()  # noqa: S501 - it sends nothing
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        is_package = isinstance(error, ImportError)
        names = " and ".join(sorted(name for name, value in chosen.items() if value))
        raise ConfigError(
            "a proxy of the environment cannot be used",
            where=names,
            expected="http://host:port, https://host:port or socks5://host:port",
            got=without_secrets(str(error).split(". ")[0]),
            fix="pip install 'httpx[socks]' 'requests[socks]', or unset the variable"
            if is_package
            else f"correct {names} (socks5:// in place of socks://), or unset it",
        ) from error


def is_untrusted(text: str) -> bool:
    """Return whether an error says that no known authority signed the certificate of a server."""
    return NO_TRUST in text
