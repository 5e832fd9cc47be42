"""The gateway's command line under a profiler that counts processor time: python -m bench.speed.profiled OUT ARGUMENTS.

Only the main thread is looked at. The usual clock would count the time in which other programs had the processor.
"""

import cProfile
import sys
import time

from gateway.__main__ import main


def run() -> None:
    """Run it to its end, and leave what was found in a file."""
    out, *arguments = sys.argv[1:]
    sys.argv = ["pkb-gateway", *arguments]
    profiler = cProfile.Profile(time.thread_time)
    try:
        profiler.runcall(main)
    finally:
        profiler.dump_stats(out)


if __name__ == "__main__":
    run()
