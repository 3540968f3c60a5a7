"""The mathematics and the rules of purposematch, without clock, wire, database or logging.

Without I/O too, except that `simd` keeps compiled kernels in a cache.
"""
