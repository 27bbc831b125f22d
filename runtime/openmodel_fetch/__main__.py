"""`python -m openmodel_fetch`."""

import sys

from openmodel_fetch.main import main

if __name__ == "__main__":
    sys.exit(main())
