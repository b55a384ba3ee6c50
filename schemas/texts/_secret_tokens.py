"""Kinds of keys, tokens and passwords, each by the form that its issuer documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from schemas.texts._published import is_reserved_host

_LEAST_DISTINCT_CHARACTERS = 8
_LEAST_DISTINCT_IN_ASSIGNED = 12
_HEX_SECRET_CHARACTERS = 32
_FILLER = re.compile(r"xxxx|example|your|sample|dummy|placeholder|abcdef|123456", re.IGNORECASE)
_FILLER_PASSWORD = re.compile(
    r"passw|pwd|secret|your|user|example|changeme|^(?:pass|root|admin|test|guest|postgres|mysql"
    r"|token|my\w*|x+|\.+)$|[<>{}$*\[\]]",
    re.IGNORECASE,
)


def _is_varied(match: re.Match[str]) -> bool:
    is_sample = match.group().endswith("EXAMPLE")  # as AWS documents its keys
    return not is_sample and len(set(match.group())) >= _LEAST_DISTINCT_CHARACTERS


def _is_real_password(match: re.Match[str]) -> bool:
    host = match.groupdict().get("host") or ""
    is_own = host.startswith("127.") or is_reserved_host(host)
    return not is_own and not _FILLER_PASSWORD.search(match["password"])


def _is_random_value(match: re.Match[str]) -> bool:
    value = match["value"]
    if len(set(value)) < _LEAST_DISTINCT_IN_ASSIGNED or _FILLER.search(value):
        return False
    is_hexadecimal = re.fullmatch(rf"[0-9a-f]{{{_HEX_SECRET_CHARACTERS},}}", value) is not None
    return is_hexadecimal or all(re.search(kind, value) for kind in ("[0-9]", "[a-z]", "[A-Z]"))


@dataclass(frozen=True)
class SecretKind:
    """One kind: its pattern, a hint for the quick search, and a check that a match may be real.

    The hint is a regular expression without look-around that every text of this kind matches.
    """

    name: str
    pattern: re.Pattern[str]
    hint: str
    is_real: Callable[[re.Match[str]], bool] = _is_varied

    def is_in(self, text: str) -> bool:
        """Check whether a text contains at least one that may be real."""
        if not re.search(self.hint, text):  # most begin with fixed letters, ten times as quick
            return False
        return any(map(self.is_real, self.pattern.finditer(text)))


def _token(name: str, pattern: str, hint: str) -> SecretKind:
    """Define a token by its prefix; the characters before and after it must not belong to it."""
    return SecretKind(name, re.compile(rf"(?<![\w+-])(?:{pattern})(?!\w)", re.ASCII), hint)


TOKEN_KINDS: tuple[SecretKind, ...] = (
    # RFC 7468 and OpenPGP
    SecretKind(
        "private key",
        re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
        "PRIVATE KEY",
    ),
    # docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    _token("AWS access key", r"(?:AKIA|ASIA)[A-Z2-7]{16}", "A(?:KIA|SIA)[A-Z2-7]{16}"),
    SecretKind(
        "AWS secret key",
        re.compile(
            r"aws_?secret_?(?:access_?)?key[\"']?\s{0,9}[=:]\s{0,9}[\"']?[A-Za-z0-9/+]{40}(?![\w/+])",
            re.IGNORECASE | re.ASCII,
        ),
        "(?i:aws_?secret)",
        lambda match: not match.group().endswith("EXAMPLEKEY"),
    ),
    # github.blog/2021-04-05-behind-githubs-new-authentication-token-formats
    _token(
        "GitHub token",
        r"gh[oprsu]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        "gh[oprsu]_[A-Za-z0-9]{36}|github_pat_",
    ),
    # docs.gitlab.com/security/tokens, token prefixes
    _token(
        "GitLab token",
        r"gl(?:pat|dt|rt|ptt|cbt|ft|soat|agent)-[\w.-]{20,255}",
        "gl(?:pat|dt|rt|ptt|cbt|ft|soat|agent)-",
    ),
    # api.slack.com/authentication/token-types
    _token(
        "Slack token",
        r"xox[abceoprs]-[0-9]{1,20}-[\w-]{10,255}|xapp-[0-9]-[A-Z0-9]{8,20}-[\w-]{20,255}"
        r"|(?:https://)?hooks\.slack\.com/services/T\w{6,12}/B\w{6,12}/\w{20,30}",
        r"xox[abceoprs]-[0-9]|xapp-[0-9]-|hooks\.slack\.com/services/T",
    ),
    # docs.stripe.com/keys; test keys open nothing
    _token(
        "Stripe key",
        r"(?:sk|rk)_live_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/=]{32,255}",
        "[sr]k_live_|whsec_",
    ),
    # cloud.google.com/docs/authentication/api-keys; OAuth client secrets
    _token("Google key", r"AIza[\w-]{35}|GOCSPX-[\w-]{28}", "AIza[0-9A-Za-z_-]{35}|GOCSPX-"),
    # platform.openai.com/docs/api-reference/authentication: keys of a project, of an account, of old
    _token(
        "OpenAI key",
        r"sk-(?:proj|svcacct|admin)-[\w-]{20,250}|sk-[A-Za-z0-9]{32,64}",
        "sk-(?:proj|svcacct|admin)-|sk-[A-Za-z0-9]{32}",
    ),
    # docs.anthropic.com, API and admin keys
    _token("Anthropic key", r"sk-ant-[a-z]{2,10}[0-9]{2}-[\w-]{40,255}", "sk-ant-"),
    # huggingface.co/docs/hub/security-tokens
    _token(
        "Hugging Face token", r"(?:hf|api_org)_[A-Za-z0-9]{34,64}", "(?:hf|org)_[A-Za-z0-9]{34}"
    ),
    # docs.npmjs.com/about-access-tokens; pypi.org/help/#apitoken, a macaroon of pypi.org
    _token(
        "package registry token",
        r"npm_[A-Za-z0-9]{36}|pypi-AgE[\w-]{50,255}",
        "npm_[A-Za-z0-9]{36}|pypi-AgE",
    ),
    # docs.sendgrid.com; core.telegram.org/bots/api; docs.digitalocean.com; shopify.dev; databricks
    _token(
        "service token",
        r"SG\.[\w-]{22}\.[\w-]{43}|[0-9]{8,10}:AA[\w-]{33}|do[opr]_v1_[a-f0-9]{64}"
        r"|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dapi[a-f0-9]{32}|sk-or-v1-[a-f0-9]{64}",
        r"SG\.[0-9A-Za-z_-]{22}\.|[0-9]:AA[0-9A-Za-z_-]{33}|do[opr]_v1_|shp(?:at|ca|pa|ss)_"
        "|dapi[a-f0-9]{32}|sk-or-v1-",
    ),
    # RFC 7519: header and payload are base64url of '{"'
    SecretKind(
        "JSON web token",
        re.compile(r"(?<![\w-])eyJ[\w-]{10,4000}\.eyJ[\w-]{10,4000}\.[\w-]{20,4000}", re.ASCII),
        r"eyJ[0-9A-Za-z_-]{10}",
        # not the sample of jwt.io, whose subject is 1234567890
        lambda match: "eyJzdWIiOiIxMjM0NTY3ODkwI" not in match.group(),
    ),
    # learn.microsoft.com/azure/storage/common/storage-configure-connection-string
    SecretKind(
        "Azure key",
        re.compile(r"(?:AccountKey=[A-Za-z0-9+/]{86}==|SharedAccessKey=[A-Za-z0-9+/]{43}=)"),
        "(?:AccountKey|SharedAccessKey)=",
        # not the published key of the storage emulator
        lambda match: "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFs" not in match.group(),
    ),
    # RFC 3986, section 3.2.1
    SecretKind(
        "password in an address",
        re.compile(
            r"[a-z0-9]://[^\s:/@\"'<>]{1,64}:(?P<password>[^\s/@\"'<>]{3,100})@(?P<host>[\w.-]{1,255})"
        ),
        r"://[^\s:/@]+:[^\s/@]+@",
        _is_real_password,
    ),
    # learn.microsoft.com/dotnet/framework/data/adonet/connection-string-syntax
    SecretKind(
        "password in a connection string",
        re.compile(
            r"(?:server|data source|host)=(?P<host>[^;\n]{1,200});(?:[^;\n]{1,200};){0,8}?"
            r"\s{0,9}(?:password|pwd)=(?P<password>[^;\"'\s]{3,100})",
            re.IGNORECASE,
        ),
        "(?i:;\\s*(?:password|pwd)=)",
        _is_real_password,
    ),
    # Without a documented form: a quoted value that looks random, assigned to a name such as token.
    SecretKind(
        "assigned secret",
        re.compile(
            r"(?:api[_-]?key|secret|passwo?r?d|token)[\w-]{0,20}[\"']?\s{0,9}[:=]{1,2}>?\s{0,9}"
            r"[\"'](?P<value>[\w+/=.-]{20,200})[\"']",
            re.IGNORECASE | re.ASCII,
        ),
        r"(?i:api[_-]?key|secret|passwo?r?d|token)[0-9A-Za-z_-]{0,20}[\"']?\s{0,9}[:=]{1,2}>?\s{0,9}[\"']"
        r"[0-9A-Za-z_+/=.-]{20}",
        _is_random_value,
    ),
)
