"""`python -m openmodel_operator`."""

import sys

from openmodel_operator.main import main

if __name__ == "__main__":
    sys.exit(main())
