"""`python -m openmodel_runtime`."""

import sys

from openmodel_runtime.main import main

if __name__ == "__main__":
    sys.exit(main())
