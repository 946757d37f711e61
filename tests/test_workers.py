"""Who trains where, with how many cores."""

import pytest
import torch

from monju import workers

CPU = torch.device("cpu")


class Shop:
    """Each job reports the cores it was given."""

    def fit(self, job, device):
        yield job, torch.get_num_threads()


@pytest.fixture
def cores():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number, jobs, places", [
    (2, 6, 2), (2, 3, 3), (2, 2, 2), (2, 1, 1), (2, 5, 3),  # two cores: three at once rather than two and then one
    (4, 6, 6), (4, 7, 4), (4, 9, 5), (16, 6, 6), (1, 6, 1), (8, 15, 8)])
def test_as_many_at_once_as_leave_few_cores_idle(cores, number, jobs, places):
    cores(number)
    assert workers.places(CPU, jobs) == [CPU] * places
    assert len(workers.places(CPU, jobs, most=2)) == min(2, places)


def test_jobs_share_the_cores(cores):
    cores(2)
    for jobs, each in ((["AB", "BC", "CA"], 1), (["AB", "BC"], 1), (["AB"], 2)):
        told = dict(report for _, report in workers.run_all(Shop(), jobs, workers.places(CPU, len(jobs))))
        assert told == dict.fromkeys(jobs, each)
