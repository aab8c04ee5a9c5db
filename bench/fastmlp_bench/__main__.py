"""`python -m fastmlp_bench OPTIONS`: a run, with the options of `fastmlp bench` as JSON."""

import json
import signal
import sys

from .run import main

if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # it ends with its reader, as `fastmlp bench` itself does
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(json.loads(sys.argv[1])))
