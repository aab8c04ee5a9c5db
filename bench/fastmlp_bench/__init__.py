"""`fastmlp bench`: fastmlp beside other libraries and beside the machine's own limits."""
