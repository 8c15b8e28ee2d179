"""Groups of workers to which faults happen end, restarted, as the group left alone."""

import collections
import time

import orchestrator
import pytest
import test_disks

NUM_FAULTS = 100 if orchestrator.faults.WHOLE else 3
COUNTS = (2, 3) if orchestrator.faults.WHOLE else (3,)


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_a_group_restarted_after_a_fault_ends_as_the_group_left_alone(tmp_path, count):
    with orchestrator.Group(tmp_path / "alone", count) as group:
        group.start()
        while not all(job.log.exists() for job in group.jobs):  # TensorFlow's import.
            time.sleep(0.05)
        began = time.monotonic()
        assert group.wait() == [0] * count
        seconds, want = time.monotonic() - began, group.describe()
    kinds, disk = orchestrator.KINDS, "8m"
    if not orchestrator.faults.WHOLE:  # Three processes, killed in turns.
        kinds, disk = ["kill"], None
    elif not test_disks.may_mount(tmp_path / "probe"):
        kinds, disk = [kind for kind in kinds if kind != "disk"], None
    counts = collections.Counter()
    number = NUM_FAULTS // len(COUNTS)
    faults = orchestrator.draw_faults(count, number, count, seconds, kinds)
    for i, fault in enumerate(faults):
        folder = tmp_path / f"fault{i}"
        starts, got = orchestrator.run_fault(folder, count, fault, disk)
        assert got == want, (fault, starts)
        counts[fault.kind] += any(starts[0][0])
        print(f"\n{fault.kind} of worker {fault.victim} after {fault.seconds:.1f} s")
        for status, sentence in zip(*starts[0], strict=True):
            print(f"  {status:4} {sentence}")
    print(f"\n{number} faults of {count} workers, that ended a start: {dict(counts)}")
