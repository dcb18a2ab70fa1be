"""How hard hypothesis tries: a little while developing, the same every time in CI, and long in a soak."""

import os

from hypothesis import HealthCheck, settings

# A deadline measures the machine more than the code, and two workers share it.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True, database=None, print_blob=True)
settings.register_profile(
    "soak", deadline=None, max_examples=5_000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)

if os.environ.get("QUEUELET_SOAK") == "1":
    settings.load_profile("soak")
elif os.environ.get("CI"):
    settings.load_profile("ci")
else:
    settings.load_profile("dev")
