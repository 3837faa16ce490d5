"""Django set up for tests that need its settings and no database."""

import os
import tempfile

os.environ["DJANGO_SETTINGS_MODULE"] = "salon.settings"
_data = tempfile.TemporaryDirectory(prefix="salon-unit-")
os.environ["SALON_DATA_DIR"] = _data.name
# What Hypothesis keeps between runs stays out of the tree.
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{_data.name}/hypothesis"

import django  # noqa: E402 (its settings are read when it is imported)

django.setup()
