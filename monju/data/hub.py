"""The Hugging Face hub: whether it answers, and what of it is cached on this machine."""


def answers(timeout: float = 5.0) -> bool:
    """Return whether the hub can be reached, asked once; False if HF_HUB_OFFLINE is set.

    The hub library's own retries would take half a minute.

    Parameters
    ----------
    timeout : float
        Seconds to wait.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception:  # offline mode, no name, no route, no certificate: in each case it does not answer
        return False
    return True


def cached(model: str) -> bool:
    """Return whether the cache on this machine holds the model."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "config.json"), str)
