"""Who trains with how many cores."""

import torch

from monju import workers


class Shop:
    """Each job reports the cores it was given."""

    def fit(self, job, device):
        yield job, torch.get_num_threads()


def test_jobs_share_the_cores_and_the_last_alone_has_them_all():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        told = dict(report for _, report in workers.run_all(Shop(), ["AB", "BC", "CA"], [torch.device("cpu")] * 2))
        even = dict(report for _, report in workers.run_all(Shop(), ["AB", "BC"], [torch.device("cpu")] * 2))
    finally:
        torch.set_num_threads(before)
    assert told == {"AB": 1, "BC": 1, "CA": 2}
    assert even == {"AB": 1, "BC": 1}
