"""Starts one instance of the cache."""

from meshkit.main import run
from services.cache.app import CacheService, build
from services.cache.settings import CacheSettings

if __name__ == "__main__":
    run("cache", CacheSettings, build, CacheService)
