"""Vector kernels: code for many lanes, written in Python and compiled by numba through LLVM.

`processor` says what may be used, `lanes` is the vector layer, `kernel` compiles and caches. Above them are
the field (`field`, `field51`, `field25`), the curve (`points`), the scalars (`scalars`) and the loops over
batches. On a processor without `processor.INSTRUCTIONS` call only the kernels that see public values
(`purposematch.protocol.group.lanes`): see `purposematch.protocol.group.default_group`.
"""
