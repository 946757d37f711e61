"""Who the owner is, and the one check that stands inside every handler which changes something.

    on one's own machine              everyone is the owner
    MONJU_OWNER_SECRET                whoever gives the secret, until the page is closed
    a Space with sign-in              its author; of an organisation, members with the role admin or write
    ZeroGPU                           nobody: training does not belong there
    public with none of these         nobody, unless --open-to-all (MONJU_OPEN=1) makes it everyone

A visitor is known by the page's session, which the request guard has bound to his cookie, and by the signed
cookie of Hugging Face's sign-in. Both are looked at here, at the server: what the page hides is a courtesy.
What comes from a page of another site does not reach this: the request guard refuses it.
"""

import hmac
import inspect
import ipaddress
import os
import time

import gradio as gr

from monju.ui.i18n import translator
from monju.ui.i18n.translator import I18N
from monju.ui.page import QUIET
from monju.ui.server.rate_limit import RateLimit
from monju.ui.server.visitors import network

ROLES = ("admin", "write")  # in the organisation that a Space belongs to
AGE_S = 12 * 3600  # after which the secret must be given again


class Owner:
    """Who may change things, as the environment says: everyone, a secret's holder, the author, or nobody."""

    def __init__(self, environment=os.environ, public=False, open_to_all=False):
        self.zero = environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
        self.secret = environment.get("MONJU_OWNER_SECRET", "").strip()
        # outside a Space, Gradio's sign-in is a mock that lets anyone in
        space = environment.get("SYSTEM") == "spaces" and environment.get("SPACE_ID")
        self.author = environment.get("SPACE_AUTHOR_NAME",
                                      "") if space and environment.get("OAUTH_CLIENT_ID") else ""
        named = self.secret or self.author
        self.open = not self.zero and (open_to_all or environment.get("MONJU_OPEN") == "1")
        self.everyone = self.open or not (self.zero or named or public or environment.get("SPACE_ID"))
        self.reason = ("o_zero" if self.zero else "o_both" if self.secret and self.author else "o_secret"
                       if self.secret
                       else "o_login" if self.author else "o_closed")
        self._sessions = {}  # the pages in which the secret was given, and when
        self._each, self._all = RateLimit(5, 5 / 60), RateLimit(30, 30 / 60)  # attempts

    def is_(self, request, profile=None):
        """Return whether a request is the owner's.

        `profile` is what Hugging Face says of who has signed in, or None.
        """
        if self.zero:
            return False
        given = self._sessions.get(request.session_hash, -float("inf"))
        return self.everyone or time.monotonic() - given < AGE_S or bool(
            self.author) and wrote(profile, self.author)

    def refusal(self, request, profile=None):
        """Why a request may change nothing, as a key of the texts; None where it may."""
        return None if self.is_(request, profile) else self.reason

    def left(self, session):
        """Forget a session whose page was closed."""
        self._sessions.pop(session, None)

    def only(self, act, otherwise=None):
        """Return the handler act(request, *values) for the owner alone.

        Whoever else calls it, past the page too, is told why not, or answered `otherwise` if that is given.
        """
        def check(request, profile):
            if refusal := self.refusal(request, profile):
                raise gr.Error(translator.asked(request)(refusal), print_exception=False)

        if inspect.isgeneratorfunction(act):
            def wired(request: gr.Request, profile: gr.OAuthProfile | None, *values):
                check(request, profile)
                yield from act(request, *values)
        else:
            def wired(request: gr.Request, profile: gr.OAuthProfile | None, *values):
                if otherwise is not None and not self.is_(request, profile):
                    return otherwise
                check(request, profile)
                return act(request, *values)
        wired.owners = otherwise is None  # what the tests count
        return wired

    def enter(self, given, request):
        """Take the request's page for the owner's if it gives the secret.

        Returns a key of the texts that says what came of it.
        """
        right = bool(self.secret and request.session_hash) and hmac.compare_digest(
            (given or "").encode("utf-8", "replace"), self.secret.encode())
        # the right secret is taken whatever others guess: a long one needs no lock
        if not right:
            who = network(request.client.host) or "here"
            return "o_wrong" if self._each.allows(who) and self._all.allows("all") else "o_wait"
        self._sessions[request.session_hash] = time.monotonic()
        return "o_welcome"

    def door(self, blocks):
        """Lay out what a visitor is told and the way in.

        Returns wire(parts): these are shown to the owner alone.
        """
        if self.everyone:
            return lambda parts: None
        with gr.Column(elem_id="door") as door:
            gr.Markdown(I18N(self.reason), elem_id="why-closed")
            with gr.Row(equal_height=True):
                if self.author and not self.zero:
                    gr.LoginButton(I18N("o_sign_in"), scale=0, min_width=260, elem_id="sign-in")
                if self.secret and not self.zero:
                    given = gr.Textbox(label=I18N("o_label"), type="password", elem_id="secret", max_lines=1)
                    enter = gr.Button(I18N("o_enter"), variant="primary", scale=0, min_width=180,
                                      elem_id="enter")

        def wire(parts):
            def shown(owner):
                return [gr.update(visible=not owner), *[gr.update(visible=owner)] * len(parts)]

            def arrive(request: gr.Request, profile: gr.OAuthProfile | None):
                return shown(self.is_(request, profile))

            def try_secret(given, request: gr.Request):
                t, told = translator.asked(request), self.enter(given, request)
                if told != "o_welcome":
                    raise gr.Error(t(told), print_exception=False)
                gr.Info(t(told), duration=6)
                return ["", *shown(True)]

            blocks.load(arrive, None, [door, *parts], **QUIET)
            if self.secret and not self.zero:
                gr.on([enter.click, given.submit], try_secret, given, [given, door, *parts], **QUIET)

        return wire


def wrote(profile, author):
    """Return whether a profile is the author's, or a writing member's of the organisation of that name."""
    if not profile:
        return False
    names = [profile.get("preferred_username")]
    names += [org.get("preferred_username") for org in profile.get("orgs") or []
              if org.get("roleInOrg") in ROLES]
    return author.lower() in [name.lower() for name in names if name]


def is_public(server_name=None, share=False, environment=os.environ):
    """Whether others than this machine's users can reach a page that is served so."""
    host = server_name or environment.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    try:
        local = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        local = False
    return bool(share) or environment.get("GRADIO_SHARE", "").lower() == "true" or not local
