"""Makes `.venv` from the pins: `make setup`. Needs Python >= 3.11 and its standard library, no pip and no compiler.

Quick when nothing changed: a stamp holds the digest of everything that the result depends on.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pip_wheel import NoPip, fetch_pip_wheel  # noqa: E402

from meshctl.progress import Progress, Step  # noqa: E402

CACHE = ROOT / ".cache"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "mesh-setup.stamp"
LOG = VENV / "mesh-setup.log"
INPUTS = ("pyproject.toml", "constraints.txt", "deploy/local/bootstrap.py")
OLDEST_PYTHON = (3, 11)
NEEDED_FREE_BYTES = 6 * 1024**3
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REACH_TIMEOUT_S = 3.0
# DeepSpeed's source package imports torch while it is built, so the build tools and torch come first, in this
# environment; DS_BUILD_OPS=0 keeps it from compiling anything.
BUILD_TOOLS = (
    "pip",
    "setuptools",
    "wheel",
    "hatchling",
    "editables",
    "ninja",
    "numpy",
    "packaging",
    "py-cpuinfo",
    "psutil",
)
PIP_ENVIRONMENT = {"DS_BUILD_OPS": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
CAUSES = (
    ("No space left on device", "the disk is full: free about 6 GB, or point TMPDIR to a larger disk"),
    ("NewConnectionError", "the package index cannot be reached: check the network, or pip's index-url and proxy"),
    ("NameResolutionError", "the package index cannot be reached: check the network, or pip's index-url and proxy"),
    ("ConnectTimeoutError", "the package index does not answer: check the network, or pip's index-url and proxy"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the index's certificate is not trusted: set pip's `cert`, or install ca-certificates",
    ),
    ("No matching distribution", "the package index lacks a pinned version for this Python: try Python 3.11 to 3.13"),
)


class SetupFailed(Exception):
    """One sentence that says what to do."""


def main() -> int:
    """Exit code 0 when `.venv` is as the pins say, else 1 with one sentence on stderr."""
    try:
        _set_up()
    except SetupFailed as failure:
        print(f"set-up failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up interrupted; run it again to go on where it stopped", file=sys.stderr)
        return 130
    return 0


def _set_up() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise SetupFailed(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: run `make PYTHON=python3.12`"
        )
    if _is_current():
        return
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once must not install into one environment
        if not _is_current():
            _install(Progress())


def _is_current() -> bool:
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text() == _digest()


def _digest() -> str:
    digest = hashlib.sha256(f"{ROOT} {sys.version_info[:2]}".encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _install(progress: Progress) -> None:
    progress.say("setting up .venv from constraints.txt (once; a few minutes, mostly torch)")
    _make_environment(progress)
    STAMP.unlink(missing_ok=True)
    with progress.step("build tools") as step:
        _pip(step, "install", "-c", "constraints.txt", *BUILD_TOOLS)
    with progress.step("torch") as step:
        _install_torch(step)
    with progress.step("packages") as step:
        _pip(step, "install", "--no-build-isolation", "-c", "constraints.txt", "-e", ".[dev]")
    STAMP.write_text(_digest())
    progress.say("set-up is complete")


def _make_environment(progress: Progress) -> None:
    if PYTHON.exists() and _has_pip():
        return
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_FREE_BYTES:
        raise SetupFailed(f"about 6 GB are needed under {ROOT} and {free / 1024**3:.1f} GB are free: free some space")
    with progress.step("virtual environment"):
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], capture_output=True, text=True
        )
        if made.returncode:
            raise SetupFailed(f"`python3 -m venv` failed ({made.stderr.strip()[-300:]}): apt-get install python3-venv")
        _install_pip()


def _has_pip() -> bool:
    return subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0


def _install_pip() -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        subprocess.run([PYTHON, "-m", "ensurepip"], capture_output=True)
        if _has_pip():
            return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            wheel = fetch_pip_wheel(Path(scratch))
        except NoPip as error:
            raise SetupFailed(f"pip could not be fetched ({error}): check the network, or pip's index-url") from error
        subprocess.run([PYTHON, wheel / "pip", "install", "--no-index", "--no-deps", "-q", wheel], check=True)


def _install_torch(step: Step) -> None:
    """Without an NVIDIA GPU the CPU build: 200 MB instead of 3 GB. Its own index is only a preference."""
    if _wants_cpu_build() and not _index_offers_cpu_build() and _is_reachable(TORCH_CPU_INDEX):
        try:
            _pip(step, "install", "--no-deps", "--index-url", TORCH_CPU_INDEX, TORCH)
        except SetupFailed as failure:
            step.note(f"the CPU index did not help ({failure}), using the default build")
    _pip(step, "install", "-c", "constraints.txt", TORCH)


def _wants_cpu_build() -> bool:
    has_gpu = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    return sys.platform == "linux" and not has_gpu


def _index_offers_cpu_build() -> bool:
    command = [PYTHON, "-m", "pip", "index", "versions", "torch"]
    return f"{TORCH.partition('==')[2]}+cpu" in subprocess.run(command, capture_output=True, text=True).stdout


def _is_reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=REACH_TIMEOUT_S):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _pip(step: Step, *arguments: str) -> None:
    """Runs pip in the environment; its lines go to the log, the current one to the progress line."""
    command = [str(PYTHON), "-m", "pip", *arguments, "--progress-bar", "off"]
    environment = os.environ | PIP_ENVIRONMENT
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as pip:
        lines: list[str] = []
        reader = threading.Thread(target=_follow, args=(pip, step, lines), daemon=True)
        reader.start()
        pip.wait()
        reader.join()
    with LOG.open("a") as log:
        log.writelines(lines)
    if pip.returncode:
        raise SetupFailed(_explanation("".join(lines)))


def _follow(pip: "subprocess.Popen[str]", step: Step, lines: list[str]) -> None:
    assert pip.stdout is not None
    for line in pip.stdout:
        lines.append(line)
        if line.startswith(("Collecting", "Downloading", "Building", "Installing")) or "Downloading" in line:
            step.note(line.strip()[:80])


def _explanation(output: str) -> str:
    for sign, advice in CAUSES:
        if sign in output:
            return f"{advice} (details: {LOG})"
    errors = [line.strip() for line in output.splitlines() if line.startswith("ERROR")]
    return f"pip said: {errors[-1] if errors else output.strip()[-300:]} (details: {LOG})"


if __name__ == "__main__":
    sys.exit(main())
