"""Which packages there are: the found ones, and `migrations/` as `profiler_service.migrations`.

Inside the package the migrations travel with every wheel and are found wherever it is
installed, without putting a top-level package named `migrations` on anyone's path.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["profiler_service*", "trainer_client*"]),
        "profiler_service.migrations",
        "profiler_service.migrations.versions",
    ],
    package_dir={"profiler_service.migrations": "migrations"},
)
