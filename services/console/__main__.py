"""python -m services.console: one console."""

from meshkit.main import run
from services.console.app import ConsoleService, build
from services.console.settings import ConsoleSettings

if __name__ == "__main__":
    run("console", ConsoleSettings, build, ConsoleService)
