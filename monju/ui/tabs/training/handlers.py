"""What every handler of the tab does with an error."""

import functools
from collections.abc import Callable

import gradio as gr

from monju.errors import MonjuError
from monju.ui.i18n import translator


def guarded(act: Callable) -> Callable:
    """Make a handler of act(translator, *values), whose errors the page shows in the visitor's language."""
    @functools.wraps(act)
    def handler(*values, request: gr.Request):
        t = translator.asked(request)
        try:
            return act(t, *values)
        except MonjuError as error:
            raise gr.Error(t("t_error", error=t.error(error)), print_exception=False) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise gr.Error(t("t_error", error=reason), print_exception=False) from None

    def wired(request: gr.Request, *values):
        return handler(*values, request=request)

    return wired
