"""Starts one instance of the inference service."""

from meshkit.main import run
from services.inference.app import InferenceService, build
from services.inference.settings import InferenceSettings

if __name__ == "__main__":
    run("inference", InferenceSettings, build, InferenceService)
