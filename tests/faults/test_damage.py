"""A damaged checkpoint is named and passed over, whichever bit it is."""

import random
import shutil

import faults
import pytest

NUM_FLIPS = 1000 if faults.WHOLE else 60
BLOCK = 4096


@pytest.fixture
def saved(tmp_path):
    """Returns a directory with the steps 1 and 2."""
    for value in (1, 2):
        faults.save(tmp_path / "checkpoints", value)
    return tmp_path / "checkpoints"


def check_that_it_is_passed_over(saved, path, content):
    whole = path.read_bytes()
    path.write_bytes(content)
    step, told = faults.restore(saved)
    path.write_bytes(whole)
    assert step == 1 and len(told) == 1 and path.name in told[0]
    assert "\n" not in told[0]


def test_a_bit_that_flips(saved):
    newest = saved / "step-0000000002"
    rng, files = random.Random(0), sorted(newest.iterdir())
    for _ in range(NUM_FLIPS):
        path = rng.choice(files)
        content = bytearray(path.read_bytes())
        # But for the newline at the manifest's end, which says nothing.
        place = rng.randrange(8 * (len(content) - (path.suffix == ".json")))
        content[place // 8] ^= 1 << place % 8
        check_that_it_is_passed_over(saved, path, bytes(content))
    assert faults.restore(saved) == (2, [])
    print(f"\n{NUM_FLIPS} bits flipped, {NUM_FLIPS} named and passed over")


def test_a_file_cut_short(saved):
    count = 0
    for path in sorted((saved / "step-0000000002").iterdir()):
        content = path.read_bytes()
        for size in range(0, len(content) - 1, BLOCK):
            check_that_it_is_passed_over(saved, path, content[:size])
            count += 1
    assert count >= 7
    print(f"\n{count} files cut short, {count} named and passed over")


def test_no_file_is_missed(saved):
    for path in sorted((saved / "step-0000000002").iterdir()):
        shutil.copy(path, saved.parent / "kept")
        path.unlink()
        step, told = faults.restore(saved)
        assert step == 1 and path.name in told[0]
        shutil.copy(saved.parent / "kept", path)
    assert faults.restore(saved) == (2, [])


@pytest.mark.slow
def test_a_damaged_result_is_made_again(tmp_path):
    job = faults.train(tmp_path, "--epochs=1")
    assert job.wait() == 0, job.read()
    want = faults.describe(tmp_path / "runs" / "a")
    path = tmp_path / "runs" / "a" / "result.json"
    flipped = path.read_text().replace('"test"', '"tesu"')
    for text in (flipped, "[]", '{"test": {"loss": null}}', "[" * 200_000):
        path.write_text(text)
        job = faults.train(tmp_path, "--epochs=1", "--resume")
        assert job.wait() == 0, job.read()
        assert faults.describe(tmp_path / "runs" / "a") == want
