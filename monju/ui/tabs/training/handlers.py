"""What every handler of the tab does with an error."""

import functools
from collections.abc import Callable

import gradio as gr

from monju.errors import MonjuError
from monju.ui.i18n import translator


def guarded(act: Callable) -> Callable:
    """The handler act(words, *values), whose errors become the page's calm words."""
    @functools.wraps(act)
    def handler(*values, request: gr.Request):
        t = translator.asked(request)
        try:
            return act(t, *values)
        except MonjuError as error:
            raise gr.Error(t("t_error", error=t.error(error)), print_exception=False) from None
        except OSError as error:
            told = error.strerror or type(error).__name__
            raise gr.Error(t("t_error", error=told), print_exception=False) from None

    def wired(request: gr.Request, *values):
        return handler(*values, request=request)

    return wired
