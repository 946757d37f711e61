"""What other libraries tell of their insides is kept from the terminal: for the command line, the page and the processes that
they start. Importing Monju changes nothing in another library."""

import os
import sys
import warnings


def quiet():
    """Let transformers and the hub report errors alone, with no progress bars, in this process and in those that it starts."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # "classifier.weight MISSING" is what fine-tuning means
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:  # it has read them already
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)  # between peft and transformers
