"""Quiet libraries, for the command line, the web app and their child processes.

Importing Monju itself changes nothing in another library.
"""

import os
import sys
import warnings


def quiet() -> None:
    """Silence warnings and progress bars of transformers and the hub, here and in child processes."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # a new head is "MISSING"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:  # it has read them already
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
    # between peft and transformers
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
