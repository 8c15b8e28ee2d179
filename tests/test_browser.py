"""TensorBoard's HParams page in a real browser shows a sweep's runs."""

import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tfreg.runs import config
from tfreg.sweeps import plans, runner

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no chromium: apt-get install chromium chromium-driver",
    ),
]

# The page is shadow DOM: its text is gathered from every root.
GATHER = """
const parts = [];
const walk = (node) => {
  if (node.nodeType === Node.TEXT_NODE) parts.push(node.textContent.trim());
  if (node.tagName === 'STYLE' || node.tagName === 'SCRIPT') return;
  if (node.shadowRoot) walk(node.shadowRoot);
  node.childNodes.forEach(walk);
};
walk(document.body);
return parts.filter(Boolean).join('\\n');
"""


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Returns a sweep of three runs."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)).astype(np.float32), rng.integers(0, 3, 80)
    np.savez(folder / "made.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    base = config.Config(
        dataset="npz",
        data_dir=str(folder / "made.npz"),
        strategy="one",
        hidden=(4,),
        batch_size=36,
        epochs=1,
    )
    made = plans.make_paths(base, ["l2"], [("kernel",)], (0.00125, 0.25))
    runner.train(plans.Plan(made, 1), folder / "sweep-a")
    return folder / "sweep-a"


@pytest.fixture
def address(logdir):
    """Starts TensorBoard on the sweep and returns its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1800,900")
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options, service)
    try:
        yield driver
    finally:
        driver.quit()


def test_the_hparams_page_shows_rows_hyperparameters_and_metrics(
    address, browser, tmp_path
):
    from selenium.common import exceptions

    wanted = [
        "none-seed0",
        "l2_0.00125_on_kernel-seed0",
        "l2_0.25_on_kernel-seed0",
        "0.00125",
        "validation",
        "accuracy",
    ]
    text, deadline = "", time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            # The server reads the files as it goes, and the page asks once.
            browser.get(f"{address}/#hparams")
            browser.refresh()
            time.sleep(4)
            text = browser.execute_script(GATHER)
        except exceptions.WebDriverException:
            time.sleep(1)  # It isn't up yet.
        if all(word in text for word in wanted):
            break
    browser.save_screenshot(str(tmp_path / "hparams.png"))
    missing = [word for word in wanted if word not in text]
    assert not missing, text[-2000:]
