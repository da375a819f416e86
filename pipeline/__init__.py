"""The kernel of dagtel: what every component imports."""

import time
from typing import Final

BEGAN_S: Final = time.monotonic()
"""When this process began, some 15 ms after its start (`time.monotonic`)."""
