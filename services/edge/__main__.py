"""`python -m services.edge` serves."""

import sys

import uvloop

from runtime.config import ConfigError
from services.edge.main import main

try:
    uvloop.run(main())
except ConfigError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)
