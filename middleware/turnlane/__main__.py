"""`python -m turnlane`."""

import sys

from turnlane.cli import main

if __name__ == "__main__":
    sys.exit(main())
