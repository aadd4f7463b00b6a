"""Starts one router: `python -m services.router --config FILE`."""

from meshkit.main import run
from services.router.app import RouterServiceApp, build
from services.router.settings import RouterSettings

if __name__ == "__main__":
    run("router", RouterSettings, build, RouterServiceApp)
