"""The Hugging Face hub: whether it answers, and what of it is cached on this machine."""

from pathlib import Path


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
    """Return whether the cache on this machine holds the model: a download cut short does not count."""
    from huggingface_hub import try_to_load_from_cache

    weights = ("model.safetensors", "model.safetensors.index.json")
    return all(any(isinstance(try_to_load_from_cache(model, name), str) for name in names)
               for names in (("config.json",), weights))


def model_folder(model: str) -> Path:
    """Return the folder in which the hub's library keeps a model."""
    from huggingface_hub import constants, file_download

    return Path(constants.HF_HUB_CACHE) / file_download.repo_folder_name(repo_id=model, repo_type="model")


def dataset_folder(name: str) -> Path:
    """Return the folder in which the library `datasets` keeps a data set of the hub."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")
