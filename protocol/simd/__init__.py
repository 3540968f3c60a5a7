"""Vector kernels: code for many lanes, written in Python and compiled by numba through LLVM.

`processor` says what may be used, `lanes` is the vector layer, `kernel` compiles and caches. Above them are
the field (`field`, `field51`, `field25`), the curve (`points`), the scalars (`scalars`) and the loops over
batches. Call no kernel on a processor without `processor.INSTRUCTIONS`: see
`purposematch.protocol.group.default_group`.
"""
