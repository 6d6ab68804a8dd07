# SPDX-License-Identifier: Apache-2.0
"""``python -m rewardhead`` becomes the program that comes with the package."""

import os
import signal
import sys


def main() -> None:
    """Replaces this process by the program, with the same arguments."""
    # Python ignores these two, and a new program would inherit that: `... | head` would be an error to it.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rewardhead")
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    main()
