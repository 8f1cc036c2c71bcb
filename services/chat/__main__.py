"""`python -m services.chat` serves."""

import sys

import uvloop

from runtime.config import ConfigError
from services.chat.main import main

if sys.argv[1:]:
    sys.stderr.write("usage: python -m services.chat\n")
    sys.exit(2)
try:
    uvloop.run(main())
except ConfigError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)
