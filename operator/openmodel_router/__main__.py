"""`python -m openmodel_router`."""

import sys

from openmodel_router.main import main

if __name__ == "__main__":
    sys.exit(main())
