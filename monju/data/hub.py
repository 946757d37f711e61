"""The Hugging Face hub: does it answer, and what of it is already on this machine."""


def answers(timeout=5.0):
    """Whether the hub can be reached just now, asked once (its own retries take half a minute); no if HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception:  # offline mode, no name, no route, no certificate: in each case it does not answer
        return False
    return True


def cached(model):
    """Whether the cache on this machine already holds the model."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "config.json"), str)
