"""Removes passwords from addresses, before they are printed, logged or passed to another program."""

from __future__ import annotations

import re

HIDDEN = "***"
# Greedy up to the last @ before a slash, a space or a quote: a password may hold an @ of its own.
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^\s/'\"<>]+)@")


def without_secrets(text: str) -> str:
    """The text, with user and password of every address in it replaced by `***`.

    >>> without_secrets("at postgresql://me:pw@db/runs")
    'at postgresql://***@db/runs'
    """
    return _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)


def without_credentials(address: str) -> str:
    """An address that others use with their own credentials.

    An `http(s)://` address loses user and password. Any other loses its password only: `ssh://git@host` needs its user.

    >>> without_credentials("https://token@host/a.git"), without_credentials("ssh://git:pw@host/a.git")
    ('https://host/a.git', 'ssh://git@host/a.git')
    """

    def cut(found: re.Match[str]) -> str:
        if found["scheme"].lower() in ("http://", "https://"):
            return found["scheme"]
        return f"{found['scheme']}{found['user'].partition(':')[0]}@"

    return _USERINFO.sub(cut, address)
