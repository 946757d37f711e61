"""What a GPU does during some training steps: kernels, launches and the share of the time it is busy."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx",
            "cudaGraphLaunch")


@contextmanager
def gpu_profile(steps: int) -> Iterator[dict[str, float]]:
    """Profile a block of so many steps on the GPU.

    Yields
    ------
    dict
        Filled at the end: {"kernels_per_step", "launches_per_step", "busy_share"}; a replayed CUDA graph is
        one launch of many kernels.
    """
    found: dict[str, float] = {}
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profile:
        torch.cuda.synchronize()
        began = time.perf_counter()
        yield found
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    events = profile.events()
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    found["kernels_per_step"] = len(kernels) / steps
    found["launches_per_step"] = sum(event.name in LAUNCHES for event in events) / steps
    found["busy_share"] = sum(event.time_range.elapsed_us() for event in kernels) / 1e6 / seconds
