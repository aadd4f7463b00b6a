"""Starts one instance of the compressor."""

from meshkit.main import run
from services.compressor.app import CompressorService, build
from services.compressor.settings import CompressorSettings

if __name__ == "__main__":
    run("compressor", CompressorSettings, build, CompressorService)
