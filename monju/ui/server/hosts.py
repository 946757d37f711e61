"""The names under which the page is served, and from which pages a browser may act on it.

`X-Forwarded-Host` is never believed: any script may set it. A browser sets `Host` itself, and only to a name
that leads here, so that a name which is not the page's (DNS rebinding) shows itself.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

SPACES = "https://huggingface.co https://*.hf.space"  # what frames a Space's page


class Hosts:
    """What `SPACE_HOST` and `MONJU_HOSTS` (names, separated by commas) say, beside loopback and IP addresses.

    Parameters
    ----------
    environment : mapping of str to str
        The environment variables.
    shared : bool
        Whether the page also has one of Gradio's public links.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, shared: bool = False):
        named = f"{environment.get('SPACE_HOST', '')},{environment.get('MONJU_HOSTS', '')}".lower().split(",")
        self.named = {name.strip() for name in named} - {""}
        self.shared = shared
        self.ancestors = f"'self' {SPACES}" if environment.get("SPACE_ID") else "'self'"

    def serves(self, host: str) -> bool:
        """Return whether a request's Host is a name of this page; an IP address cannot be rebound."""
        name = urlsplit(f"//{host}").hostname or ""
        if {host.lower(), name} & self.named or name == "localhost":
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return self.shared and name.endswith((".gradio.live", ".gradio.app"))
        return True

    def may_act(self, origin: str | None, host: str) -> bool:
        """Return whether a page of this origin may post to this page; what is no browser sends no origin."""
        if origin is None:
            return True
        there = urlsplit(origin)
        netloc = there.netloc.lower()
        return netloc == host.lower() or bool({netloc, there.hostname} & self.named)
