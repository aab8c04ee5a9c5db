"""The compiled kernels of fastmlp: functions on arrays that know no classes."""
