"""Every kind of run, interrupted and resumed, ends with the bits of one left alone."""

import itertools

import faults
import forks
import pytest

OPTIMIZERS = ("sgd", "momentum", "adam")
PENALTIES = {
    "l1": {"reg": "l1", "scale": 1e-2},
    "l2": {"reg": "l2", "scale": 1e-2},
    "activity": {"reg": "l2", "scale": 1e-2, "reg_on": ("activity",)},
    "dropout": {"dropout": 0.4},
}
SCHEDULES = ("constant", "cosine")
PLACES = {"middle": (2, 6), "end": (6,)}  # Calls of the loop; an epoch has five.
DEVICES = (1, 2)
CASES = list(itertools.product(OPTIMIZERS, PENALTIES, SCHEDULES, PLACES, DEVICES))


def compare(points, folder, parts, fields):
    """Returns 0 where the run in parts equals the run left alone, else 1."""
    import test_resume

    return int(not test_resume.is_equal(points, folder, parts, **fields))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES if faults.WHOLE else CASES[81:82])
def test_a_run_in_parts_is_the_run_left_alone(tmp_path, case):
    optimizer, penalty, schedule, place, devices = case
    fields = {"optimizer": optimizer, "schedule": schedule, **PENALTIES[penalty]}
    if devices > 1:
        fields |= {"strategy": "mirrored", "logical_devices": devices}
    faults.write_points(tmp_path / "points.npz")
    arguments = tmp_path / "points.npz", tmp_path, PLACES[place], fields
    job = forks.Job(tmp_path, compare, *arguments)
    assert job.wait() == 0, job.read()
