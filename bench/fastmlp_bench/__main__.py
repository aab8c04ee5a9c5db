"""`python -m fastmlp_bench OPTIONS`: a run, with the options of `fastmlp bench` as JSON."""

import json
import sys

from .run import main

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
