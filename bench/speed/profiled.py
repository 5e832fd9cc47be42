"""The gateway's command line, under a profiler when told: python -m bench.speed.profiled OUT ARGUMENTS.

SIGUSR1 begins and SIGUSR2 ends it and leaves in OUT what was found. Only the main thread is looked at, by its processor
time: the usual clock would count the time in which other programs had the processor.
"""

import cProfile
import signal
import sys
import time

from gateway.__main__ import main


def run() -> None:
    """Run it to its end."""
    out, *arguments = sys.argv[1:]
    sys.argv = ["pkb-gateway", *arguments]
    profiler = cProfile.Profile(time.thread_time)

    def end(*_: object) -> None:
        profiler.disable()
        profiler.dump_stats(out)

    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    signal.signal(signal.SIGUSR2, end)
    main()


if __name__ == "__main__":
    run()
